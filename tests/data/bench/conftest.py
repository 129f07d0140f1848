import pytest

from geoladder.data.bench.reader import Bench, index_bench


@pytest.fixture
def opened(tmp_path):
    """Index a bench folder and open it."""

    def run(folder, **kwargs):
        index_bench(folder.folder, tmp_path / "index.parquet")
        return Bench(folder.folder, tmp_path / "index.parquet", **kwargs)

    return run


@pytest.fixture
def bench(full_bench, opened):
    return opened(full_bench)
