"""Predictors that look at no pixel: what every curve must beat."""

from pathlib import Path

import torch

from geoladder.data.bench.nshot import test_rows
from geoladder.data.bench.reader import Bench
from geoladder.registry import TASKS
from geoladder.runs.atomic import write_json
from geoladder.runs.provenance import birth_certificate
from geoladder.study.specs import TrivialSpec
from geoladder.training.patches import subset_of


def trivial(spec: TrivialSpec, bench: Path, index: Path, out: Path, indices: Path | None = None) -> None:
    """Judge two predictors that know only the training labels of one (task, seed, n).

    `zero` predicts a density of 0, or the first class everywhere; `mean` predicts the subset's mean density, or its
    class frequencies (so its map is the majority class).

    Args:
        spec: the subset.
        bench: folder of the bench.
        index: its index.
        out: written: metrics by predictor, `zero_<metric>` and `mean_<metric>`.
        indices: official index file to take the patches from; None to draw them by seed.

    Raises:
        GeoladderError: n is above the pool of a bucket, or the index file does not fit.
    """
    task, opened = TASKS[spec.task], Bench(bench, index, spec.harmonise)
    training = opened.labels(spec.task, subset_of(opened, spec, indices).train_rows)
    rows = test_rows(opened, spec.task, spec.test_patches)
    labels = torch.from_numpy(opened.labels(spec.task, rows))
    metrics: dict[str, float] = {}
    buckets: dict[str, dict[str, float]] = {}
    for name, predicted in task.constants(training, labels).items():
        metrics |= {f"{name}_{key}": value for key, value in task.metrics(predicted, labels).items()}
        for bucket, values in task.by_bucket(predicted, labels, rows["bucket"].to_numpy()).items():
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
