"""Downstream metrics, pixel-weighted: sums over all pixels of a set, divided once, overall and by bucket."""

import numpy as np
import torch
from torch.nn import functional
from torchmetrics.functional.classification import multiclass_confusion_matrix

from geoladder.data.labels.targets import IGNORE_INDEX, LANDCOVER

LEGACY_BATCH = 64
"""Patches per batch of the original evaluation, whose RMSE is the root of an unweighted mean over batches."""


def regression_metrics(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Errors of a density map.

    Args:
        predicted: (N, H, W) densities, 0..1.
        labels: (N, H, W) densities, 0..1.

    Returns:
        `mse`, `rmse` (its root), `mae`, `r2` (1 - squared error / squared deviation from the set's own mean; NaN
        when the labels are constant), and `legacy_rmse`: root of the mean over batches of 64 patches, unweighted,
        as the benchmark's own code averages it.
    """
    error = predicted.astype(np.float64) - labels
    pixels = labels.size
    squared = float((error**2).sum())
    deviation = float(((labels - labels.mean(dtype=np.float64)) ** 2).sum())
    batches = [np.mean(error[i : i + LEGACY_BATCH] ** 2) for i in range(0, len(error), LEGACY_BATCH)]
    return {
        "mse": squared / pixels,
        "rmse": float(np.sqrt(squared / pixels)),
        "mae": float(np.abs(error).sum()) / pixels,
        "r2": 1 - squared / deviation if deviation else float("nan"),
        "legacy_rmse": float(np.sqrt(np.mean(batches))),
    }


def landcover_metrics(log_probabilities: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Quality of a land cover map.

    Args:
        log_probabilities: (N, 11, H, W) float32.
        labels: (N, H, W) int64 class, 255 ignored.

    Returns:
        `accuracy` and `error` (1 - accuracy) over labelled pixels; `miou` and `macro_f1`, means over the classes
        that occur in labels or predictions; `cross_entropy` in nats per pixel. NaN when no pixel is labelled.
    """
    valid = int((labels != IGNORE_INDEX).sum())
    if not valid:
        return dict.fromkeys(("accuracy", "error", "miou", "macro_f1", "cross_entropy"), float("nan"))
    matrix = multiclass_confusion_matrix(
        log_probabilities.argmax(dim=1), labels, len(LANDCOVER), ignore_index=IGNORE_INDEX
    ).double()
    hits, wanted, given = matrix.diagonal(), matrix.sum(dim=1), matrix.sum(dim=0)
    present = wanted + given > 0
    accuracy = float(hits.sum() / valid)
    loss = functional.nll_loss(log_probabilities.double(), labels, ignore_index=IGNORE_INDEX, reduction="sum")
    return {
        "accuracy": accuracy,
        "error": 1 - accuracy,
        "miou": float((hits / (wanted + given - hits))[present].mean()),
        "macro_f1": float((2 * hits / (wanted + given))[present].mean()),
        "cross_entropy": float(loss) / valid,
    }


def metrics_of(task: str, predicted: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Metrics of a task: densities (N, H, W) for roads and buildings, log-probabilities for land cover."""
    if task == "landcover":
        return landcover_metrics(predicted, labels)
    return regression_metrics(predicted.numpy(), labels.numpy())


def by_bucket(
    task: str, predicted: torch.Tensor, labels: torch.Tensor, buckets: np.ndarray
) -> dict[str, dict[str, float]]:
    """`metrics_of` each bucket; `buckets` (N,) names the bucket of each patch."""
    chosen = {bucket: torch.from_numpy(np.flatnonzero(buckets == bucket)) for bucket in sorted(set(buckets))}
    return {bucket: metrics_of(task, predicted[rows], labels[rows]) for bucket, rows in chosen.items()}
