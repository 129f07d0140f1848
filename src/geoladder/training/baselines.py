"""What every curve must beat, on the same subset and test patches: predictors that see no pixel, or one at a time."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from geoladder.data.batches.batch import to_reflectance
from geoladder.data.bench.nshot import test_rows
from geoladder.data.bench.reader import Bench
from geoladder.registry import TASKS
from geoladder.runs.atomic import write_json
from geoladder.runs.provenance import birth_certificate
from geoladder.study.downstream_specs import BaselineSpec
from geoladder.training.patches import check_labelled, in_parts, subset_of, tile_names
from geoladder.training.pixel_models import Pixels, Predict, pixel_models
from geoladder.training.score import Score


def trivial(spec: BaselineSpec, bench: Path, index: Path, split: Path, out: Path) -> None:
    """Judge four predictors that need no network, each on the same subset.

    `zero` predicts a density of 0, or the first class everywhere; `mean` the subset's mean density, or its class
    frequencies (so its map is the majority class); `linear` and `boosted` see the ten bands of one pixel. Patches are
    those of this n in `split`, a file of `geoladder split`. `out` has metrics by predictor, `zero_<metric>` and so
    on, with their intervals.

    Raises:
        GeoladderError: the file of subsets does not fit, or nothing has a label.
    """
    task, opened = TASKS[spec.task], Bench(bench, index, spec.harmonise)
    subset = subset_of(opened, spec, split)
    rows = test_rows(opened, spec.task, spec.test_patches)
    for patches in (subset.train_rows, rows):
        check_labelled(opened, patches, spec)
    constants = task.constants(opened.labels(spec.task, some) for some in in_parts(subset.train_rows))
    scores: defaultdict[str, Score] = defaultdict(lambda: Score(task))
    with threadpool_limits(1):  # a job has the cores its rule says, and its numbers do not depend on them
        models = _fit(opened, spec, subset.train_rows, subset.val_rows)
        for some in in_parts(rows):
            bands, stored = _read(opened, spec, some)
            labels = torch.from_numpy(stored)
            maps = {name: _as_maps(predict(bands), stored.shape) for name, predict in models.items()}
            same = {name: _everywhere(value, stored.shape) for name, value in constants.items()}
            for name, predicted in (same | maps).items():
                scores[name].update(predicted, labels, some["bucket"].to_numpy(), tile_names(some))
    result = {
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": birth_certificate(spec.fingerprint),
        **_by_predictor({name: score.result() for name, score in scores.items()}),
        "train_patches": len(subset.train_rows),
        "test_patches": len(rows),
    }
    write_json(out, result)


def _fit(
    bench: Bench, spec: BaselineSpec, train_rows: pd.DataFrame, val_rows: pd.DataFrame
) -> dict[str, Predict]:
    """Per-pixel models of a subset; they stop on validation pixels, or on training ones where none is labelled."""
    train = _sample(bench, spec, train_rows)
    val = _sample(bench, spec, val_rows)
    watched = val if len(val.labels) else train
    return pixel_models(train, watched, TASKS[spec.task].outputs, spec.seed)


def _sample(bench: Bench, spec: BaselineSpec, rows: pd.DataFrame) -> Pixels:
    """At most `spec.baseline_pixels` labelled pixels of these patches, drawn by seed, in the order of the patches."""
    task = TASKS[spec.task]
    counts = bench.measure(spec.task, rows, lambda labels: task.valid(labels).sum(axis=(1, 2)))
    size = min(spec.baseline_pixels, counts.sum())
    drawn = np.sort(np.random.default_rng(spec.seed).choice(counts.sum(), size, replace=False))
    parts, first = [], 0
    for some in in_parts(rows):
        bands, labels = _read(bench, spec, some)
        valid = task.valid(labels)
        last = first + valid.sum()
        places = drawn[(first <= drawn) & (drawn < last)] - first
        parts.append((bands[valid.ravel()][places], labels[valid][places]))
        first = last
    return Pixels(*map(np.concatenate, zip(*parts, strict=True)))


def _read(bench: Bench, spec: BaselineSpec, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance of all pixels, (M, 10), and labels (N, P, P)."""
    batch = bench.read(spec.task, rows)
    reflectance = to_reflectance(batch.images, None, batch.offset_dn).numpy()
    return np.moveaxis(reflectance, 1, -1).reshape(-1, reflectance.shape[1]), batch.labels


def _everywhere(value: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A constant, as of `Task.constants`, on patches whose labels have this shape (N, P, P)."""
    return value.expand(shape[0], *value.shape[1:-2], *shape[1:])


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
