"""Pretraining objective (arXiv 2506.14765): masked reconstruction, geo-location, Köppen-Geiger class."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from geoladder.data.batches.batch import PretrainBatch
from geoladder.data.labels.label_rasters import UNKNOWN
from geoladder.models.heads import PretrainOutput
from geoladder.study.pretraining import Objective


class PretrainTerms(NamedTuple):
    """Terms of the objective, each a mean over its own elements; that of the labels is summed over maps."""

    masked_mse: torch.Tensor
    visible_mse: torch.Tensor
    geo_mse: torch.Tensor
    climate_cross_entropy: torch.Tensor
    label_cross_entropy: torch.Tensor

    def total(self, objective: Objective) -> torch.Tensor:
        """Weighted sum."""
        return (
            objective.masked_weight * self.masked_mse
            + objective.visible_weight * self.visible_mse
            + objective.geo_weight * self.geo_mse
            + objective.climate_weight * self.climate_cross_entropy
            + objective.label_weight * self.label_cross_entropy
        )


def pretrain_terms(
    output: PretrainOutput, batch: PretrainBatch, label_sizes: Iterable[int] = ()
) -> PretrainTerms:
    """Squared error on hidden and on visible pixels apart, squared error of the place, cross-entropies of classes.

    Every chip hides the same number of pixels, so means over equally large batches pool to the mean over all. For
    the same reason a chip without a label counts as one without error.

    Args:
        output: of the model.
        batch: what it should have been.
        label_sizes: classes of each further map, in the order of `batch.labels`.
    """
    error = (output.reconstruction.float() - batch.pixels).square().mean(dim=1, keepdim=True)
    hidden = batch.mask.float()
    return PretrainTerms(
        masked_mse=(error * hidden).sum() / hidden.sum(),
        visible_mse=(error * (1 - hidden)).sum() / (1 - hidden).sum(),
        geo_mse=functional.mse_loss(output.geo.float(), batch.geo),
        climate_cross_entropy=functional.cross_entropy(output.climate_logits.float(), batch.climate),
        label_cross_entropy=_label_cross_entropy(split_labels(output, label_sizes), batch.labels),
    )


def split_labels(output: PretrainOutput, label_sizes: Iterable[int]) -> list[torch.Tensor]:
    """Logits (B, classes) of each further map."""
    sizes = list(label_sizes)
    return list(output.label_logits.split(sizes, dim=1)) if sizes else []


def _label_cross_entropy(logits: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    total = torch.zeros((), device=labels.device)
    for column, of_map in enumerate(logits):
        known = labels[:, column]
        summed = functional.cross_entropy(of_map.float(), known, ignore_index=UNKNOWN, reduction="sum")
        total = total + summed / len(labels)
    return total
