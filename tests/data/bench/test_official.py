import json

import pytest

from geoladder.data.bench.official import read_official
from geoladder.errors import GeoladderError


@pytest.fixture
def official(bench, tmp_path):
    """Write an index file as the bench does, with some entries changed for one bucket."""

    def write(**changes):
        buckets = {}
        for bucket, rows in bench.pool("roads", "train").groupby("bucket"):
            buckets[bucket] = {
                "train_indices": [5, 0, 7],
                "val_indices": [2],
                "length_multi_array_train": len(rows),
                "length_multi_array_val": 6,
            }
        buckets["japan"] |= changes
        path = tmp_path / "indices_01012024_128_10M_roads_3.json"
        path.write_text(json.dumps(buckets))
        return path

    return write


def test_official_index_files(bench, official):
    subset = read_official(official(), bench, "roads")
    assert len(subset.train_rows) == 18 and len(subset.val_rows) == 6
    japan = subset.train_rows[subset.train_rows["bucket"] == "japan"]
    assert list(japan["position"]) == [5, 0, 7]
    assert len(bench.read("roads", subset.train_rows).images) == 18


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length_multi_array_train": 39}, "made for 39 train patches in bucket 'japan'.* has 40"),
        ({"val_indices": [6]}, r"bucket 'japan': val positions must lie in 0\.\.5"),
        ({"train_indices": [-1]}, "train positions must lie"),
        ({"train_indices": "all"}, "train entries are unusable"),
        ({"train_indices": [0.5]}, "positions are a list of whole numbers"),
        ({"train_indices": [[0], [1]]}, "positions are a list of whole numbers"),
        ({"train_indices": [float("nan")]}, "positions are a list of whole numbers"),
    ],
)
def test_official_index_of_another_bench_is_refused(bench, official, changes, message):
    with pytest.raises(GeoladderError, match=message):
        read_official(official(**changes), bench, "roads")


def test_no_official_index(bench, tmp_path):
    for text in ("{", "[]", "{}", "[" * 100_000):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(GeoladderError, match=r"x.json is no index file of PhilEO Bench"):
            read_official(tmp_path / "x.json", bench, "roads")
    with pytest.raises(GeoladderError, match=r"absent.json is no index file"):
        read_official(tmp_path / "absent.json", bench, "roads")
