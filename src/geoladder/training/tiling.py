"""Overlapping tiles along one side of a scene, and how much each pixel of a tile counts beside those of others.

The outer quarter of an overlap counts nothing, since pixels there lack neighbours on one side; over the middle half,
weights go linearly from one tile to the next. Tiles begin at multiples of a model's stride, so that a model that
looks no farther than a quarter of the overlap predicts the same in tiles as in one pass.
"""

from typing import NamedTuple

import torch
from torch import Tensor

OVERLAP_SHARE = 0.25
"""Of a tile's side."""


class Tiling(NamedTuple):
    """Tiles along one side of a scene."""

    side_px: int
    starts: list[int]
    """Of each tile, from 0 on. The last tile may reach beyond the scene."""

    def weights(self, place: int) -> Tensor:
        """Weight (side_px,) float32 of each pixel of one tile beside those of other tiles: 0 near an inner edge."""
        start, distance_px = self.starts[place], torch.arange(self.side_px) + 0.5
        weight = torch.ones(self.side_px)
        if place > 0:
            weight *= _ramp(distance_px, self.starts[place - 1] + self.side_px - start)
        if place + 1 < len(self.starts):
            weight *= _ramp(self.side_px - distance_px, start + self.side_px - self.starts[place + 1])
        return weight


def _ramp(distance_px: Tensor, overlap_px: int) -> Tensor:
    """0 in the outer quarter of an overlap, 1 in its inner one and beyond; by distance from the tile's edge."""
    return ((distance_px - overlap_px / 4) / (overlap_px / 2)).clamp(0, 1)


def tiling(length_px: int, tile_px: int, stride_px: int, is_fixed: bool = False) -> Tiling:
    """Cover a side of `length_px` by tiles of at most `tile_px`, of exactly that where `is_fixed`; one, if that does.

    Sides and starts are multiples of `stride_px`, as `tile_px` must be.
    """
    whole_px = max(-(-length_px // stride_px) * stride_px, tile_px * is_fixed)
    if whole_px <= tile_px:
        return Tiling(whole_px, [0])
    last = (whole_px - tile_px) // stride_px
    steps = min(last, -(-last * stride_px // max(1, int(tile_px * (1 - OVERLAP_SHARE)))))
    return Tiling(tile_px, [round(last * step / steps) * stride_px for step in range(steps + 1)])
