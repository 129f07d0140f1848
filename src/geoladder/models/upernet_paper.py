"""UPerNet at the paper's size: 256 channels, a pyramid at 4, 2, 1 and 1/2 of the token grid, four pools.

Unusual: it is the whole decoder of Xiao et al. (2018, arXiv 1807.10221), heavier than the small encoders of our own
rungs, which use geoladder.models.upernet. Different from the authors' (arXiv 2506.14765), at the same number of
parameters: GroupNorm in place of BatchNorm, since the images on one device differ between 1 and 32 GPUs and results
must not; no dropout; and where the finest level is coarser than the pixels (patches of 16), features are resized
bilinearly, in place of a transposed convolution and a ReLU on the outputs.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import init_weights

CHANNELS = 256
POOLS = (1, 2, 3, 6)
"""Bins per side of the pyramid pooling on the coarsest level."""
GROUP = 8
"""Channels normalised together."""


class ConvNorm(nn.Sequential):
    """Convolution without bias, GroupNorm, ReLU; (B, inputs, H, W) to (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), _norm(outputs), nn.ReLU()
        )


class Doubling(nn.Sequential):
    """Twice the side at half the channels, once for each of `steps`."""

    def __init__(self, dim: int, steps: int) -> None:
        widths = pairwise(dim // 2**step for step in range(steps + 1))
        layers = (
            (nn.ConvTranspose2d(wide, narrow, 2, stride=2, bias=False), _norm(narrow), nn.ReLU())
            for wide, narrow in widths
        )
        super().__init__(*(layer for each in layers for layer in each))


class PaperUPerNet(nn.Module):
    """Four token maps (B, dim, rows, columns) to dense features (B, channels, H, W).

    Args:
        dim: channels of the token maps, a multiple of 4.

    Raises:
        GeoladderError: `dim` is not a multiple of 4.
    """

    channels = CHANNELS

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 4:
            raise GeoladderError(f"the paper's UPerNet needs tokens of a multiple of 4 channels; got {dim}")
        self.scales = nn.ModuleList([Doubling(dim, 2), Doubling(dim, 1), nn.Identity(), nn.MaxPool2d(2)])
        self.laterals = nn.ModuleList(ConvNorm(each, CHANNELS, 1) for each in (dim // 4, dim // 2, dim))
        self.pools = nn.ModuleList(ConvNorm(dim, CHANNELS, 1) for _ in POOLS)
        self.bottleneck = ConvNorm(dim + len(POOLS) * CHANNELS, CHANNELS, 3)
        self.smooth = nn.ModuleList(ConvNorm(CHANNELS, CHANNELS, 3) for _ in self.laterals)
        self.fuse = ConvNorm(4 * CHANNELS, CHANNELS, 3)
        self.apply(init_weights)

    def forward(self, taps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Features at (H, W) = `size` pixels from four taps, the earliest first."""
        maps = [scale(tap) for scale, tap in zip(self.scales, taps, strict=True)]
        top = self._pool(maps.pop())
        levels = [lateral(each) for lateral, each in zip(self.laterals, maps, strict=True)]
        above = top
        for level in reversed(range(len(levels))):
            above = levels[level] = levels[level] + _resize(above, levels[level].shape[2:])
        smooth = [conv(each) for conv, each in zip(self.smooth, levels, strict=True)]
        finest = smooth[0].shape[2:]
        fused = self.fuse(torch.cat([_resize(each, finest) for each in (*smooth, top)], 1))
        return _resize(fused, size)

    def _pool(self, coarsest: Tensor) -> Tensor:
        pooled = [
            _resize(conv(functional.adaptive_avg_pool2d(coarsest, bins)), coarsest.shape[2:])
            for bins, conv in zip(POOLS, self.pools, strict=True)
        ]
        features: Tensor = self.bottleneck(torch.cat([coarsest, *pooled], 1))
        return features


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // GROUP if channels % GROUP == 0 else 1, channels)


def _resize(x: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
