"""Contact sheets: what is drawn is what was predicted, errors are those of the labels, and gaps are named."""

import json

import numpy as np
import pandas as pd
import pytest

from geoladder.data.bench.reader import index_bench
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.report.figures.patches import draw_patches, read_sheet
from geoladder.study.analysis import Figures

SPEC = {"size": "s", "harmonise": "baseline", "test_patches": 6}


@pytest.fixture
def bench(tmp_path):
    """A bench of six test patches of which red tells their number, and roads and land cover the same."""
    archive = tmp_path / "archive"
    archive.mkdir()
    number = np.arange(6, dtype=np.uint16)[:, None, None, None]
    images = np.broadcast_to(100 * number + 500, (6, 16, 16, 10)).copy()
    np.save(archive / "japan_0_test_s2.npy", images)
    np.save(
        archive / "japan_0_test_label_roads.npy", np.broadcast_to(number / 10, (6, 16, 16, 1)).astype("f4")
    )
    cover = np.full((6, 16, 16, 1), 10, np.uint8)
    cover[:, :8] = 0
    np.save(archive / "japan_0_test_label_lc.npy", cover)
    index_bench(archive, tmp_path / "index.parquet")
    return archive, tmp_path / "index.parquet"


@pytest.fixture
def result(tmp_path):
    """Writes the result of a run and its predictions: its path."""

    def make(task, n, architecture, predicted, label, patches=(0, 2, 5)):
        path = tmp_path / f"{architecture}-{n}.json"
        arm = {"task": task, "n": n, "architecture": architecture, "corpus": "scratch"}
        path.write_text(json.dumps({"spec": SPEC | arm}))
        np.savez(path.with_suffix(".npz"), test_patch=np.array(patches), predicted=predicted, label=label)
        return path

    return make


def test_a_sheet_has_the_patches_of_the_predictions(bench, result):
    label = np.stack([np.full((16, 16), k / 10, np.float32) for k in (0, 2, 5)])
    files = [result("roads", n, name, label + n / 100, label) for n in (4, 1) for name in ("unet", "pixel")]
    sheet = read_sheet("roads", files, *bench)
    assert list(sheet.predicted) == [
        f"{name}, scratch, n = {n}" for n in (1, 4) for name in ("per-pixel model s", "U-Net s")
    ]
    np.testing.assert_allclose(sheet.reflectance[:, 0, 0, 0], [0.05, 0.07, 0.1])
    np.testing.assert_array_equal(sheet.labels, label)


def test_linear_heads_are_shown_at_each_n(bench, result, tmp_path):
    label = np.zeros((3, 16, 16))
    path = tmp_path / "seed0" / "roads.json"
    for n in (1, 4):
        (path.with_suffix("")).mkdir(parents=True, exist_ok=True)
        arrays = {"test_patch": np.array([0, 2, 5]), "predicted": label + n / 10, "label": label}
        np.savez(path.with_suffix("") / f"n{n}.npz", **arrays)
    arm = {"task": "roads", "n": [1, 4], "architecture": "unet", "corpus": "random", "mode": "linear"}
    path.write_text(json.dumps({"spec": SPEC | arm}))
    sheet = read_sheet("roads", [path, result("roads", 4, "unet", label, label)], *bench)
    assert list(sheet.predicted) == [
        "U-Net s, random, linear, n = 1", "U-Net s, scratch, n = 4", "U-Net s, random, linear, n = 4",
    ]  # fmt: skip


def test_runs_that_differ_in_fraction_or_transfer_have_rows_of_their_own(bench, result):
    label = np.zeros((3, 16, 16))
    files = []
    for place, start in enumerate(({}, {"transfer": "encoder"}, {"fraction": "1/4"}, {"fraction": "1"})):
        path = result("roads", 4, "unet", label, label)
        spec = json.loads(path.read_text())["spec"] | start | {"size": "xs" if place == 3 else "s"}
        files.append(path.with_name(f"{place}.json"))
        files[-1].write_text(json.dumps({"spec": spec}))
        path.with_suffix(".npz").rename(files[-1].with_suffix(".npz"))
    assert list(read_sheet("roads", files, *bench).predicted) == [
        "U-Net s, scratch, n = 4", "U-Net s, scratch, encoder alone, n = 4", "U-Net s, scratch@1/4, n = 4",
        "U-Net xs, scratch, n = 4",
    ]  # fmt: skip


@pytest.mark.parametrize("show", ["patches", "errors"])
@pytest.mark.parametrize("task", ["roads", "landcover"])
def test_what_is_drawn(bench, result, tmp_path, task, show):
    label = np.full((3, 16, 16), 0 if task == "landcover" else 0.5)
    predicted = label.copy()
    if task == "landcover":
        label[:, :8] = 255
        predicted, label = predicted.astype(np.uint8), label.astype(np.int64)
        predicted[1, 12:] = 3  # half of the labelled pixels
    else:
        predicted[1] = 0.25
    files = [result(task, n, "unet", predicted, label) for n in (1, 4)]
    draw_patches(task, files, *bench, show, Figures(), tmp_path / "sheet.pdf")
    numbers = pd.read_csv(tmp_path / "sheet.csv")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    assert numbers["model"].unique().tolist() == ["U-Net s, scratch, n = 1", "U-Net s, scratch, n = 4"]
    assert numbers["error"].tolist() == [0, 0.5 if task == "landcover" else 0.25, 0] * 2


def test_missing_or_other_predictions_are_named(bench, result, tmp_path):
    label = np.zeros((3, 16, 16))
    files = [result("roads", 1, "unet", label, label), result("roads", 4, "unet", label, label, (0, 1, 2))]
    with pytest.raises(GeoladderError, match="other test patches"):
        draw_patches("roads", files, *bench, "patches", Figures(), tmp_path / "sheet.pdf")
    files[1].with_suffix(".npz").unlink()
    with pytest.raises(GeoladderError, match=r"unet-4\.json has no predictions beside it"):
        draw_patches("roads", files, *bench, "patches", Figures(), tmp_path / "sheet.pdf")
    assert not list(tmp_path.glob("sheet*"))


@pytest.mark.parametrize("name", ["roads", "landcover"])
def test_what_is_stored_is_what_is_read(name):
    task = TASKS[name]
    maps = (
        np.array([[0, 1], [10, 255]], np.uint8)
        if task.layer.categories
        else np.array([[0.1, 0.9]], np.float32)
    )
    np.testing.assert_array_equal(task.read(task.stored(maps), 1.0), maps)
