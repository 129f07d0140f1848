import logging
import os

import numpy as np
import pandas as pd
import pytest
from layouts import Product, land_cell, write_tif

from geoladder.data.archives.grid import centre_of
from geoladder.data.archives.tile import UNKNOWN_CLOUD, UnreadableTileError, halve
from geoladder.data.archives.tile_tree import ABSENT, TileTree
from geoladder.data.batches.chips import cut
from geoladder.data.labels.targets import great_circle_km
from geoladder.errors import GeoladderError

NAME = "S2A_MSIL2A_20210630T100559_N0301_R022_T33UUU_20210630T132813"
OTHER = "S2B_MSIL2A_20190101T100411_N0500_R022_T33UUU_20230101T000000"


@pytest.mark.parametrize("combined", [False, True])
def test_both_forms_give_the_tile_that_was_written(tmp_path, combined):
    product = Product(land_cell(), NAME, seed=3)
    product.mask[:8] = 2
    product.dn10[0, 5, 5], product.dn20[3, 10, 12] = 0, 0
    product.write(tmp_path / "L2A", combined=combined)
    reader = TileTree(tmp_path)
    rows = reader.metadata()
    assert list(rows["part"]) == [f"L2A/{product.cell.partition('_')[0]}/{product.cell}/{NAME}"]
    tile = reader.read(rows["part"][0], 0)
    np.testing.assert_array_equal(tile.dn10, product.dn10)
    np.testing.assert_array_equal(tile.dn20, product.dn20)
    np.testing.assert_array_equal(tile.cloud_mask, product.mask)
    assert (tile.grid_cell, tile.product_id, tile.epsg) == (product.cell, NAME, product.epsg)
    assert (tile.transform.c, tile.transform.f) == (product.left_m, product.top_m)
    assert len(cut(tile, 16, 0.6).dn10) == 2  # four chips, of which two have a pixel of nodata


def test_metadata_from_the_pixels(tmp_path):
    product = Product(land_cell(), NAME)
    product.mask[:8], product.mask[8:16] = 1, 3  # a quarter of cloud, and shadow that metadata do not count
    product.dn10[0, :2] = 0
    product.write(tmp_path)
    row = TileTree(tmp_path).metadata().iloc[0]
    assert (row["grid_cell"], row["product_id"], row["epsg"], row["unusable"]) == (
        product.cell,
        NAME,
        product.epsg,
        "",
    )
    assert str(row["timestamp"]) == "2021-06-30 10:05:59"
    assert row["cloud_percent"] == 25 and row["nodata_share"] == pytest.approx(2 / 32)
    assert great_circle_km(row["lat_deg"], row["lon_deg"], *product.centre) < 0.01
    assert great_circle_km(row["lat_deg"], row["lon_deg"], *centre_of(product.cell)) < 1


def metadata(*rows):
    columns = [
        "grid_cell",
        "product_id",
        "timestamp",
        "cloud_cover",
        "nodata",
        "centre_lat",
        "centre_lon",
        "crs",
    ]
    return pd.DataFrame(rows, columns=columns)


def test_metadata_beside_the_tree_is_believed_and_what_it_lacks_is_described(tmp_path, caplog):
    cell = land_cell()
    Product(cell, NAME).write(tmp_path)
    Product(cell, OTHER).write(tmp_path)
    listed = [
        (cell, NAME, "2021-06-30", 12.5, 0.25, 52.0, 13.0, "EPSG:EPSG:32633"),
        ("1U_1R", NAME, "2021-06-30", 0.0, 0.0, 0.1, 0.1, "EPSG:32631"),
    ]
    metadata(*listed).to_parquet(tmp_path / "metadata.parquet")
    with caplog.at_level(logging.WARNING):
        rows = TileTree(tmp_path).metadata()
    first = rows.iloc[0]
    assert (first["cloud_percent"], first["nodata_share"], first["epsg"], first["row"]) == (
        12.5,
        0.25,
        32633,
        0,
    )
    assert list(rows["unusable"]) == ["", ABSENT, ""]
    assert rows["product_id"][2] == OTHER and rows["cloud_percent"][2] == 0
    assert f"does not list 1 of the products, the first {rows['part'][2]}" in caplog.text


def test_folders_not_named_by_a_cell_are_placed_by_their_pixels(tmp_path):
    product = Product(land_cell(), NAME)
    product.write_into(tmp_path / "some" / "where" / NAME)
    reader = TileTree(tmp_path)
    assert reader.metadata()["grid_cell"][0] == product.cell
    assert reader.read(f"some/where/{NAME}", 0).grid_cell == product.cell


def broken(folder, what):
    if what == "missing":
        (folder / "B11.tif").unlink()
    elif what == "mask":
        (folder / "cloud_mask.tif").unlink()
    elif what == "half":
        path = folder / "B11.tif"
        path.write_bytes(path.read_bytes()[:150])
    elif what == "dtype":
        write_tif(folder / "B11.tif", np.ones((1, 16, 16), np.float32), 32633, 0, 0, 20)
    elif what == "size":
        (folder / "B11.tif").write_bytes((folder / "B02.tif").read_bytes())


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "B11.tif does not exist"),
        ("mask", "cloud_mask.tif does not exist"),
        ("half", "B11.tif is no readable GeoTIFF .* unpack or fetch it again"),
        ("dtype", "band B11 is float32; uint16 DN"),
        ("size", "band B11 has 32 x 32 pixels beside 32 x 32 of B02; half as many"),
    ],
)
def test_bad_files_are_named(tmp_path, what, message):
    folder = Product(land_cell(), NAME).write(tmp_path)
    broken(folder, what)
    reader = TileTree(tmp_path)
    with pytest.raises(UnreadableTileError, match=message):
        reader.read(folder.relative_to(tmp_path).as_posix(), 0)


def test_a_product_without_pixels_is_unreadable_and_the_others_stay(tmp_path):
    cell = land_cell()
    good, bad = Product(cell, NAME).write(tmp_path), Product(cell, OTHER).write(tmp_path)
    (bad / "B02.tif").write_bytes(b"?")
    reader = TileTree(tmp_path)
    rows = reader.metadata().set_index("product_id")
    assert rows.loc[OTHER, "epsg"] == 0 and rows.loc[NAME, "epsg"] == 32633
    with pytest.raises(UnreadableTileError, match=r"B02.tif is no readable GeoTIFF"):
        reader.identities(bad.relative_to(tmp_path).as_posix())
    assert list(reader.identities(good.relative_to(tmp_path).as_posix())["grid_cell"]) == [cell]


def test_no_tree_and_no_such_row(tmp_path):
    with pytest.raises(GeoladderError, match=r"no B02.tif or combined.tif below"):
        TileTree(tmp_path)
    part = Product(land_cell(), NAME).write(tmp_path).relative_to(tmp_path).as_posix()
    with pytest.raises(UnreadableTileError, match="holds one product, but row 1"):
        TileTree(tmp_path).read(part, 1)
    with pytest.raises(UnreadableTileError, match="nowhere does not exist"):
        TileTree(tmp_path).identities("nowhere")


def test_a_combined_file_with_another_number_of_bands(tmp_path):
    write_tif(tmp_path / "1U_1R" / NAME / "combined.tif", np.ones((10, 8, 8), np.uint16), 32631, 0, 0)
    with pytest.raises(
        UnreadableTileError, match=r"combined.tif has 10 bands in its GeoTIFF; 11 is expected"
    ):
        TileTree(tmp_path).read(f"1U_1R/{NAME}", 0)


def test_a_folder_that_may_not_be_entered_is_named(tmp_path, monkeypatch):
    folder = Product(land_cell(), NAME).write(tmp_path)
    real = os.scandir

    def refuse(path):
        if str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(GeoladderError, match=rf"{NAME} cannot be listed .*Permission denied.*chmod"):
        TileTree(tmp_path)


def test_halving_undoes_repetition_and_rounds_means():
    coarse = np.random.default_rng(0).integers(0, 65_536, (2, 5, 4)).astype(np.uint16)
    np.testing.assert_array_equal(halve(coarse.repeat(2, axis=1).repeat(2, axis=2)), coarse)
    assert halve(np.array([[[1, 2], [2, 2]]], np.uint16)).tolist() == [[[2]]]
    assert halve(np.array([[[9, 0], [9, 9]]], np.uint16)).tolist() == [[[0]]]
    assert halve(np.full((1, 2, 2), 65_535, np.uint16)).item() == 65_535
    assert UNKNOWN_CLOUD == 4
