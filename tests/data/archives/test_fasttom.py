"""FastTOM's quadrant rule, against its wording, and the readers of derived and released quadrants."""

import numpy as np
import pytest
from affine import Affine
from layouts import Product, land_cell, write_tif

from geoladder.data.archives.fasttom import (
    NO_QUADRANT,
    TOO_ICY,
    FastTom,
    best_quadrant,
    cut_quadrant,
    quadrant_px,
)
from geoladder.data.archives.tile import UNKNOWN_CLOUD, Tile, UnreadableTileError, UnwantedTileError
from geoladder.data.archives.tile_tree import LEVEL_1C, FastTomTree, TileTree
from geoladder.errors import GeoladderError
from geoladder.study.specs import Layout

DRY = np.zeros((8, 8), bool)


def test_clearest_quadrant() -> None:
    mask = np.full((8, 8), 1, np.uint8)
    mask[0:4, 4:8] = 0
    mask[4:8, 0:4] = 2
    assert best_quadrant(mask, 4, DRY) == (0, 4)


def test_ties_go_to_the_last() -> None:
    assert best_quadrant(np.zeros((8, 8), np.uint8), 4, DRY) == (4, 4)


def test_a_third_must_be_clear() -> None:
    mask = np.full((8, 8), 3, np.uint8)
    mask[0, 0:4] = 0  # 4 of 16 pixels: 25 %
    assert best_quadrant(mask, 4, DRY) is None
    mask[1, 0:2] = 0  # 6 of 16: 37.5 %
    assert best_quadrant(mask, 4, DRY) == (0, 0)


def test_half_water_is_allowed_more_is_not() -> None:
    mask, water = np.zeros((8, 8), np.uint8), np.zeros((8, 8), bool)
    water[4:8, 4:6] = True
    assert best_quadrant(mask, 4, water) == (4, 4)
    water[4, 6] = True
    assert best_quadrant(mask, 4, water) is None  # the rule does not go on to the next quadrant


def test_sizes_must_fit() -> None:
    with pytest.raises(GeoladderError, match="do not fit"):
        best_quadrant(np.zeros((8, 8), np.uint8), 5, DRY)


QUADRANT = 16  # of tiles of 32
NAME = "S2A_MSIL2A_20210630T100559_N0301_R022_T33UUU_20210630T132813"


@pytest.fixture
def source(tmp_path):
    """A tree with one product, written after the test has changed it, and its reader derived as FastTOM."""

    def write(product, **limits):
        product.write(tmp_path)
        tree = TileTree(tmp_path)
        part = tree.metadata()["part"][0]
        return FastTom(tree, Layout(**limits)), part

    return write


def test_only_the_clearest_quadrant_is_read_with_its_own_place(source) -> None:
    product = Product(land_cell(), NAME)
    product.mask[:] = 1
    product.mask[16:, :16] = 0
    reader, part = source(product)
    tile = reader.read(part, 0)
    np.testing.assert_array_equal(tile.dn10, product.dn10[:, 16:, :16])
    np.testing.assert_array_equal(tile.dn20, product.dn20[:, 8:, :8])
    assert not tile.cloud_mask.any()
    assert (tile.transform.c, tile.transform.f) == (product.left_m, product.top_m - 160)
    assert (tile.grid_cell, tile.product_id) == (product.cell, NAME)
    assert list(reader.identities(part)["product_id"]) == [NAME] and len(reader.metadata()) == 1


def test_quadrants_of_a_real_tile_have_516_pixels() -> None:
    def tile(side):
        bands = np.ones((4, side, side), np.uint16), np.ones((6, side // 2, side // 2), np.uint16)
        return Tile(
            "1U_1R", NAME, *bands, np.zeros((side, side), np.uint8), Affine(10, 0, 0, 0, -10, 0), 32631
        )

    assert quadrant_px(tile(1068)) == 516 and quadrant_px(tile(192)) == 96 and quadrant_px(tile(38)) == 18
    quadrant = cut_quadrant(tile(1068), (516, 0), 516)
    assert quadrant.dn10.shape == (4, 516, 516) and quadrant.dn20.shape == (6, 258, 258)
    assert (quadrant.transform.c, quadrant.transform.f) == (0, -5160)


def test_cloudy_wet_and_icy_tiles_are_not_wanted_and_say_why(source, tmp_path) -> None:
    cloudy = Product(land_cell(), NAME)
    cloudy.mask[:] = 3
    reader, part = source(cloudy)
    with pytest.raises(UnwantedTileError, match="no clear and dry quadrant") as refused:
        reader.read(part, 0)
    assert refused.value.reason == NO_QUADRANT


@pytest.mark.parametrize(("place", "reason"), [((0.05, -30.05), NO_QUADRANT), ((72.0, -40.0), TOO_ICY)])
def test_sea_and_ice_of_the_packaged_map(source, place, reason) -> None:
    reader, part = source(Product(land_cell(*place), NAME), max_ice_share=0.5)
    with pytest.raises(UnwantedTileError) as refused:
        reader.read(part, 0)
    assert refused.value.reason == reason


def test_ice_has_no_limit_by_default(source) -> None:
    product = Product(land_cell(72.0, -40.0), NAME)
    reader, part = source(product)
    assert reader.read(part, 0).dn10.shape == (4, 16, 16)


def test_water_of_a_raster_and_none_is_water(source, tmp_path) -> None:
    product = Product(land_cell(), NAME)
    lat, lon = product.centre
    raster = tmp_path / "water.tif"
    # The raster begins in the middle of the tile: its right half is dry, its left half is not told, and so water.
    write_tif(raster, np.zeros((1, 40, 40), np.uint8), 4326, lon, lat + 0.02, 0.001)
    product.mask[:, :16] = 1
    reader, part = source(product, water_raster=raster)
    assert reader.read(part, 0).transform.c == product.left_m + 160
    product.mask[:, :16], product.mask[:, 16:] = 0, 1
    product.write(tmp_path)
    with pytest.raises(UnwantedTileError):
        reader.read(part, 0)


def test_the_released_tree(tmp_path) -> None:
    product, older = Product(land_cell(), NAME), Product(land_cell(), NAME.replace("MSIL2A", "MSIL1C"))
    product.write_fasttom(tmp_path)
    older.write_fasttom(tmp_path, level="S2L1C")
    reader = FastTomTree(tmp_path)
    rows = reader.metadata().set_index("product_id")
    assert dict(rows["unusable"]) == {NAME: "", older.name: LEVEL_1C}
    row = rows.loc[NAME]
    assert row["grid_cell"] == product.cell and row["epsg"] == product.epsg and row["cloud_percent"] == 0
    assert (row["lat_deg"], row["lon_deg"]) == pytest.approx(product.centre)
    tile = reader.read(row["part"], 0)
    np.testing.assert_array_equal(tile.dn10, product.dn10)
    np.testing.assert_array_equal(tile.dn20, product.dn20)
    assert (tile.cloud_mask == UNKNOWN_CLOUD).all()  # the released mask has another size
    assert tile.grid_cell == reader.identities(row["part"])["grid_cell"][0] == product.cell


def test_a_mask_that_fits_is_used(tmp_path) -> None:
    product = Product(land_cell(), NAME)
    folder = product.write_fasttom(tmp_path)
    product.mask[:4] = 2
    product.write_into(folder)
    np.testing.assert_array_equal(
        FastTomTree(tmp_path).read(f"{folder.parent.name}/{NAME}", 0).cloud_mask, product.mask
    )


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"latitude": "north", "longitude": 3}', '{"latitude": 99, "longitude": 3}']
)
def test_a_place_that_is_not_told_is_unreadable(tmp_path, content) -> None:
    folder = Product(land_cell(), NAME).write_fasttom(tmp_path)
    (folder / "metadata.json").write_text(content)
    reader = FastTomTree(tmp_path)
    row = reader.metadata().iloc[0]
    assert row["epsg"] == 0
    with pytest.raises(UnreadableTileError, match=r"metadata.json does not tell the place"):
        reader.identities(row["part"])


def test_nothing_released_here(tmp_path) -> None:
    with pytest.raises(GeoladderError, match=r"no B02.tif below"):
        FastTomTree(tmp_path)
    with pytest.raises(UnreadableTileError, match="row 1 was asked for"):
        Product(land_cell(), NAME).write_fasttom(tmp_path)
        FastTomTree(tmp_path).read("x", 1)
