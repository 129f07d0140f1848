import json
import math

import numpy as np
import pytest

from geoladder.data.bench.nshot import draw
from geoladder.data.bench.nshot import test_rows as rows_to_test
from geoladder.errors import GeoladderError
from geoladder.training.baselines import trivial


@pytest.fixture
def run(bench, split, tmp_path):
    def start(spec):
        trivial(spec, bench / "archive", bench / "index.parquet", split(spec), tmp_path / "n2.json")
        return json.loads((tmp_path / "n2.json").read_text())

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
        run(trivial_spec(task="landcover", n=25))
    assert list(tmp_path.iterdir()) == []
