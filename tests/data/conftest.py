"""Fixtures of tiny archives; `tiny_archives` writes them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tiny_archives import Archive, BenchFolder, bench_index, geotiff, product, stock, truncate

SAMPLES = Path(__file__).parents[2].parent / "shared" / "samples" / "majortom"


@pytest.fixture
def samples():
    if not SAMPLES.is_dir():
        pytest.skip(f"real MajorTOM samples are not at {SAMPLES}")
    return SAMPLES


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path / "archive")


@pytest.fixture
def stocked(site, archive):
    """A site with a MajorTOM archive of four parts of three tiles, see `stock`."""
    return stock(site, archive)


@pytest.fixture
def bench_folder(tmp_path):
    return BenchFolder(tmp_path / "bench")


@pytest.fixture
def full_bench(bench_folder):
    """All six buckets; two tiles in europe, roads missing in denmark, as in the bench."""
    for order, region in enumerate(
        ["europe", "east-africa", "nigeria", "north-america", "south-america", "japan"]
    ):
        for split, tile, patches in (("train", "3", 40), ("val", "3", 6), ("test", "4", 12)):
            bench_folder.add(region, tile, split, patches, seed=order)
    bench_folder.add("denmark-1", "1", "train", 10, seed=9, labels=("building", "lc"))
    return bench_folder


@pytest.fixture
def no_bench(tmp_path):
    """Index of a bench without test files."""
    path = tmp_path / "no_bench.parquet"
    return bench_index(path, [("train", 0.0, 0.0)])


@pytest.fixture
def make():
    """The writers above, for tests that need one GeoTIFF, one product id or one damaged file."""
    return SimpleNamespace(geotiff=geotiff, product=product, truncate=truncate, bench_index=bench_index)
