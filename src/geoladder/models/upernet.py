"""UPerNet decoder (Xiao et al., 2018, arXiv 1807.10221) on tokens of one grid: four taps to full resolution.

Unusual: kept light, so that at small rungs the encoder and not the decoder is what scales. The pyramid is at 2, 1,
1 and 1/2 of the token grid (the authors' is at 4, 2, 1, 1/2), levels are fused by a 1x1 convolution, and full
resolution comes from one transposed convolution plus a 1x1 path from the pixels. Norms are GroupNorm: no batch
statistics.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.models.backbone import init_weights

POOLS = (1, 2)
"""Bins per side of the pyramid pooling on the coarsest level."""
GRID_MULTIPLE = 2
"""Rows and columns of tokens must be multiples of this."""
GROUP = 8


class ConvNorm(nn.Sequential):
    """Convolution, GroupNorm, GELU; (B, inputs, H, W) to (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            nn.GroupNorm(max(1, outputs // GROUP), outputs),
            nn.GELU(),
        )


class UPerNet(nn.Module):
    """Four token maps (B, dim, rows, columns) and the pixels (B, bands + 1, H, W) to (B, channels, H, W).

    Args:
        dim: channels of the token maps.
        channels: of the pyramid and of the output.
        patch: side of a token in pixels; even.
        bands: of the image.
    """

    def __init__(self, dim: int, channels: int, patch: int, bands: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            [
                nn.ConvTranspose2d(dim, channels, 2, stride=2),
                ConvNorm(dim, channels, 1),
                ConvNorm(dim, channels, 1),
            ]
        )
        self.pools = nn.ModuleList(nn.Conv2d(dim, channels, 1) for _ in POOLS)
        self.bottleneck = ConvNorm(dim + len(POOLS) * channels, channels, 1)
        self.smooth = nn.ModuleList(ConvNorm(channels, channels, 3) for _ in range(3))
        self.fuse_finest = nn.Conv2d(channels, channels, 1, bias=False)
        self.fuse_coarser = nn.Conv2d(3 * channels, channels, 1, bias=False)
        self.fuse_norm = nn.GroupNorm(max(1, channels // GROUP), channels)
        self.to_pixels = nn.ConvTranspose2d(channels, channels, patch // 2, stride=patch // 2)
        self.pixels = nn.Conv2d(bands + 1, channels, 1)
        self.apply(init_weights)

    def forward(self, taps: list[Tensor], pixels: Tensor) -> Tensor:
        """Dense features at the resolution of `pixels`."""
        top = _resize(self._pool(taps[3]), 2)
        coarse = self.laterals[2](taps[2]) + top
        middle = self.laterals[1](taps[1]) + coarse
        finest = self.laterals[0](taps[0]) + _resize(middle, 2)
        finest, middle, coarse = (
            conv(x) for conv, x in zip(self.smooth, (finest, middle, coarse), strict=True)
        )
        # A 1x1 convolution and a resize commute: fusing the coarser levels on their own grid saves time.
        coarser = self.fuse_coarser(torch.cat([middle, coarse, top], 1))
        fused = functional.gelu(self.fuse_norm(self.fuse_finest(finest) + _resize(coarser, 2)))
        return functional.gelu(self.to_pixels(fused) + self.pixels(pixels))

    def _pool(self, tap: Tensor) -> Tensor:
        coarse = functional.avg_pool2d(tap, 2)
        size = coarse.shape[2:]
        pooled = [
            functional.interpolate(
                conv(functional.adaptive_avg_pool2d(coarse, bins)), size=size, mode="nearest"
            )
            for bins, conv in zip(POOLS, self.pools, strict=True)
        ]
        return self.bottleneck(torch.cat([coarse, *pooled], 1))


def _resize(x: Tensor, factor: int) -> Tensor:
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
