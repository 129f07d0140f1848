"""Overlapping windows along one side of a scene, and how much each pixel of one counts beside those of others.

The outer quarter of an overlap counts nothing, since pixels there lack neighbours on one side; over the middle half,
weights go linearly from one window to the next. Windows begin at multiples of one step from the scene's first pixel,
wherever the scene ends: so a part of it that is cut out along these steps has the same windows, but for the last.
"""

from typing import NamedTuple

import torch
from torch import Tensor

OVERLAP_SHARE = 0.25
"""Of a window's side."""


class Tiling(NamedTuple):
    """Windows along one side of a scene."""

    side_px: int
    starts: list[int]
    """Of each window, from 0 on. The last one may reach beyond the scene."""

    def weights(self, place: int) -> Tensor:
        """Weight (side_px,) float32 of each pixel of one window beside those of others: 0 near an inner edge."""
        start, distance_px = self.starts[place], torch.arange(self.side_px) + 0.5
        weight = torch.ones(self.side_px)
        if place > 0:
            weight *= _ramp(distance_px, self.starts[place - 1] + self.side_px - start)
        if place + 1 < len(self.starts):
            weight *= _ramp(self.side_px - distance_px, start + self.side_px - self.starts[place + 1])
        return weight


def _ramp(distance_px: Tensor, overlap_px: int) -> Tensor:
    """0 in the outer quarter of an overlap, 1 in its inner one and beyond; by distance from the window's edge."""
    return ((distance_px - overlap_px / 4) / (overlap_px / 2)).clamp(0, 1)


def tiling(length_px: int, window_px: int, stride_px: int, is_fixed: bool = False) -> Tiling:
    """Cover a side of `length_px` by windows of at most `window_px`, of exactly that where `is_fixed`.

    One is made where one is enough. Sides and starts are multiples of `stride_px`, as `window_px` must be. The
    last window ends where the scene does, and so overlaps the one before it by more than others do.
    """
    whole_px = max(-(-length_px // stride_px) * stride_px, window_px * is_fixed)
    if whole_px <= window_px:
        return Tiling(whole_px, [0])
    step_px = max(1, int(window_px * (1 - OVERLAP_SHARE)) // stride_px) * stride_px
    last_px = whole_px - window_px
    return Tiling(window_px, [*range(0, last_px, step_px), last_px])
