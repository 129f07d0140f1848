"""Predictors that look at no pixel: what every curve must beat."""

from pathlib import Path

import numpy as np
import torch

from geoladder.data.bench.nshot import draw, test_rows
from geoladder.data.bench.reader import Bench
from geoladder.data.labels.targets import IGNORE_INDEX, LANDCOVER
from geoladder.runs.atomic import write_json
from geoladder.runs.provenance import birth_certificate
from geoladder.study.specs import TrivialSpec
from geoladder.training.metrics import by_bucket, metrics_of


def trivial(spec: TrivialSpec, bench: Path, index: Path, out: Path) -> None:
    """Judge two predictors that know only the training labels of one (task, seed, n).

    `zero` predicts no road or building anywhere, or the first class everywhere; `mean` predicts the subset's mean
    density, or its class frequencies (so its map is the majority class).

    Args:
        spec: the subset.
        bench: folder of the bench.
        index: its index.
        out: written: metrics by predictor, `zero_<metric>` and `mean_<metric>`.

    Raises:
        GeoladderError: n is above the pool of a bucket.
    """
    opened = Bench(bench, index, spec.harmonise)
    training = opened.labels(spec.task, draw(opened, spec.task, spec.n, spec.seed).train_rows)
    rows = test_rows(opened, spec.task, spec.test_patches)
    labels = torch.from_numpy(opened.labels(spec.task, rows))
    metrics: dict[str, float] = {}
    buckets: dict[str, dict[str, float]] = {}
    for name, constant in (("zero", _zero(spec.task)), ("mean", _mean(spec.task, training))):
        predicted = _everywhere(constant, labels)
        metrics |= {f"{name}_{key}": value for key, value in metrics_of(spec.task, predicted, labels).items()}
        for bucket, values in by_bucket(spec.task, predicted, labels, rows["bucket"].to_numpy()).items():
            buckets.setdefault(bucket, {}).update({f"{name}_{key}": value for key, value in values.items()})
    result = {
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": birth_certificate(spec.fingerprint),
        "metrics": metrics,
        "by_bucket": buckets,
        "train_patches": len(training),
        "test_patches": len(rows),
    }
    write_json(out, result)


def _zero(task: str) -> np.ndarray:
    """Density 0, or all probability on the first class (with a trace on the others, so that the loss is finite)."""
    if task != "landcover":
        return np.zeros(1, np.float32)
    shares = np.full(len(LANDCOVER), 1e-6)
    shares[0] = 1 - shares[1:].sum()
    return np.log(shares).astype(np.float32)


def _mean(task: str, labels: np.ndarray) -> np.ndarray:
    """Mean density, or log of the class frequencies (one pixel added to each class)."""
    if task != "landcover":
        return np.array([labels.mean(dtype=np.float64)], np.float32)
    counts = np.bincount(labels[labels != IGNORE_INDEX].ravel(), minlength=len(LANDCOVER)) + 1
    return np.log(counts / counts.sum()).astype(np.float32)


def _everywhere(constant: np.ndarray, labels: torch.Tensor) -> torch.Tensor:
    """(N, H, W) densities, or (N, 11, H, W) log-probabilities, the same at every pixel."""
    if constant.size == 1:
        return torch.full(labels.shape, float(constant[0]))
    return torch.from_numpy(constant).view(1, -1, 1, 1).expand(len(labels), -1, *labels.shape[1:])
