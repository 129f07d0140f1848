import numpy as np
import pandas as pd
import pytest
from rasterio.warp import transform

from geoladder.data import chips as chips_module
from geoladder.data.bands import to_reflectance
from geoladder.data.chips import MANIFEST_COLUMNS, ChipStore, write_chips
from geoladder.data.index import build_index
from geoladder.data.majortom import MajorTom
from geoladder.data.targets import great_circle_km
from geoladder.errors import GeoladderError
from geoladder.specs import ChipsSpec, IndexSpec

PART = "part_00001.parquet"


@pytest.fixture
def cut(tmp_path, no_bench):
    """Index an archive, cut it into chips, and open them."""

    def run(folder, chip_px=16, corrupt=0.1, cloud=0.3):
        limits = {"max_cloud_percent": 100.0, "max_nodata_share": 1.0, "max_corrupt_share": corrupt}
        index_spec = IndexSpec(
            archive="a",
            bench="b",
            one_product_per_cell=True,
            harmonise="baseline",
            validation_share=0.2,
            bench_buffer_km=0.0,
            **limits,
        )
        index = tmp_path / "index.parquet"
        build_index(index_spec, folder, no_bench, index, tmp_path / "ledger.csv")
        spec = ChipsSpec(index="i", chip_px=chip_px, chip_max_cloud_share=cloud, max_corrupt_share=corrupt)
        write_chips(spec, folder, index, tmp_path / "chips")
        return ChipStore(tmp_path / "chips")

    return run


def read_dropped(store):
    return pd.read_csv(store.folder / "dropped.csv").rename(columns={"count": "n"})


def test_chips_are_bit_exact_and_cover_the_tile(archive, cut):
    for number in range(3):
        archive.add(f"{number}U_1R", tile_px=40)  # two chips of 16 px a side, 8 px left over
    archive.write()
    store = cut(archive.folder)
    assert list(store.manifest.columns) == MANIFEST_COLUMNS
    assert list(store.manifest["chip"]) == list(range(12))
    batch = store.read(np.arange(12))
    assert batch.dn10.shape == (12, 4, 16, 16) and batch.dn20.shape == (12, 6, 8, 8)
    reader = MajorTom(archive.folder)
    for number in range(3):
        tile = reader.read(PART, number)
        for place in range(4):
            down, right = divmod(place, 2)
            rows, columns = slice(16 * down, 16 * down + 16), slice(16 * right, 16 * right + 16)
            np.testing.assert_array_equal(batch.dn10[4 * number + place], tile.dn10[:, rows, columns])
            rows, columns = slice(8 * down, 8 * down + 8), slice(8 * right, 8 * right + 8)
            np.testing.assert_array_equal(batch.dn20[4 * number + place], tile.dn20[:, rows, columns])


def test_reading_any_order_with_repeats_over_shards(archive, cut, monkeypatch):
    monkeypatch.setattr(chips_module, "SHARD_BYTES", 5 * 2 * (4 * 16**2 + 6 * 8**2))
    for number in range(3):
        archive.add(f"{number}U_1R", tile_px=48)
    archive.write()
    store = cut(archive.folder)
    assert list(store.manifest["shard"].value_counts().sort_index()) == [5, 5, 5, 5, 5, 2]
    everything = store.read(np.arange(27))
    wanted = np.random.default_rng(0).integers(0, 27, 50)
    some = store.read(wanted)
    np.testing.assert_array_equal(some.dn10, everything.dn10[wanted])
    np.testing.assert_array_equal(some.dn20, everything.dn20[wanted])
    tile = MajorTom(archive.folder).read(PART, 2)
    np.testing.assert_array_equal(everything.dn10[26], tile.dn10[:, 32:, 32:])


def test_centres_are_where_the_projection_says(archive, cut):
    archive.add("1U_1R", tile_px=32).write()
    manifest = cut(archive.folder).manifest
    east = [500_080.0, 500_240.0, 500_080.0, 500_240.0]
    north = [4_999_920.0, 4_999_920.0, 4_999_760.0, 4_999_760.0]
    lon, lat = transform("EPSG:32632", "EPSG:4326", east, north)
    np.testing.assert_allclose(manifest["lat_deg"], lat)
    np.testing.assert_allclose(manifest["lon_deg"], lon)
    assert manifest["day_of_year"].unique() == [181] and manifest["koppen"].between(0, 30).all()
    assert manifest["offset_dn"].unique() == [1000]


def test_nodata_and_cloud_drop_chips_and_are_counted(archive, make, cut):
    one_bad = np.full((32, 32), 2000, np.uint16)
    one_bad[0, 0] = 0  # first chip, one pixel of one 20 m band
    clouds = np.zeros((64, 64), np.uint8)
    clouds[0:16, 16:32] = 2  # second chip, thin cloud all over
    clouds[0:16, 32:36] = 3  # third chip, a quarter in shadow: allowed
    image = {"B11": make.geotiff(one_bad, 20.0), "cloud_mask": make.geotiff(clouds)}
    archive.add("1U_1R", image=image).write()
    store = cut(archive.folder)
    assert len(store.manifest) == 14
    assert store.manifest["cloud_share"][0] == pytest.approx(0.25)
    table = read_dropped(store)
    assert list(zip(table["unit"], table["reason"], table["n"], strict=True)) == [
        ("chip", "cloud", 1),
        ("chip", "nodata", 1),
    ]
    assert "part_00001.parquet row 0 (1U_1R)" in table["first"][0]


def test_corrupt_row_is_dropped_and_counted(archive, cut):
    for number in range(4):
        archive.add(f"{number}U_1R", tile_px=32, image={"B07": b"?"} if number == 2 else None)
    archive.write()
    store = cut(archive.folder, corrupt=0.25)
    assert set(store.manifest["grid_cell"]) == {"0U_1R", "1U_1R", "3U_1R"}
    table = read_dropped(store)
    assert list(table["reason"]) == ["unreadable"] and "row 2 (2U_1R)" in table["first"][0]


def test_too_many_corrupt_rows_stop_the_run_without_a_manifest(archive, cut, tmp_path):
    for number in range(4):
        archive.add(f"{number}U_1R", tile_px=32, image={"B07": b"?"} if number > 1 else None)
    archive.write()
    with pytest.raises(GeoladderError, match=r"1 of the 4 tiles .* the first: .*row 2 \(2U_1R\) band B07"):
        cut(archive.folder)
    assert not (tmp_path / "chips" / "manifest.parquet").exists()


def test_tile_in_another_projection_than_listed_is_dropped(archive, cut):
    archive.add("1U_1R").add("2U_1R", meta={"crs": "EPSG:32733"}).write()
    store = cut(archive.folder)
    assert set(store.manifest["grid_cell"]) == {"1U_1R"}
    assert list(read_dropped(store)["reason"]) == ["metadata mismatch"]


def test_earlier_attempt_is_removed(archive, cut, tmp_path):
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "10m-00007.npy").write_bytes(b"old")
    archive.add("1U_1R").write()
    store = cut(archive.folder)
    assert sorted(path.name for path in store.folder.glob("*.npy")) == ["10m-00000.npy", "20m-00000.npy"]


def test_no_chip_left(archive, cut):
    archive.add("1U_1R", tile_px=32).write()
    with pytest.raises(GeoladderError, match="no chip of 64 px left"):
        cut(archive.folder, chip_px=64)


def test_store_with_missing_or_damaged_files(archive, make, cut, tmp_path):
    archive.add("1U_1R").write()
    folder = cut(archive.folder).folder
    make.truncate(folder / "20m-00000.npy")
    with pytest.raises(GeoladderError, match=r"20m-00000.npy cannot be read"):
        ChipStore(folder).read(np.array([0]))
    with pytest.raises(GeoladderError, match=r"manifest.parquet is missing"):
        ChipStore(tmp_path)


def test_real_samples(samples, cut):
    """Index to reflectance on real pixels: harmonised, both cells have dark pixels near zero."""
    store = cut(samples, chip_px=32)
    manifest = store.manifest
    assert manifest["grid_cell"].nunique() == 2 and len(manifest) >= 2 * 25
    reflectance = to_reflectance(*store.read(manifest["chip"].to_numpy()))
    assert 0 <= float(reflectance.min()) and 0.01 < float(reflectance.mean()) < 0.5
    for _, chips in manifest.groupby("grid_cell").groups.items():
        assert float(reflectance[list(chips), :4].quantile(0.01)) < 0.04
    for cell, lat, lon in (("433D_629L", -38.85, -72.52), ("637U_59R", 57.26, 9.87)):
        centres = manifest[manifest["grid_cell"] == cell]
        assert great_circle_km(centres["lat_deg"], centres["lon_deg"], lat, lon).max() < 8
