import json
import math

import numpy as np
import pytest

from geoladder.data.bench.nshot import draw
from geoladder.data.bench.nshot import test_rows as rows_to_test
from geoladder.data.bench.reader import Bench, index_bench
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.training import baselines, patches
from geoladder.training.baselines import trivial
from geoladder.training.pixel_models import Pixels, pixel_models

PREDICTORS = ("zero", "mean", "linear", "boosted")


@pytest.fixture
def run(bench, split, tmp_path):
    def start(spec):
        out = tmp_path / "seed0.json"
        trivial(spec, bench / "archive", bench / "index.parquet", split(spec), out)
        result = json.loads(out.read_text())
        return result | result["points"][-1]

    return start


def test_densities_by_hand(run, trivial_spec, opened):
    result = run(trivial_spec())
    labels = opened.labels("roads", rows_to_test(opened, "roads", 40)).astype(float)
    mean = opened.labels("roads", draw(opened, "roads", 2, 0).train_rows).mean(dtype=float)
    metrics = result["metrics"]
    assert metrics["zero_mse"] == pytest.approx((labels**2).mean())
    assert metrics["zero_mae"] == pytest.approx(labels.mean())
    assert metrics["mean_mse"] == pytest.approx(((labels - mean) ** 2).mean(), rel=1e-6)
    assert metrics["mean_rmse"] == pytest.approx(math.sqrt(metrics["mean_mse"]))
    assert metrics["mean_r2"] <= 0
    assert result["fingerprint"] == trivial_spec().fingerprint
    assert (result["train_patches"], result["test_patches"]) == (12, 40)


def test_classes_by_hand(run, trivial_spec, opened):
    metrics = run(trivial_spec(task="landcover"))["metrics"]
    labels = opened.labels("landcover", rows_to_test(opened, "landcover", 40))
    labels = labels[labels != 255]
    training = opened.labels("landcover", draw(opened, "landcover", 2, 0).train_rows)
    counts = np.bincount(training[training != 255], minlength=11) + 1
    shares = counts / counts.sum()
    assert metrics["mean_accuracy"] == pytest.approx((labels == shares.argmax()).mean())
    assert metrics["mean_cross_entropy"] == pytest.approx(-np.log(shares[labels]).mean(), rel=1e-5)
    assert metrics["zero_accuracy"] == pytest.approx((labels == 0).mean())


@pytest.mark.parametrize(("task", "metric"), [("roads", "mean_mse"), ("landcover", "mean_cross_entropy")])
def test_buckets_pool_to_the_whole(run, trivial_spec, opened, task, metric):
    result = run(trivial_spec(task=task))
    rows = rows_to_test(opened, task, 40)
    valid = (opened.labels(task, rows) != 255).sum(axis=(1, 2))
    weights = {bucket: valid[(rows["bucket"] == bucket).to_numpy()].sum() for bucket in result["by_bucket"]}
    pooled = sum(result["by_bucket"][b][metric] * w for b, w in weights.items()) / sum(weights.values())
    assert pooled == pytest.approx(result["metrics"][metric])


def test_an_n_above_the_pool_is_refused_and_leaves_nothing(run, trivial_spec, tmp_path):
    with pytest.raises(GeoladderError, match="25"):
        run(trivial_spec(task="landcover", n=(25,)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("task", "floor"), [("roads", 0.99), ("landcover", 0.95)])
def test_boosted_trees_learn_what_a_pixel_tells(run, trivial_spec, task, floor):
    """Roads are where B04 is dark, which no line fits; land cover follows B08."""
    metrics = run(trivial_spec(task=task, n=(8,), baseline_pixels=5000))["metrics"]
    skill, error = TASKS[task].skill, TASKS[task].error
    assert metrics[f"boosted_{skill}"] > floor
    assert metrics[f"boosted_{error}"] < metrics[f"linear_{error}"] < metrics[f"mean_{error}"]


def test_what_a_result_has_of_each_predictor(run, trivial_spec):
    result = run(trivial_spec())
    names = {f"{predictor}_{name}" for predictor in PREDICTORS for name in TASKS["roads"].measures}
    assert set(result["metrics"]) == names
    assert (
        all(set(values) == names for values in result["by_bucket"].values()) and len(result["by_bucket"]) == 6
    )
    low, high = result["intervals"]["boosted_rmse"]
    assert low < result["metrics"]["boosted_rmse"] < high


def test_every_n_of_a_seed_is_judged_as_if_alone(run, trivial_spec):
    together = run(trivial_spec(n=(2, 5)))["points"]
    assert [(point["n"], point["train_patches"]) for point in together] == [(2, 12), (5, 30)]
    assert [run(trivial_spec(n=(n,)))["points"][0] for n in (2, 5)] == together


def test_the_same_numbers_twice_and_others_with_another_seed(run, trivial_spec):
    first = run(trivial_spec(baseline_pixels=500))["metrics"]
    assert run(trivial_spec(baseline_pixels=500))["metrics"] == first
    assert run(trivial_spec(baseline_pixels=500, seed=1))["metrics"] != first


def test_patches_are_read_in_parts_and_no_more_at_once(run, trivial_spec, monkeypatch):
    sizes, gather = [], Bench.labels
    monkeypatch.setattr(patches, "AT_ONCE", 5)
    monkeypatch.setattr(
        Bench, "labels", lambda self, task, rows: sizes.append(len(rows)) or gather(self, task, rows)
    )
    whole = run(trivial_spec(baseline_pixels=10**6))
    assert max(sizes) == 5 and whole["train_patches"] == 12


@pytest.mark.parametrize("pixels", [1, 700, 10**6])
def test_the_sample_has_as_many_labelled_pixels_as_it_may(opened, trivial_spec, pixels, monkeypatch):
    monkeypatch.setattr(patches, "AT_ONCE", 5)
    rows = draw(opened, "landcover", 2, 0).train_rows
    labels = opened.labels("landcover", rows)
    sample = baselines._sample(opened, trivial_spec(task="landcover", baseline_pixels=pixels), rows)
    assert len(sample.bands) == len(sample.labels) == min(pixels, (labels != 255).sum())
    if pixels == 10**6:
        assert np.array_equal(sample.labels, labels[labels != 255])


@pytest.fixture
def planted(tmp_path, split, trivial_spec):
    """Judges the baselines on a bench whose road labels are what a function makes of its images' reflectance."""

    def start(label, n=20):
        rng = np.random.default_rng(0)
        for part, count in (("train", 20), ("val", 4), ("test", 10)):
            dn = rng.integers(500, 9500, (count, 16, 16, 10)).astype(np.uint16)
            stem = f"europe_{int(part == 'test')}_{part}"
            np.save(tmp_path / f"{stem}_s2.npy", dn)
            np.save(tmp_path / f"{stem}_label_roads.npy", label(dn[..., 3:4] / np.float32(10000), rng))
        index_bench(tmp_path, tmp_path / "index.parquet")
        spec, out = trivial_spec(n=(n,), harmonise="none", baseline_pixels=5000), tmp_path / "out.json"
        index = tmp_path / "index.parquet"
        trivial(spec, tmp_path, index, split(spec, Bench(tmp_path, index)), out)
        return json.loads(out.read_text())["points"][0]["metrics"]

    return start


def test_a_label_that_is_a_band_is_learned(planted):
    metrics = planted(lambda band, rng: band)
    assert metrics["linear_r2"] > 0.99 and metrics["boosted_r2"] > 0.99


def test_shuffled_labels_leave_nothing_above_the_mean(planted):
    metrics = planted(lambda band, rng: rng.permutation(band.ravel()).reshape(band.shape))
    for name in ("linear", "boosted"):
        assert metrics[f"{name}_rmse"] == pytest.approx(metrics["mean_rmse"], rel=0.01)
        assert metrics[f"{name}_r2"] < 0.01


def test_masked_pixels_are_not_learned(planted):
    """Half of the pixels say nothing; were they zeros, the line would be half as high."""

    def half(band, rng):
        return np.where(rng.random(band.shape) < 0.5, band, np.float32(255))

    metrics = planted(half)
    assert metrics["linear_r2"] > 0.99 and abs(metrics["mean_bias"]) < 0.01


def test_pixels_of_one_class_predict_it():
    bands = np.random.default_rng(0).random((50, 10)).astype(np.float32)
    train, val = Pixels(bands, np.full(50, 3)), Pixels(bands, np.full(50, 4))
    for predict in pixel_models(train, val, 11, 0).values():
        log_p = predict(bands)
        assert log_p.shape == (50, 11) and (log_p.argmax(axis=1) == 3).all() and np.isfinite(log_p).all()


def test_classes_unseen_in_training_keep_a_trace():
    rng = np.random.default_rng(0)
    bands = rng.random((200, 10)).astype(np.float32)
    labels = 2 + (bands[:, 0] > 0.5)
    predictors = pixel_models(Pixels(bands, labels), Pixels(bands, labels + 1), 11, 0)
    for predict in predictors.values():
        log_p = predict(bands)
        assert (log_p.argmax(axis=1) == labels).mean() > 0.9
        np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1)
