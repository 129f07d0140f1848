import math

import numpy as np
import pytest
import torch

from geoladder.training.metrics import by_bucket, landcover_metrics, metrics_of, regression_metrics


@pytest.fixture
def densities():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.random((150, 4, 4))).float(), torch.from_numpy(
        rng.random((150, 4, 4))
    ).float()


def test_regression_by_hand():
    predicted = np.array([[[0.0, 0.5]], [[1.0, 1.0]]], np.float32)
    labels = np.array([[[0.0, 0.0]], [[1.0, 0.5]]], np.float32)
    found = regression_metrics(predicted, labels)
    assert found["mse"] == pytest.approx(0.5 / 4)
    assert found["rmse"] == pytest.approx(math.sqrt(0.125))
    assert found["mae"] == pytest.approx(1 / 4)
    mean = 1.5 / 4
    assert found["r2"] == pytest.approx(1 - 0.5 / (2 * mean**2 + (1 - mean) ** 2 + (0.5 - mean) ** 2))


def test_r2_of_perfect_mean_and_constant_labels():
    labels = np.random.default_rng(0).random((3, 4, 4)).astype(np.float32)
    assert regression_metrics(labels, labels)["r2"] == 1
    assert regression_metrics(np.full_like(labels, labels.mean()), labels)["r2"] == pytest.approx(0, abs=1e-6)
    assert math.isnan(regression_metrics(labels, np.zeros_like(labels))["r2"])


def test_legacy_rmse_weighs_the_short_last_batch_like_the_others(densities):
    predicted, labels = densities[0].numpy(), densities[1].numpy()
    error = ((predicted - labels) ** 2).mean(axis=(1, 2))
    wanted = math.sqrt((error[:64].mean() + error[64:128].mean() + error[128:].mean()) / 3)
    found = regression_metrics(predicted, labels)
    assert found["legacy_rmse"] == pytest.approx(wanted, rel=1e-6)
    assert found["rmse"] == pytest.approx(math.sqrt(error.mean()), rel=1e-6)
    assert found["legacy_rmse"] != pytest.approx(found["rmse"], rel=1e-4)


def test_landcover_against_plain_loops():
    rng = np.random.default_rng(3)
    scores = torch.from_numpy(rng.normal(size=(5, 11, 6, 6))).float().log_softmax(dim=1)
    labels = rng.integers(0, 4, (5, 6, 6))
    labels[rng.random(labels.shape) < 0.2] = 255
    found = landcover_metrics(scores, torch.from_numpy(labels))
    given = scores.argmax(dim=1).numpy()
    valid = labels != 255
    assert found["accuracy"] == pytest.approx((given == labels)[valid].mean())
    assert found["error"] == pytest.approx(1 - found["accuracy"])
    unions, f1s, losses = [], [], []
    for c in range(11):
        hit = ((given == c) & (labels == c))[valid].sum()
        wanted, made = (labels == c)[valid].sum(), (given == c)[valid].sum()
        if wanted + made:
            unions.append(hit / (wanted + made - hit))
            f1s.append(2 * hit / (wanted + made))
    for n, y, x in np.argwhere(valid):
        losses.append(-float(scores[n, labels[n, y, x], y, x]))
    assert found["miou"] == pytest.approx(np.mean(unions))
    assert found["macro_f1"] == pytest.approx(np.mean(f1s))
    assert found["cross_entropy"] == pytest.approx(np.mean(losses), rel=1e-6)


def test_landcover_without_any_label_is_nan_and_no_error():
    found = landcover_metrics(torch.zeros(1, 11, 2, 2), torch.full((1, 2, 2), 255))
    assert all(math.isnan(value) for value in found.values())


def test_buckets_pool_to_the_whole(densities):
    predicted, labels = densities
    buckets = np.array(["europe"] * 100 + ["japan"] * 20 + ["africa"] * 30)
    parts = by_bucket("roads", predicted, labels, buckets)
    weights = {"europe": 100, "japan": 20, "africa": 30}
    assert set(parts) == set(weights)
    whole = metrics_of("roads", predicted, labels)
    for name in ("mse", "mae"):
        assert sum(parts[b][name] * weights[b] for b in weights) / 150 == pytest.approx(whole[name])


def test_landcover_buckets_pool_to_the_whole_by_labelled_pixels():
    rng = np.random.default_rng(4)
    scores = torch.from_numpy(rng.normal(size=(6, 11, 4, 4))).log_softmax(dim=1)
    labels = torch.from_numpy(rng.integers(0, 11, (6, 4, 4)))
    labels[0] = 255
    buckets = np.array(["a", "a", "a", "b", "b", "b"])
    parts = by_bucket("landcover", scores, labels, buckets)
    whole = metrics_of("landcover", scores, labels)
    for name in ("accuracy", "cross_entropy"):
        assert (parts["a"][name] * 32 + parts["b"][name] * 48) / 80 == pytest.approx(whole[name])
