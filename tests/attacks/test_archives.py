"""Archives whose names, tags, metadata and pixels disagree, or are written as others write them."""

from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from affine import Affine
from attack import Attack, attacked_by
from commands import index_command
from rasterio.crs import CRS

from geoladder.data.archives.majortom import MajorTom
from tiny_archives import TEN, TWENTY, Archive, product

PX = 16
NEW, OLD = product(number="0500"), product(number="0214")
PART = "archive/images/part_00001.parquet"
DAY = pd.Timestamp("2021-06-30")


def _command(**changes):
    return index_command(max_cloud_percent=30.0, max_corrupt_share=0.1, **changes)


def _image(value=1500, side_px=PX, fill=None, dtype=np.uint16, ext=".tif", mask=False, tags=None, **profile):
    """A band whose upper half is `fill`, in bytes."""
    pixels = np.full((side_px, side_px), value, dtype)
    if fill is not None:
        pixels[: side_px // 2] = fill
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    size = {"height": side_px, "width": side_px, "count": 1, "dtype": dtype}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.MemoryFile(ext=ext) as memory:
        with memory.open(**({"driver": "GTiff"} | size | place | profile)) as raster:
            raster.write(pixels, 1)
            if tags:
                raster.scales, raster.offsets = ([tag] for tag in tags)
            if mask:
                raster.write_mask(
                    np.repeat([0, 255], side_px // 2).astype(np.uint8)[:, None].repeat(side_px, 1)
                )
        return memory.read()


def _bands(**options):
    sides = dict.fromkeys(TEN, PX) | dict.fromkeys(TWENTY, PX // 2)
    return {name: _image(side_px=side_px, **options) for name, side_px in sides.items()}


def _archive(folder, products=(OLD, OLD), darkest=20, image=None, **meta):
    """Tiles that share their names' kind, pixels and metadata."""
    made = Archive(folder / "archive")
    for number, name in enumerate(products):
        made.add(f"{number}U_1R", name, darkest=darkest, tile_px=PX, image=image, meta=meta)
    return made.write()


def _metadata(folder, **columns):
    """Columns of the metadata as they are given."""
    path = _archive(folder) / "metadata.parquet"
    pq.write_table(pa.Table.from_pandas(pd.read_parquet(path).assign(**columns)), path)


def _archive_of(folder, **columns):
    """As many tiles as the columns have rows."""
    (rows,) = {len(column) for column in columns.values()}
    path = _archive(folder, products=[OLD] * rows) / "metadata.parquet"
    pd.read_parquet(path).assign(**columns).to_parquet(path)


def _twice(folder, name):
    """The metadata with the time under another name, or any column, again."""
    path = _archive(folder) / "metadata.parquet"
    table = pq.read_table(path)
    again = "timestamp" if name == "product_datetime" else name
    pq.write_table(table.append_column(name, table[again]), path)


def _band_twice(folder):
    _archive(folder)
    table = pq.read_table(folder / PART)
    pq.write_table(table.append_column("B02", table["B03"]), folder / PART, row_group_size=1)


def _tagged(folder, scale=1.0, offset=0.0):
    """Bands with tags of scale and offset."""
    _archive(folder, image=_bands(tags=(scale, offset)))


def _dictionaries(folder):
    _archive(folder)
    for path, names in (
        (folder / PART, (*TEN, *TWENTY, "grid_cell")),
        (folder / "archive/metadata.parquet", ("crs",)),
    ):
        table = pq.read_table(path)
        for name in names:
            table = table.set_column(
                table.schema.get_field_index(name), name, table[name].dictionary_encode()
            )
        pq.write_table(table, path, row_group_size=1)


def _index(folder, **expected):
    """Every row has these values."""
    index = pd.read_parquet(folder / "out.parquet")
    for name, value in expected.items():
        assert (index[name] == value).all(), index[name]


def _half_is_empty(folder):
    tile = MajorTom(folder / "archive").read("part_00001.parquet", 0)
    assert not tile.dn10[:, : PX // 2].any() and (tile.dn10[:, PX // 2 :] == 1500).all()


def _filled(name, **image):
    write = partial(_archive, image=_bands(**image))
    return Attack(name, write, _command(), None, stated="no data: 0, the nodata tag", check=_half_is_empty)


def _times(name, column):
    check = partial(_index, timestamp=DAY)
    return Attack(f"times: {name}", partial(_metadata, timestamp=column), _command(), None, check=check)


def _crs(name, column):
    check = partial(_index, epsg=32632)
    return Attack(f"crs: {name}", partial(_metadata, crs=column), _command(), None, check=check)


def _clouds(share):
    mask = np.zeros((PX, PX), np.uint8)
    mask.ravel()[: round(share * PX * PX)] = 1
    with rasterio.MemoryFile() as memory:
        size = {
            "height": PX,
            "width": PX,
            "count": 1,
            "dtype": "uint8",
            "transform": Affine(10, 0, 0, 0, -10, 0),
        }
        with memory.open(driver="GTiff", crs="EPSG:32632", **size) as raster:
            raster.write(mask, 1)
        return {"cloud_mask": memory.read()}


GONE = partial(_archive, products=[NEW] * 3 + [OLD] * 3)
SECONDS = int((DAY - pd.Timestamp("1970-01-01")).total_seconds())
WKT = CRS.from_epsg(32632).to_wkt()
ATTACKS = [
    Attack("an offset that is gone", GONE, _command(), "04.00 and later: 1000 DN; 0 of 3 agree"),
    *(
        Attack(
            f"an offset that is gone, harmonise: {harmonise}",
            GONE,
            _command(harmonise=harmonise, harmonise_stated=True),
            None,
            check=partial(_index, offset_dn=0),
        )
        for harmonise in ("pixels", "none")
    ),
    Attack(
        "an offset that no name says",
        partial(_archive, products=[OLD] * 10, darkest=1200),
        _command(),
        "before 04.00: 0 DN; 0 of 10 agree",
    ),
    _filled("65535 and its tag", fill=65_535, nodata=65_535),
    _filled("65535 without a tag", fill=65_535),
    _filled("9999 and its tag", fill=9999, nodata=9999),
    _filled("a mask in the file", fill=77, mask=True),
    Attack(
        "-9999 as uint16, without a tag",
        partial(_archive, image=_bands(fill=55_537)),
        _command(),
        "write it into the nodata tag",
    ),
    Attack(
        "cloud cover in shares",
        partial(_archive, image=_clouds(0.5), cloud_cover=0.5),
        _command(),
        "no usable tile",
    ),
    Attack(
        "cloud cover of clear tiles",
        partial(_archive, image=_clouds(0.0), cloud_cover=0.5),
        _command(),
        None,
        stated="unit of cloud_cover: percents",
    ),
    Attack("cloud cover of -9999", partial(_metadata, cloud_cover=-9999.0), _command(), "no usable tile"),
    Attack("cloud cover in words", partial(_metadata, cloud_cover="much"), _command(), "no usable tile"),
    Attack(
        "nodata in percents",
        partial(_metadata, nodata=37.5),
        _command(),
        None,
        check=partial(_index, nodata_share=0.375),
    ),
    _times("20210630", 20210630),
    _times("20210630 as text", "20210630"),
    _times("seconds", SECONDS),
    _times("milliseconds", SECONDS * 1000),
    _times("milliseconds as text", str(SECONDS * 1000)),
    _times("day first", "30.06.2021"),
    _times("days", SECONDS // 86_400),
    *(
        Attack(f"times: {strange!r}", partial(_metadata, timestamp=strange), _command(), "bad timestamp")
        for strange in ("1066-10-14", 2021, 5e17, True, "nan")
    ),
    _crs("WKT", WKT),
    _crs("float text", "EPSG:32632.0"),
    _crs("twice", "EPSG:EPSG:32632"),
    _crs("URN", "urn:ogc:def:crs:EPSG::32632"),
    Attack("crs: a path", partial(_metadata, crs="/etc/passwd"), _command(), "bad crs"),
    Attack("crs: half a WKT", partial(_metadata, crs=WKT[:200]), _command(), "bad crs"),
    Attack(
        "longitudes to 360",
        partial(_metadata, centre_lon=351.0),
        _command(),
        None,
        check=partial(_index, lon_deg=-9.0),
    ),
    Attack(
        "both names of the time", partial(_twice, name="product_datetime"), _command(), None, check=_index
    ),
    Attack("a column twice", partial(_twice, name="crs"), _command(), "has the column(s) crs several times"),
    Attack("a band twice", _band_twice, _command(), "has the column(s) B02 several times"),
    Attack("cells that are numbers", partial(_metadata, grid_cell=[5, 6]), _command(), "metadata mismatch"),
    Attack("products that are numbers", partial(_metadata, product_id=7), _command(), "metadata mismatch"),
    Attack(
        "products that are lists",
        partial(_metadata, product_id=[["a"], ["b"]]),
        _command(),
        "column product_id; texts are expected",
    ),
    Attack(
        "cells in bytes", partial(_metadata, grid_cell=[b"0U_1R", b"1U_1R"]), _command(), None, check=_index
    ),
    *(
        Attack(f"rows of {row}", partial(_metadata, parquet_row=row), _command(), "metadata mismatch")
        for row in (np.inf, 0.5, -1, 1e30, "one")
    ),
    Attack("parts without a name", partial(_metadata, parquet_url=None), _command(), "it is a folder"),
    Attack(
        "nodata in shares, but for one",
        partial(_archive_of, nodata=[1.0, *[0.4] * 30, 37.5]),
        _command(),
        None,
        stated="nodata: shares, but for 1 numbers above 1",
        check=partial(_index, nodata_share=0.4),
    ),
    Attack(
        "a scale of Landsat",
        partial(_tagged, scale=2.75e-5),
        _command(),
        "a stored 1: 1 DN; 0 of 2 agree",
    ),
    Attack(
        "a scale that is no number", partial(_tagged, scale=np.nan), _command(), "a stored 1: 1 DN; 0 of 2"
    ),
    Attack(
        "an offset in DN", partial(_tagged, offset=-1000.0), _command(), "DN offset by tags: by name; 0 of 2"
    ),
    Attack(
        "a cloud mask of scene classes",
        partial(_archive, image={"cloud_mask": _image(9, dtype=np.uint8)}),
        _command(),
        "cloud mask: 0 clear",
    ),
    Attack(
        "a cloud mask of probabilities",
        partial(_archive, image={"cloud_mask": _image(0.7, dtype=np.float32)}),
        _command(),
        "cloud mask: 0 clear",
    ),
    Attack("latitudes of -9999", partial(_metadata, centre_lat=-9999.0), _command(), None),
    Attack(
        "dictionaries of bands",
        _dictionaries,
        _command(),
        None,
        stated="format: by the bytes (tag: GTiff x 2)",
    ),
    Attack(
        "JPEG 2000",
        partial(_archive, image={"B02": _image(ext=".jp2", driver="JP2OpenJPEG")}),
        _command(),
        None,
        stated="JP2OpenJPEG x 2",
    ),
    Attack(
        "JPEG 2000 without a place",
        partial(_archive, image={"B02": _image(ext="", driver="JP2OpenJPEG")}),
        _command(),
        None,
        stated="is JPEG 2000 without a coordinate system",
    ),
    Attack(
        "lists in place of bytes",
        partial(_archive, image={"B03": [1, 2]}),
        _command(),
        "column B03; the bytes of a GeoTIFF are expected",
    ),
]
test_archives = attacked_by(ATTACKS)
