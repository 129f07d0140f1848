import math

import numpy as np
import pytest
import torch

from geoladder.registry import TASKS


def density_metrics(predicted, labels):
    return TASKS["roads"].metrics(torch.from_numpy(predicted), torch.from_numpy(labels))


@pytest.fixture
def densities():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.random((150, 4, 4))).float(), torch.from_numpy(
        rng.random((150, 4, 4))
    ).float()


def test_regression_by_hand():
    predicted = np.array([[[0.0, 0.5]], [[1.0, 1.0]]], np.float32)
    labels = np.array([[[0.0, 0.0]], [[1.0, 0.5]]], np.float32)
    metrics = density_metrics(predicted, labels)
    assert metrics["mse"] == pytest.approx(0.5 / 4)
    assert metrics["rmse"] == pytest.approx(math.sqrt(0.125))
    assert metrics["mae"] == pytest.approx(1 / 4)
    mean = 1.5 / 4
    assert metrics["r2"] == pytest.approx(1 - 0.5 / (2 * mean**2 + (1 - mean) ** 2 + (0.5 - mean) ** 2))


def test_r2_of_perfect_mean_and_constant_labels():
    labels = np.random.default_rng(0).random((3, 4, 4)).astype(np.float32)
    assert density_metrics(labels, labels)["r2"] == 1
    assert density_metrics(np.full_like(labels, labels.mean()), labels)["r2"] == pytest.approx(0, abs=1e-6)
    assert math.isnan(density_metrics(labels, np.zeros_like(labels))["r2"])


def test_legacy_rmse_weighs_the_short_last_batch_like_the_others(densities):
    predicted, labels = densities[0].numpy(), densities[1].numpy()
    error = ((predicted - labels) ** 2).mean(axis=(1, 2))
    wanted = math.sqrt((error[:64].mean() + error[64:128].mean() + error[128:].mean()) / 3)
    metrics = density_metrics(predicted, labels)
    assert metrics["legacy_rmse"] == pytest.approx(wanted, rel=1e-6)
    assert metrics["rmse"] == pytest.approx(math.sqrt(error.mean()), rel=1e-6)
    assert metrics["legacy_rmse"] != pytest.approx(metrics["rmse"], rel=1e-4)


def test_landcover_against_plain_loops():
    rng = np.random.default_rng(3)
    scores = torch.from_numpy(rng.normal(size=(5, 11, 6, 6))).float().log_softmax(dim=1)
    labels = rng.integers(0, 4, (5, 6, 6))
    labels[rng.random(labels.shape) < 0.2] = 255
    metrics = TASKS["landcover"].metrics(scores, torch.from_numpy(labels))
    given = scores.argmax(dim=1).numpy()
    valid = labels != 255
    assert metrics["accuracy"] == pytest.approx((given == labels)[valid].mean())
    assert metrics["error"] == pytest.approx(1 - metrics["accuracy"])
    unions, f1s, losses = [], [], []
    for c in range(11):
        hit = ((given == c) & (labels == c))[valid].sum()
        wanted, made = (labels == c)[valid].sum(), (given == c)[valid].sum()
        if wanted + made:
            unions.append(hit / (wanted + made - hit))
            f1s.append(2 * hit / (wanted + made))
    for n, y, x in np.argwhere(valid):
        losses.append(-float(scores[n, labels[n, y, x], y, x]))
    assert metrics["miou"] == pytest.approx(np.mean(unions))
    assert metrics["macro_f1"] == pytest.approx(np.mean(f1s))
    assert metrics["cross_entropy"] == pytest.approx(np.mean(losses), rel=1e-6)


def test_landcover_without_any_label_is_nan_and_no_error():
    metrics = TASKS["landcover"].metrics(torch.zeros(1, 11, 2, 2), torch.full((1, 2, 2), 255))
    assert all(math.isnan(value) for value in metrics.values())


def test_buckets_pool_to_the_whole(densities):
    predicted, labels = densities
    buckets = np.array(["europe"] * 100 + ["japan"] * 20 + ["africa"] * 30)
    parts = TASKS["roads"].by_bucket(predicted, labels, buckets)
    weights = {"europe": 100, "japan": 20, "africa": 30}
    assert set(parts) == set(weights)
    whole = TASKS["roads"].metrics(predicted, labels)
    for name in ("mse", "mae"):
        assert sum(parts[b][name] * weights[b] for b in weights) / 150 == pytest.approx(whole[name])


def test_landcover_buckets_pool_to_the_whole_by_labelled_pixels():
    rng = np.random.default_rng(4)
    scores = torch.from_numpy(rng.normal(size=(6, 11, 4, 4))).log_softmax(dim=1)
    labels = torch.from_numpy(rng.integers(0, 11, (6, 4, 4)))
    labels[0] = 255
    buckets = np.array(["a", "a", "a", "b", "b", "b"])
    parts = TASKS["landcover"].by_bucket(scores, labels, buckets)
    whole = TASKS["landcover"].metrics(scores, labels)
    for name in ("accuracy", "cross_entropy"):
        assert (parts["a"][name] * 32 + parts["b"][name] * 48) / 80 == pytest.approx(whole[name])
