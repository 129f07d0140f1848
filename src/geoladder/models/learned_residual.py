"""The block of the authors' Geo-Aware U-Net: two normed convolutions, squeeze and excitation, a learned residual.

Norms are over channels and pixels, with a weight for each of both (LayerNorm over (C, H, W)), so a block
belongs to one image size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

SQUEEZE = 16
"""Channels per channel of the squeeze."""
SPREAD = 0.01
"""Deviation of the initial scales around 1 and shifts around 0."""


class LearnedResidual(nn.Module):
    """scale_a * identity + shift_a + scale_b * branch + shift_b, by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        shape = (2, channels, 1, 1)
        self.scales = nn.Parameter(1 + SPREAD * torch.randn(shape))
        self.shifts = nn.Parameter(SPREAD * torch.randn(shape))

    def forward(self, identity: Tensor, branch: Tensor) -> Tensor:
        """Two maps (B, channels, H, W) to one."""
        return self.scales[0] * identity + self.scales[1] * branch + self.shifts.sum(0)


class SqueezeExcite(nn.Module):
    """Gates channels by what the whole image has of them (Hu et al., 2018, arXiv 1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(1, channels // SQUEEZE)
        self.down = nn.Linear(channels, squeezed, bias=False)
        self.up = nn.Linear(squeezed, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        gate = torch.sigmoid(self.up(functional.gelu(self.down(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class ConvBlock(nn.Module):
    """1x1, norm, GELU, 3x3, norm, GELU, 1x1, squeeze and excitation, learned residual, GELU.

    Args:
        inputs: channels in.
        outputs: channels out.
        px: side of the maps.
        activate: whether a GELU ends it.
    """

    def __init__(self, inputs: int, outputs: int, px: int, activate: bool = True) -> None:
        super().__init__()
        self.activate = activate
        self.mix = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm1, self.norm2 = nn.LayerNorm([outputs, px, px]), nn.LayerNorm([outputs, px, px])
        self.conv = nn.Conv2d(outputs, outputs, 3, padding=1, padding_mode="replicate", bias=False)
        self.project = nn.Conv2d(outputs, outputs, 1)
        self.excite = SqueezeExcite(outputs)
        self.match = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        self.residual = LearnedResidual(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, px, px) to (B, outputs, px, px)."""
        y = functional.gelu(self.norm1(self.mix(x)))
        y = functional.gelu(self.norm2(self.conv(y)))
        y = self.residual(self.match(x), self.excite(self.project(y)))
        return functional.gelu(y) if self.activate else y
