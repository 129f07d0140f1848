"""UPerNet (Xiao et al., 2018, arXiv 1807.10221) on the four maps of a hierarchical backbone, made light.

Unusual: most of its weights work on the coarsest map. The usual one has a 3x3 convolution on every level and another
of all levels together at the finest, which would take twice the FLOPs of a Mamba2D encoder; here the finest map meets
only 1x1 convolutions, and levels are fused by one 1x1 convolution each on their own grid. With 320 channels it brings
Mamba2D to the 41 M parameters and 4.6 GFLOPs of the paper, which does not describe its decoder. Norms are GroupNorm.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.models.backbone import init_weights
from geoladder.models.upernet import GROUP, ConvNorm

DECODER_GROUP = GROUP
"""Channels of the decoder must be a multiple of this."""
POOLS = (1, 2, 3, 6)
"""Bins per side of the pyramid pooling on the coarsest map."""


class LightUPerNet(nn.Module):
    """Four maps, each of half the resolution of the one before, to dense features of full resolution.

    Args:
        dims: channels of the maps, finest first.
        channels: of the pyramid and of the output; a multiple of DECODER_GROUP.
    """

    def __init__(self, dims: list[int], channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(ConvNorm(dim, channels, 1) for dim in dims[:-1])
        self.pools = nn.ModuleList(ConvNorm(dims[-1], channels, 1) for _ in POOLS)
        self.bottleneck = ConvNorm(dims[-1] + len(POOLS) * channels, channels, 3)
        self.smooth = nn.ModuleList(ConvNorm(channels, channels, 3) for _ in dims[1:])
        self.fuse = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in dims)
        self.fuse_norm = nn.GroupNorm(channels // GROUP, channels)
        self.apply(init_weights)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Maps (B, dims[i], rows, columns), finest first, to (B, channels, *size)."""
        pyramid = [self._pool(maps[-1])]
        for lateral, each in zip(reversed(self.laterals), maps[-2::-1], strict=True):
            pyramid.insert(0, lateral(each) + _resize(pyramid[0], each.shape[2:]))
        levels = [pyramid[0], *(conv(x) for conv, x in zip(self.smooth, pyramid[1:], strict=True))]
        # A 1x1 convolution and a resize commute: fusing a level on its own grid saves time.
        fused = self.fuse[-1](levels[-1])
        for conv, level in zip(reversed(self.fuse[:-1]), levels[-2::-1], strict=True):
            fused = conv(level) + _resize(fused, level.shape[2:])
        return _resize(functional.gelu(self.fuse_norm(fused)), size)

    def _pool(self, coarsest: Tensor) -> Tensor:
        pooled = [
            _resize(conv(functional.adaptive_avg_pool2d(coarsest, bins)), coarsest.shape[2:])
            for bins, conv in zip(POOLS, self.pools, strict=True)
        ]
        return self.bottleneck(torch.cat([coarsest, *pooled], 1))


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(x, size=list(size), mode="bilinear", align_corners=False)
