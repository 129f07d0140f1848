from dataclasses import replace
from math import ceil

import numpy as np
import pandas as pd
import pytest

from geoladder.data.bench import nshot, reader
from geoladder.data.bench.reader import Bench, index_bench
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS

KEY = ["bucket", "position", "entry", "slot"]


@pytest.mark.parametrize("task", ["roads", "buildings", "landcover"])
@pytest.mark.parametrize("seed", [0, 1])
def test_draws_are_nested_by_bucket(bench, task, seed):
    draws = {n: nshot.draw(bench, task, n, seed) for n in (1, 4, 9, 20)}
    for n, subset in draws.items():
        assert (subset.train_rows["bucket"].value_counts() == n).all()
        assert subset.train_rows["bucket"].nunique() == 6
        assert (subset.val_rows["bucket"].value_counts() <= ceil(0.2 * n)).all()
        assert not subset.train_rows.duplicated(KEY).any() and not subset.val_rows.duplicated(KEY).any()
    for part in ("train_rows", "val_rows"):
        for small, large in [(1, 4), (4, 9), (9, 20)]:
            few_rows = getattr(draws[small], part)
            for bucket, rows in getattr(draws[large], part).groupby("bucket"):
                few = few_rows[few_rows["bucket"] == bucket]
                pd.testing.assert_frame_equal(
                    few.reset_index(drop=True), rows.iloc[: len(few)].reset_index(drop=True)
                )


def test_draws_repeat_and_differ_by_seed_and_bucket(bench):
    one, again, other = (nshot.draw(bench, "landcover", 10, seed).train_rows for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again)
    assert list(one["position"]) != list(other["position"])
    by_bucket = one.groupby("bucket")["position"].apply(list)
    assert by_bucket["japan"] != by_bucket["north-america"]


def test_density_tasks_are_enriched_and_test_rows_are_not(bench):
    """A third of each pool is empty; of 20 drawn about 1/4 of a third over (2/3 + 1/12) = 1/9 should be."""
    shares = []
    for seed in range(12):
        rows = nshot.draw(bench, "buildings", 20, seed).train_rows
        shares.append((bench.labels("buildings", rows).mean(axis=(1, 2)) == 0).mean())
    assert np.mean(shares) == pytest.approx(1 / 9, abs=0.03)
    test = bench.labels("buildings", nshot.test_rows(bench, "buildings", 1000))
    assert (test.mean(axis=(1, 2)) == 0).mean() == pytest.approx(1 / 3)


def test_threshold_is_stricter_for_validation(bench_folder, tmp_path):
    """Mean density 0.007 always stays in training (> 0.005), and mostly leaves validation (< 0.01)."""
    faint = np.full((40, 16, 16, 1), 0.007, np.float32)
    for split in ("train", "val"):
        bench_folder.add("japan", "1", split, 40, label_roads=faint)
    index_bench(bench_folder.folder, tmp_path / "index.parquet")
    bench = Bench(bench_folder.folder, tmp_path / "index.parquet")
    subset = nshot.draw(bench, "roads", 40, seed=0)
    assert len(subset.train_rows) == 40
    val = nshot._draw_side(bench, "roads", "val", bench.pool("roads", "val"), 40, seed=0)["japan"]
    assert 2 <= len(val) <= 20


def test_n_above_the_pool_names_bucket_pool_and_limit(bench):
    with pytest.raises(GeoladderError, match=r"n = 41 for landcover .* bucket 'europe' has: its pool is 40 "):
        nshot.draw(bench, "landcover", 41, 0)
    with pytest.raises(GeoladderError, match=r"largest n allowed is \d+") as caught:
        nshot.draw(bench, "roads", 40, 0)
    assert "its pool is 40 training patches, of which" in str(caught.value)
    largest = int(str(caught.value).partition("allowed is ")[2].partition(".")[0])
    assert len(nshot.draw(bench, "roads", largest, 0).train_rows) == 6 * largest
    with pytest.raises(GeoladderError, match="largest n allowed is"):
        nshot.draw(bench, "roads", largest + 1, 0)


def test_buckets_without_labels_are_left_out_and_none_is_an_error(bench_folder, tmp_path):
    bench_folder.add("japan", "1", "train", 9).add("isreal-1", "1", "train", 9, labels=("lc",))
    bench_folder.add("isreal-1", "1", "val", 3, labels=("lc",))
    index_bench(bench_folder.folder, tmp_path / "index.parquet")
    bench = Bench(bench_folder.folder, tmp_path / "index.parquet")
    assert set(nshot.draw(bench, "landcover", 5, 0).train_rows["bucket"]) == {"northwest-africa", "japan"}
    with pytest.raises(GeoladderError, match="no validation patch for roads"):
        nshot.draw(bench, "roads", 5, 0)
    with pytest.raises(GeoladderError, match="no test patch with labels for roads"):
        nshot.test_rows(bench, "roads", 5)
    bench_folder.folder.joinpath("japan_1_train_label_roads.npy").unlink()
    index_bench(bench_folder.folder, tmp_path / "index.parquet")
    with pytest.raises(GeoladderError, match="no training patch with labels for roads"):
        nshot.draw(Bench(bench_folder.folder, tmp_path / "index.parquet"), "roads", 5, 0)


def test_test_rows_are_fixed_and_of_all_buckets(bench):
    rows = nshot.test_rows(bench, "landcover", 50)
    pd.testing.assert_frame_equal(rows, nshot.test_rows(bench, "landcover", 50))
    assert len(rows) == 50 and not rows.duplicated(KEY).any() and rows["bucket"].nunique() == 6
    assert len(nshot.test_rows(bench, "landcover", 10_000)) == 6 * 12


@pytest.fixture
def registered(monkeypatch):
    """Let other tasks be registered, in another order."""

    def put(tasks):
        for module in (nshot, reader):
            monkeypatch.setattr(module, "TASKS", tasks)

    return put


def test_another_task_changes_no_subset(bench, registered):
    """Draws are seeded by the name of the task, and not by its place among the others."""
    tasks = ("roads", "landcover")
    before = [(nshot.draw(bench, task, 5, 0), nshot.test_rows(bench, task, 30)) for task in tasks]
    first = replace(TASKS["roads"], name="aaa", label="kg")
    registered({"aaa": first, **dict(reversed(list(TASKS.items())))})
    for task, (subset, rows) in zip(tasks, before, strict=True):
        pd.testing.assert_frame_equal(nshot.draw(bench, task, 5, 0).train_rows, subset.train_rows)
        pd.testing.assert_frame_equal(nshot.draw(bench, task, 5, 0).val_rows, subset.val_rows)
        pd.testing.assert_frame_equal(nshot.test_rows(bench, task, 30), rows)


def test_tasks_of_the_same_labels_draw_other_patches(bench, registered):
    twin = replace(TASKS["landcover"], name="twin")
    registered({**TASKS, "twin": twin})
    bench.index["has_twin"] = bench.index["has_landcover"]
    one, other = (nshot.test_rows(bench, task, 30) for task in ("landcover", "twin"))
    assert list(one["slot"]) != list(other["slot"])


def test_an_index_older_than_a_task_is_named(bench, registered):
    registered({**TASKS, "new": replace(TASKS["roads"], name="new")})
    with pytest.raises(
        GeoladderError, match=r"index.parquet knows nothing of the labels of 'new'.*bench-index"
    ):
        nshot.draw(bench, "new", 1, 0)
