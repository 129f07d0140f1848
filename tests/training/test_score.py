"""Metrics equal scikit-learn's on all pixels at once, however patches come in and whoever has them."""

import json
import math
import multiprocessing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.training.score import Score

ROADS, LANDCOVER = TASKS["roads"], TASKS["landcover"]
PLACES = ("buckets", "tiles")


def scored(task, predicted, labels, buckets=None, tiles=None, sizes=(10_000,)):
    """Result for batches of these sizes; the last one takes what is left."""
    predicted, labels = torch.as_tensor(predicted), torch.as_tensor(labels)
    names = [np.array(["one"] * len(labels)) if part is None else part for part in (buckets, tiles)]
    score, start = Score(task), 0
    for size in (*sizes, len(labels)):
        some = slice(start, start + size)
        score.update(predicted[some], labels[some], *(part[some] for part in names))
        start += size
    return score.result()


def metrics_of(task, predicted, labels):
    return scored(task, predicted, labels)["metrics"]


def densities(patches=150, px=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((patches, px, px))
    labels[rng.random(labels.shape) < 0.1] = np.nan
    return rng.random((patches, px, px)), labels


def classes(patches=40, px=5, seed=0, used=6):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, used, (patches, px, px))
    labels[rng.random(labels.shape) < 0.2] = 255
    logits = torch.from_numpy(3 * rng.normal(size=(patches, 11, px, px)))
    return logits.log_softmax(dim=1), labels


def places(patches, seed=0):
    """Buckets of unlike sizes, and tiles within them."""
    rng = np.random.default_rng(seed)
    buckets = np.sort(rng.choice(["europe", "japan", "east-africa"], patches, p=[0.7, 0.1, 0.2]))
    return buckets, np.array(
        [f"{bucket}_{tile}" for bucket, tile in zip(buckets, rng.integers(0, 4, patches), strict=True)]
    )


def density_reference(predicted, labels):
    valid = ~np.isnan(labels)
    true, guess = labels[valid], predicted[valid]
    error = np.where(valid, predicted - labels, np.nan)
    return {
        "mse": reference.mean_squared_error(true, guess),
        "rmse": reference.root_mean_squared_error(true, guess),
        "mae": reference.mean_absolute_error(true, guess),
        "r2": reference.r2_score(true, guess),
        "bias": np.nanmean(np.nanmean(error, axis=(1, 2))),
    }


def class_reference(log_p, labels):
    valid = labels != 255
    p = np.moveaxis(log_p.exp().numpy(), 1, -1)[valid]
    true, guess = labels[valid], p.argmax(axis=1)
    wanted = {
        "accuracy": reference.accuracy_score(true, guess),
        "error": 1 - reference.accuracy_score(true, guess),
        "miou": reference.jaccard_score(true, guess, average="macro", zero_division=0),
        "cross_entropy": reference.log_loss(true, p, labels=range(11)),
        "brier": ((p - np.eye(11)[true]) ** 2).sum(axis=1).mean(),
        "calibration_error": calibration_error(p.max(axis=1), guess == true),
    }
    for name in ("precision", "recall", "f1"):
        function = getattr(reference, f"{name}_score")
        wanted[f"macro_{name}"] = function(true, guess, average="macro", zero_division=0)
    return wanted


def calibration_error(confidence, hit):
    total = 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            total += inside.sum() * abs(hit[inside].mean() - confidence[inside].mean())
    return total / len(hit)


def agrees(result, reference, predicted, labels, buckets):
    """Assert that metrics of all patches and of each bucket are those of the reference."""
    parts = {"all": slice(None)} | {name: buckets == name for name in set(buckets)}
    for name, part in parts.items():
        got = result["metrics"] if name == "all" else result["by_bucket"][name]
        for metric, wanted in reference(predicted[part], labels[part]).items():
            assert got[metric] == pytest.approx(wanted, rel=1e-12, abs=1e-12), metric


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 70), max_size=4))
def test_densities_equal_scikit_learn_overall_and_by_bucket(seed, sizes):
    predicted, labels = densities(seed=seed)
    buckets, tiles = places(150, seed)
    result = scored(ROADS, predicted, labels, buckets, tiles, sizes)
    agrees(result, density_reference, predicted, labels, buckets)
    assert set(result["metrics"]) == set(ROADS.measures)
    assert (result["test_patches"], result["test_tiles"]) == (150, len(set(tiles)))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 20), max_size=4), st.integers(1, 11))
def test_classes_equal_scikit_learn_overall_and_by_bucket(seed, sizes, used):
    log_p, labels = classes(seed=seed, used=used)
    buckets, tiles = places(40, seed)
    result = scored(LANDCOVER, log_p, labels, buckets, tiles, sizes)
    agrees(result, class_reference, log_p, labels, buckets)
    assert set(result["metrics"]) == set(LANDCOVER.measures)


def test_each_class_equals_scikit_learn_and_an_absent_one_is_nan():
    log_p, labels = classes(used=4)
    log_p[:, 9] = -50.0  # never predicted
    valid = labels != 255
    true, guess = labels[valid], log_p.argmax(dim=1).numpy()[valid]
    details = scored(LANDCOVER, log_p, labels)["details"]["all"]
    scores = reference.precision_recall_fscore_support(true, guess, labels=range(11), zero_division=0)
    ious = reference.jaccard_score(true, guess, labels=range(11), average=None, zero_division=0)
    for name, *wanted, iou in zip(LANDCOVER.classes, *scores, ious, strict=True):
        entry = details["by_class"][name]
        if name == "mangrove":
            assert all(math.isnan(entry[key]) for key in ("precision", "recall", "f1", "iou"))
            continue
        got = [entry[key] for key in ("precision", "recall", "f1", "pixels", "iou")]
        assert got == pytest.approx([*wanted, iou], abs=1e-12)
    np.testing.assert_array_equal(
        details["confusion"], reference.confusion_matrix(true, guess, labels=range(11))
    )


@pytest.mark.parametrize("task", [ROADS, LANDCOVER])
def test_the_size_of_a_batch_changes_no_bit(task):
    predicted, labels = densities() if task is ROADS else classes(150)
    names = places(150)
    whole = scored(task, predicted, labels, *names)
    assert scored(task, predicted, labels, *names, sizes=(1, 100, 7)) == whole


def share(rank, folder, task, predicted, labels, names):
    """Score every other batch of 32 patches as one of two ranks."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/group", rank=rank, world_size=2)
    score = Score(task)
    for start in range(32 * rank, len(labels), 64):
        some = slice(start, start + 32)
        score.update(predicted[some], labels[some], *(part[some] for part in names), first=start)
    score.reduce()
    (folder / f"{rank}.json").write_text(json.dumps(score.result()))
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_numbers_of_one(tmp_path):
    sets = [(ROADS, *map(torch.from_numpy, densities(150))), (LANDCOVER, *map(torch.as_tensor, classes(150)))]
    names = places(150)
    for task, predicted, labels in sets:
        folder = tmp_path / task.name
        folder.mkdir()
        arguments = (folder, task, predicted, labels, names)
        context = multiprocessing.get_context("fork" if not torch.cuda.is_available() else "spawn")
        ranks = [context.Process(target=share, args=(rank, *arguments)) for rank in (0, 1)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(60)
            assert process.exitcode == 0
        both = [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]
        assert both[0] == both[1]
        wanted = scored(task, predicted, labels, *names)
        assert both[0]["test_patches"] == 150
        for part in ("metrics", "intervals"):
            for name, value in wanted[part].items():
                assert both[0][part][name] == pytest.approx(value, abs=1e-12)
        for bucket, values in wanted["by_bucket"].items():
            assert both[0]["by_bucket"][bucket] == pytest.approx(values, abs=1e-12)


def test_a_patch_scored_twice_is_refused():
    predicted, labels = map(torch.from_numpy, densities(4))
    score, names = Score(ROADS), [np.array(["one"] * 4)] * 2
    score.update(predicted, labels, *names)
    with pytest.raises(GeoladderError, match="test patch 2 was scored twice"):
        score.update(predicted, labels, *names, first=2)


def test_nothing_scored_is_no_result():
    with pytest.raises(GeoladderError, match="none of the 0 test patches"):
        Score(ROADS).result()


def test_intervals_hold_the_estimate_and_shrink_with_tiles():
    rng = np.random.default_rng(0)
    errors = rng.normal(size=400)
    labels = np.full((400, 2, 2), 0.5)
    predicted = labels + 0.1 * errors[:, None, None]
    widths = []
    for tiles in (8, 80):
        names = np.array([f"t{patch % tiles}" for patch in range(400)])
        result = scored(ROADS, predicted[: 5 * tiles], labels[: 5 * tiles], None, names[: 5 * tiles])
        low, high = result["intervals"]["bias"]
        assert low < result["metrics"]["bias"] < high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_interval_of_the_mean_over_tiles_has_the_width_of_theory():
    rng = np.random.default_rng(1)
    of_tile = rng.normal(size=200)
    labels = np.zeros((200, 2, 2))
    result = scored(ROADS, labels + of_tile[:, None, None], labels, None, np.arange(200).astype(str))
    low, high = result["intervals"]["bias"]
    assert high - low == pytest.approx(2 * 1.96 * of_tile.std() / math.sqrt(200), rel=0.08)


def test_one_tile_has_no_interval():
    result = scored(ROADS, *densities(6))
    assert all(math.isnan(end) for ends in result["intervals"].values() for end in ends)


def test_regression_by_hand():
    predicted = np.array([[[0.0, 0.5]], [[1.0, 1.0]]], np.float32)
    labels = np.array([[[0.0, 0.0]], [[1.0, 0.5]]], np.float32)
    metrics = metrics_of(ROADS, predicted, labels)
    assert metrics["mse"] == pytest.approx(0.5 / 4)
    assert metrics["rmse"] == pytest.approx(math.sqrt(0.125))
    assert metrics["mae"] == pytest.approx(1 / 4)
    assert metrics["bias"] == pytest.approx(1 / 4)
    mean = 1.5 / 4
    assert metrics["r2"] == pytest.approx(1 - 0.5 / (2 * mean**2 + (1 - mean) ** 2 + (0.5 - mean) ** 2))


def test_r2_of_perfect_mean_and_constant_labels():
    labels = np.random.default_rng(0).random((3, 4, 4)).astype(np.float32)
    assert metrics_of(ROADS, labels, labels)["r2"] == 1
    assert metrics_of(ROADS, np.full_like(labels, labels.mean()), labels)["r2"] == pytest.approx(0, abs=1e-6)
    for constant in (0.0, 0.3, 1.0):
        assert math.isnan(metrics_of(ROADS, labels, np.full_like(labels, constant))["r2"])


def test_legacy_rmse_weighs_the_short_last_batch_like_the_others():
    predicted, labels = densities()
    labels = np.nan_to_num(labels)
    error = ((predicted - labels) ** 2).mean(axis=(1, 2))
    wanted = math.sqrt((error[:64].mean() + error[64:128].mean() + error[128:].mean()) / 3)
    metrics = metrics_of(ROADS, predicted, labels)
    assert metrics["legacy_rmse"] == pytest.approx(wanted, rel=1e-12)
    assert metrics["rmse"] == pytest.approx(math.sqrt(error.mean()), rel=1e-12)
    assert metrics["legacy_rmse"] != pytest.approx(metrics["rmse"], rel=1e-4)


@pytest.mark.parametrize("task", [ROADS, LANDCOVER])
def test_a_bucket_without_any_label_is_nan_and_a_whole_test_set_is_named(task):
    labels = torch.zeros(2, 2, 2) if task is ROADS else torch.zeros(2, 2, 2, dtype=torch.int64)
    labels[0] = math.nan if task is ROADS else 255
    predicted = torch.zeros(2, 2, 2) if task is ROADS else torch.zeros(2, 11, 2, 2)
    result = scored(task, predicted, labels, np.array(["japan", "europe"]))
    assert all(math.isnan(value) for value in result["by_bucket"]["japan"].values())
    assert not math.isnan(result["metrics"][task.error])
    with pytest.raises(
        GeoladderError, match=f"none of the 1 test patches of {task.name} has a labelled pixel"
    ):
        scored(task, predicted[:1], labels[:1])


def test_a_patch_without_label_changes_nothing():
    predicted, labels = densities(20)
    labels[7] = np.nan
    others = np.arange(20) != 7
    wanted = metrics_of(ROADS, predicted[others], labels[others])
    assert metrics_of(ROADS, predicted, labels) == pytest.approx(wanted, abs=1e-14)
