"""UNetFormer's decoder (Wang et al., 2022, arXiv 2109.08937): four maps to features of few channels at a quarter.

It is light; each level adds its skip by two learned positive shares that sum to 1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.models.window_attention import ConvNorm, GlobalLocalBlock, SeparableConv

HEADS = 8
SQUEEZE = 16


class WeightedSkip(nn.Module):
    """Twice the side, plus the skip, by learned shares."""

    def __init__(self, skip_dim: int, channels: int) -> None:
        super().__init__()
        self.pre = nn.Conv2d(skip_dim, channels, 1, bias=False)
        self.shares = nn.Parameter(torch.ones(2))
        self.post = ConvNorm(channels, channels, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, channels, H, W) and (B, skip_dim, 2 H, 2 W) to (B, channels, 2 H, 2 W)."""
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        positive = functional.relu(self.shares)
        shares = positive / (positive.sum() + 1e-8)
        return functional.relu(self.post(shares[0] * self.pre(skip) + shares[1] * x))


class Refinement(nn.Module):
    """The last skip, gated by place and by channel."""

    def __init__(self, skip_dim: int, channels: int) -> None:
        super().__init__()
        self.fuse = WeightedSkip(skip_dim, channels)
        squeezed = max(1, channels // SQUEEZE)
        self.place = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.down = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.up = nn.Conv2d(squeezed, channels, 1, bias=False)
        self.shortcut = ConvNorm(channels, channels, 1)
        self.proj = SeparableConv(channels, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """As `WeightedSkip`."""
        x = self.fuse(x, skip)
        by_channel = torch.sigmoid(self.up(functional.relu(self.down(x.mean((2, 3), keepdim=True)))))
        gated = x * torch.sigmoid(self.place(x)) + x * by_channel
        return functional.relu(self.proj(gated) + self.shortcut(x))


class UNetFormerDecoder(nn.Module):
    """Four maps (B, dims[i], H / 2**i, W / 2**i) to features (B, channels, H, W).

    Args:
        dims: channels of the maps, finest first.
        channels: of the decoder, a multiple of 8.
    """

    def __init__(self, dims: list[int], channels: int) -> None:
        super().__init__()
        self.pre = ConvNorm(dims[3], channels, 1)
        self.blocks = nn.ModuleList(GlobalLocalBlock(channels, channels, HEADS) for _ in range(3))
        self.skips = nn.ModuleList([WeightedSkip(dims[2], channels), WeightedSkip(dims[1], channels)])
        self.refine = Refinement(dims[0], channels)
        self.last = ConvNorm(channels, channels, 3)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """From the coarsest map up."""
        x = self.blocks[0](self.pre(maps[3]))
        for block, skip, level in zip(self.blocks[1:], self.skips, (2, 1), strict=True):
            x = block(skip(x, maps[level]))
        return functional.relu(self.last(self.refine(x, maps[0])))
