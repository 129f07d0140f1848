"""Pretraining objective (arXiv 2506.14765): masked reconstruction, geo-location, Köppen-Geiger class."""

from typing import NamedTuple

import torch
from torch.nn import functional

from geoladder.config import Objective
from geoladder.models.heads import PretrainOutput


class PretrainBatch(NamedTuple):
    """One batch of pretraining.

    Attributes:
        pixels: (B, 10, H, W) float32 standardised reflectance.
        mask: (B, 1, H, W) bool, True where hidden.
        geo: (B, 4) float32 encoding of the chip's centre.
        climate: (B,) int64 Köppen-Geiger class.
    """

    pixels: torch.Tensor
    mask: torch.Tensor
    geo: torch.Tensor
    climate: torch.Tensor


class PretrainTerms(NamedTuple):
    """Terms of the objective, each a mean over its own elements."""

    masked_mse: torch.Tensor
    visible_mse: torch.Tensor
    geo_mse: torch.Tensor
    climate_cross_entropy: torch.Tensor

    def total(self, objective: Objective) -> torch.Tensor:
        """Weighted sum."""
        return (
            objective.masked_weight * self.masked_mse
            + objective.visible_weight * self.visible_mse
            + objective.geo_weight * self.geo_mse
            + objective.climate_weight * self.climate_cross_entropy
        )


def pretrain_terms(output: PretrainOutput, batch: PretrainBatch) -> PretrainTerms:
    """Squared error on hidden and on visible pixels apart, squared error of the place, cross-entropy of the climate.

    Every chip hides the same number of pixels, so means over equally large batches pool to the mean over all.
    """
    error = (output.reconstruction.float() - batch.pixels).square().mean(dim=1, keepdim=True)
    hidden = batch.mask.float()
    return PretrainTerms(
        masked_mse=(error * hidden).sum() / hidden.sum(),
        visible_mse=(error * (1 - hidden)).sum() / (1 - hidden).sum(),
        geo_mse=functional.mse_loss(output.geo.float(), batch.geo),
        climate_cross_entropy=functional.cross_entropy(output.climate_logits.float(), batch.climate),
    )
