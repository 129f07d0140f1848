"""What every curve must beat, on the same subset and test patches: predictors that see no pixel, or one at a time."""

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from geoladder.data.batches.batch import to_reflectance
from geoladder.data.bench.nshot import Subset, test_rows
from geoladder.data.bench.reader import Bench
from geoladder.registry import TASKS
from geoladder.runs.atomic import write_json
from geoladder.runs.provenance import birth_certificate
from geoladder.study.downstream_specs import BaselineSpec, TrivialSpec
from geoladder.training.patches import check_labelled, in_parts, subset_of, tile_names
from geoladder.training.pixel_models import Pixels, Predict, pixel_models
from geoladder.training.score import Score


def trivial(spec: BaselineSpec, bench: Path, index: Path, split: Path, out: Path) -> None:
    """Judge four predictors that need no network, each on every subset of a task at one seed.

    `zero` predicts a density of 0, or the first class everywhere; `mean` the subset's mean density, or its class
    frequencies (so its map is the majority class); `linear` and `boosted` see the ten bands of one pixel. Patches are
    those in `split`, a file of `geoladder split`. `out` has `points`, one for each n: n, train_patches, and metrics
    by predictor, `zero_<metric>` and so on, with their intervals.

    Raises:
        GeoladderError: the file of subsets does not fit, or nothing has a label.
    """
    first, opened = spec.subsets[0], Bench(bench, index, spec.subsets[0].harmonise)
    rows = test_rows(opened, spec.task, first.test_patches)
    check_labelled(opened, rows, first)
    subsets = {run.n: subset_of(opened, run, split) for run in spec.subsets}
    with threadpool_limits(1):  # a job has the cores its rule says, and its numbers do not depend on them
        models = {run.n: _fit(opened, spec, run, subsets[run.n]) for run in spec.subsets}
        scores = _judge(opened, spec.task, rows, models)
    points = [
        {"n": n, "train_patches": len(subsets[n].train_rows)}
        | _by_predictor({name: score.result() for name, score in of_n.items()})
        for n, of_n in scores.items()
    ]
    result = {
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": birth_certificate(spec.fingerprint),
        "points": points,
        "test_patches": len(rows),
    }
    write_json(out, result)


def _fit(bench: Bench, spec: BaselineSpec, run: TrivialSpec, subset: Subset) -> dict[str, Predict]:
    """Predictors of a subset. Per-pixel models stop on validation pixels, or training ones where none is labelled."""
    task = TASKS[spec.task]
    check_labelled(bench, subset.train_rows, run)
    constants = task.constants(bench.labels(spec.task, some) for some in in_parts(subset.train_rows))
    train, val = (_sample(bench, spec, rows) for rows in subset)
    watched = val if len(val.labels) else train
    everywhere = {name: partial(_everywhere, value) for name, value in constants.items()}
    return everywhere | pixel_models(train, watched, task.outputs, spec.seed)


def _everywhere(value: np.ndarray, bands: np.ndarray) -> np.ndarray:
    return np.full((len(bands), *value.shape), value)


def _judge(
    bench: Bench, task: str, rows: pd.DataFrame, models: dict[int, dict[str, Predict]]
) -> dict[int, dict[str, Score]]:
    """Scores of all predictors of each n, from test patches that are read once."""
    scores = {n: {name: Score(TASKS[task]) for name in of_n} for n, of_n in models.items()}
    for some in in_parts(rows):
        bands, labels = _read(bench, task, some)
        for n, of_n in models.items():
            for name, predict in of_n.items():
                predicted = _as_maps(predict(bands), labels.shape)
                truth, buckets = torch.from_numpy(labels), some["bucket"].to_numpy()
                scores[n][name].update(predicted, truth, buckets, tile_names(some))
    return scores


def _sample(bench: Bench, spec: BaselineSpec, rows: pd.DataFrame) -> Pixels:
    """At most `spec.baseline_pixels` labelled pixels of these patches, drawn by seed, in the order of the patches."""
    task = TASKS[spec.task]
    counts = bench.measure(spec.task, rows, lambda labels: task.valid(labels).sum(axis=(1, 2)))
    size = min(spec.baseline_pixels, counts.sum())
    drawn = np.sort(np.random.default_rng(spec.seed).choice(counts.sum(), size, replace=False))
    parts, first = [], 0
    for some in in_parts(rows):
        bands, labels = _read(bench, spec.task, some)
        valid = task.valid(labels)
        last = first + valid.sum()
        places = drawn[(first <= drawn) & (drawn < last)] - first
        parts.append((bands[valid.ravel()][places], labels[valid][places]))
        first = last
    return Pixels(*map(np.concatenate, zip(*parts, strict=True)))


def _read(bench: Bench, task: str, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance of all pixels, (M, 10), and labels (N, P, P)."""
    batch = bench.read(task, rows)
    reflectance = to_reflectance(batch.images, None, batch.offset_dn).numpy()
    return np.moveaxis(reflectance, 1, -1).reshape(-1, reflectance.shape[1]), batch.labels


def _as_maps(predicted: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
    """Predictions pixel by pixel, (M,) or (M, outputs), as (N, P, P) or (N, outputs, P, P)."""
    maps = torch.from_numpy(predicted.reshape(*shape, *predicted.shape[1:]))
    return maps.movedim(-1, 1) if predicted.ndim > 1 else maps


def _by_predictor(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Metrics, intervals and buckets of all predictors together, each metric behind its predictor's name."""
    merged: dict[str, Any] = {"metrics": {}, "intervals": {}, "by_bucket": defaultdict(dict)}
    for name, result in results.items():
        for part in ("metrics", "intervals"):
            merged[part] |= {f"{name}_{metric}": value for metric, value in result[part].items()}
        for bucket, metrics in result["by_bucket"].items():
            merged["by_bucket"][bucket] |= {f"{name}_{metric}": value for metric, value in metrics.items()}
    return merged
