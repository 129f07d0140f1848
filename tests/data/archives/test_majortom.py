import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio

from geoladder.data.archives.majortom import OPEN_PARTS, MajorTom
from geoladder.data.archives.tile import UnreadableTileError
from geoladder.errors import GeoladderError

PART = "part_00001.parquet"


def test_reads_what_was_written(archive, make):
    rng = np.random.default_rng(5)
    pixels10 = rng.integers(1, 60_000, (64, 64), dtype=np.uint16)
    pixels20 = rng.integers(1, 60_000, (32, 32), dtype=np.uint16)
    clouds = rng.integers(0, 4, (64, 64)).astype(np.uint8)
    image = {
        "B08": make.geotiff(pixels10),
        "B12": make.geotiff(pixels20, 20.0),
        "cloud_mask": make.geotiff(clouds),
    }
    archive.add("1U_1R").add("2U_2R", image=image).write()
    tile = MajorTom(archive.folder).read(PART, 1)
    assert tile.grid_cell == "2U_2R"
    assert tile.dn10.shape == (4, 64, 64) and tile.dn20.shape == (6, 32, 32)
    np.testing.assert_array_equal(tile.dn10[3], pixels10)
    np.testing.assert_array_equal(tile.dn20[5], pixels20)
    np.testing.assert_array_equal(tile.cloud_mask, clouds)
    assert tile.epsg == 32632 and (tile.transform.c, tile.transform.f) == (500_000, 5_000_000)


def test_every_band_is_in_its_own_place(archive, make):
    fine, coarse = ("B02", "B03", "B04", "B08"), ("B05", "B06", "B07", "B8A", "B11", "B12")
    image = {name: make.geotiff(np.full((64, 64), 100 + k, np.uint16)) for k, name in enumerate(fine)}
    image |= {
        name: make.geotiff(np.full((32, 32), 200 + k, np.uint16), 20.0) for k, name in enumerate(coarse)
    }
    archive.add("1U_1R", image=image).write()
    tile = MajorTom(archive.folder).read(PART, 0)
    assert tile.dn10[:, 0, 0].tolist() == [100, 101, 102, 103]
    assert tile.dn20[:, 0, 0].tolist() == [200, 201, 202, 203, 204, 205]


def test_bands_of_real_samples_are_those_of_their_columns(samples):
    (part,) = samples.rglob(PART)
    tile = MajorTom(samples).read(PART, 0)
    for place, name in enumerate(("B05", "B06", "B07", "B8A", "B11", "B12")):
        data = pq.read_table(part, columns=[name]).column(0)[0].as_py()
        with rasterio.MemoryFile(data) as file, file.open() as band:
            np.testing.assert_array_equal(tile.dn20[place], band.read(1))


def test_metadata_in_one_form(archive):
    archive.add("1U_1R", meta={"crs": "EPSG:EPSG:32701", "timestamp": "20210630T100001"})
    archive.add("2U_1R", meta={"crs": "none", "timestamp": "?"}).write()
    rows = MajorTom(archive.folder).metadata()
    assert list(rows["epsg"]) == [32701, 0]
    assert str(rows["timestamp"][0]) == "2021-06-30 10:00:01" and rows["timestamp"].isna()[1]
    assert list(rows["part"]) == [PART, PART] and list(rows["row"]) == [0, 1]


def test_card_s_name_of_the_time_column_is_accepted(archive):
    archive.add("1U_1R").write()
    path = archive.folder / "metadata.parquet"
    table = pq.read_table(path)
    names = ["product_datetime" if name == "timestamp" else name for name in table.column_names]
    pq.write_table(table.rename_columns(names), path)
    assert MajorTom(archive.folder).metadata()["timestamp"][0].year == 2021


def test_real_samples(samples):
    reader = MajorTom(samples)
    rows = reader.metadata()
    assert list(rows["grid_cell"]) == ["433D_629L", "637U_59R"]
    for row, epsg in ((0, 32718), (1, 32632)):
        tile = reader.read(PART, row)
        assert tile.dn10.shape == (4, 1068, 1068) and tile.dn20.shape == (6, 534, 534)
        assert tile.grid_cell == rows["grid_cell"][row] and tile.epsg == epsg
        assert (tile.dn10 > 0).any(axis=0).sum() == pytest.approx(224**2, rel=0.01)
        assert set(np.unique(tile.cloud_mask)) <= {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"B04": b"no tiff at all"}, "band B04 is no readable GeoTIFF"),
        ({"B04": None}, "band B04 is empty"),
        ({"B04": lambda make: make.geotiff(np.ones((64, 64), np.float32))}, "band B04 is float32; uint16"),
        ({"B12": lambda make: make.geotiff(np.ones((32, 32), np.int16))}, "band B12 is int16; uint16"),
        ({"B05": lambda make: make.geotiff(np.ones((64, 64), np.uint16))}, "B05 has 64 x 64 .* half as many"),
        ({"cloud_mask": lambda make: make.geotiff(np.ones((32, 32), np.uint8))}, "cloud_mask has 32 x 32"),
    ],
)
def test_bad_band_is_named(archive, make, image, message):
    image = {name: value(make) if callable(value) else value for name, value in image.items()}
    archive.add("1U_1R", image=image).write()
    with pytest.raises(UnreadableTileError, match=message) as caught:
        MajorTom(archive.folder).read(PART, 0)
    assert f"{PART} row 0 (1U_1R)" in str(caught.value)


def test_half_a_geotiff_is_named(archive):
    archive.add("1U_1R")
    row = archive.parts[PART][0]
    row["B11"] = row["B11"][:200]
    archive.write()
    with pytest.raises(UnreadableTileError, match="band B11 is no readable GeoTIFF"):
        MajorTom(archive.folder).read(PART, 0)


def test_damaged_and_missing_files(archive, make, tmp_path):
    archive.add("1U_1R").write()
    part = archive.folder / "images" / PART
    with pytest.raises(UnreadableTileError, match=r"rows 0..0, but row 7"):
        MajorTom(archive.folder).read(PART, 7)
    with pytest.raises(UnreadableTileError, match=r"part_00002.parquet, which does not exist"):
        MajorTom(archive.folder).read("part_00002.parquet", 0)
    table = pq.read_table(part)
    pq.write_table(table.drop_columns(["B03", "B12"]), part, row_group_size=1)
    with pytest.raises(UnreadableTileError, match=r"lacks the column\(s\) B03, B12"):
        MajorTom(archive.folder).read(PART, 0)
    make.truncate(part)
    with pytest.raises(UnreadableTileError, match=r"part_00001.parquet cannot be read .* fetch it again"):
        MajorTom(archive.folder).read(PART, 0)
    make.truncate(archive.folder / "metadata.parquet")
    with pytest.raises(GeoladderError, match=r"metadata.parquet cannot be read"):
        MajorTom(archive.folder).metadata()
    with pytest.raises(GeoladderError, match=r"no metadata.parquet"):
        MajorTom(tmp_path / "nowhere")


def test_several_rows_in_a_group_are_refused(archive):
    archive.add("1U_1R").add("2U_1R").write()
    part = archive.folder / "images" / PART
    pq.write_table(pq.read_table(part), part, row_group_size=2)
    with pytest.raises(UnreadableTileError, match="2 rows in 1 row groups"):
        MajorTom(archive.folder).read(PART, 0)


def test_metadata_without_a_column(archive):
    archive.add("1U_1R").write()
    path = archive.folder / "metadata.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["cloud_cover"]), path)
    with pytest.raises(GeoladderError, match=r"lacks the column\(s\) cloud_cover"):
        MajorTom(archive.folder).metadata()


def test_many_parts_keep_few_files_open(archive):
    for number in range(1, 8):
        archive.add(f"{number}U_1R", part=f"part_{number:05d}.parquet")
    archive.write()
    reader = MajorTom(archive.folder)
    for _ in range(2):
        for number in range(1, 8):
            assert reader.read(f"part_{number:05d}.parquet", 0).grid_cell == f"{number}U_1R"
    assert len(reader._parts) == OPEN_PARTS


def test_files_that_may_not_be_read_say_so(archive, monkeypatch):
    archive.add("1U_1R").write()

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("geoladder.data.archives.majortom.pq.ParquetFile", refuse)
    with pytest.raises(
        UnreadableTileError, match=r"part_00001.parquet cannot be read .*give the right .*chmod u\+r"
    ):
        MajorTom(archive.folder).identities(PART)
    monkeypatch.setattr("geoladder.data.archives.majortom.pq.read_table", refuse)
    with pytest.raises(
        GeoladderError, match=r"metadata.parquet cannot be read .*give the right .*chmod u\+r"
    ):
        MajorTom(archive.folder).metadata()


def test_a_tile_without_coordinates_is_named(archive):
    archive.add("1U_1R")
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", count=1, height=64, width=64, dtype="uint16") as raster:
            raster.write(np.ones((64, 64), np.uint16), 1)
        archive.parts[PART][0]["B02"] = memory.read()
    archive.write()
    with pytest.raises(UnreadableTileError, match="band B02 has no coordinate system"):
        MajorTom(archive.folder).read(PART, 0)
