"""What the three downstream tasks differ in: outputs, loss, first guess, and how outputs become a map."""

import torch
from torch.nn import functional

from geoladder.data.labels.targets import IGNORE_INDEX, LANDCOVER


def outputs_of(task: str) -> int:
    """Outputs per pixel: one logit of a density, or one per land cover class."""
    return len(LANDCOVER) if task == "landcover" else 1


def prior_bias(task: str, labels: torch.Tensor) -> list[float]:
    """Bias of an output layer that predicts the training labels' mean everywhere.

    Logit of the mean density, kept off 0 and 1; or log frequencies of the classes (one pixel added to each).
    """
    if task == "landcover":
        counts = torch.bincount(labels[labels != IGNORE_INDEX], minlength=len(LANDCOVER)) + 1
        return (counts / counts.sum()).log().tolist()
    return [float(torch.logit(labels.double().mean().clamp(1e-4, 1 - 1e-4)))]


def task_loss(task: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy per pixel: between densities for roads and buildings, between classes for land cover.

    On densities it has the same minimiser as the squared error (both are proper), and a far smaller spread over
    seeds where labels are few.

    Args:
        task: roads, buildings or landcover.
        logits: (B, 1, P, P) or (B, 11, P, P).
        labels: (B, P, P) float32 density, or int64 class with 255 to ignore.
    """
    if task == "landcover":
        # A batch without any labelled pixel gives 0, and not 0 / 0.
        total = functional.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="sum")
        return total / (labels != IGNORE_INDEX).sum().clamp(min=1)
    return functional.binary_cross_entropy_with_logits(logits.float()[:, 0], labels)


def prediction(task: str, logits: torch.Tensor) -> torch.Tensor:
    """Densities (B, P, P) or log-probabilities (B, 11, P, P), from logits."""
    return logits.log_softmax(dim=1) if task == "landcover" else logits[:, 0].sigmoid()
