"""One batch of pretraining, as every source of chips or crops makes it."""

from typing import NamedTuple

import torch


class PretrainBatch(NamedTuple):
    """One batch of pretraining.

    Attributes:
        pixels: (B, 10, H, W) float32 standardised reflectance.
        mask: (B, 1, H, W) bool, True where hidden.
        geo: (B, 4) float32 encoding of the chip's centre.
        climate: (B,) int64 Köppen-Geiger class.
        labels: (B, maps) int64 class in each further map, `UNKNOWN` where it has none.
    """

    pixels: torch.Tensor
    mask: torch.Tensor
    geo: torch.Tensor
    climate: torch.Tensor
    labels: torch.Tensor
