"""Files that claim more than they hold, never end, or lead back to themselves."""

from functools import partial

import pyarrow.parquet as pq
import rasterio
from affine import Affine
from attack import Attack, attacked_by

from geoladder.data.index.build import build_index
from geoladder.study.specs import ChipsSpec, IndexSpec
from tiny_archives import Archive, BenchFolder

PART = "archive/images/part_00001.parquet"
CORRUPT_SHARE = 0.5
INDEX_SPEC = IndexSpec(
    archive="a",
    bench="b",
    one_product_per_cell=True,
    max_cloud_percent=80.0,
    max_nodata_share=0.99,
    max_corrupt_share=CORRUPT_SHARE,
    harmonise="baseline",
    validation_share=0.15,
    bench_buffer_km=0.0,
    exclude_bench="none",
)
CHIPS_SPEC = ChipsSpec(index="i", chip_px=32, chip_max_cloud_share=0.3, max_corrupt_share=CORRUPT_SHARE)
INDEX = [
    *("index", "--archive", "archive", "--bench-index", "none.parquet", "--spec", INDEX_SPEC.canonical()),
    *("--out", "out.parquet", "--ledger", "out.csv"),
]
CHIPS = [
    *("chips", "--archive", "archive", "--index", "index.parquet", "--spec", CHIPS_SPEC.canonical()),
    *("--out", "out"),
]
BENCH_INDEX = ["bench-index", "--bench", "bench", "--out", "out.parquet"]


def _empty_geotiff(side_px, dtype="uint16", bands=1, **options):
    """Bytes of a GeoTIFF without pixels, of any size."""
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    size = {"height": side_px, "width": side_px, "count": bands, "dtype": dtype}
    with rasterio.MemoryFile() as memory:
        memory.open(driver="GTiff", sparse_ok=True, **size, **place, **options).close()
        return memory.read()


def _chips_of(folder, **image):
    """An archive of two tiles whose second has other bytes, and its index."""
    archive = Archive(folder / "archive").add("1U_1R").add("2U_1R", image=image).write()
    spec = INDEX_SPEC.model_copy(update={"harmonise": "none"})
    build_index(spec, archive, folder / "none", folder / "index.parquet", folder / "ledger.csv")


def _huge(folder, side_px, names=("B02",), **options):
    block = {"tiled": True, "blockxsize": 2048, "blockysize": 2048, "compress": "deflate"}
    _chips_of(folder, **dict.fromkeys(names, _empty_geotiff(side_px, **(block | options))))


def _dropped(folder, count=1):
    words = (folder / "out/dropped.csv").read_text()
    assert f"tile,unreadable,{count}" in words, words


def _looping_bench(folder):
    bench = BenchFolder(folder / "bench").add("europe", "3", "train", 4).folder
    (bench / "again").symlink_to(bench)
    (bench / "and again").symlink_to(bench)


def _one_row(folder):
    assert pq.read_metadata(folder / "out.parquet").num_rows == 1


ATTACKS = [
    Attack(
        "a band of 30000 pixels a side",
        partial(_huge, side_px=30_000, names=("B02", "B03", "B04", "B08")),
        CHIPS,
        None,
        stated="band B02 is no readable GeoTIFF (it claims 30000 x 30000 pixels",
        check=_dropped,
    ),
    Attack("a bench that holds links to itself", _looping_bench, BENCH_INDEX, None, check=_one_row),
]
test_sizes = attacked_by(ATTACKS)
