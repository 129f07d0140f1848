"""The decoder that external models have in the paper (arXiv 2506.14765, TerraTorch): a U-Net over four token maps.

The maps are first brought to 4, 2, 1 and 1/2 of the token grid, by transposed convolutions and a pooling. Each of
four steps then takes what lies below to the next finer map (nearest), puts that map beside it, and convolves twice.
Different from TerraTorch's: GroupNorm in place of BatchNorm, at the same number of parameters, since images on one
device differ between 1 and 32 GPUs and results must not; features, and not logits, are resized to the pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import init_weights
from geoladder.models.upernet import GROUP, conv_norm, resize

CHANNELS = (512, 256, 128, 64)
"""Of the four steps, coarsest first."""
DROPOUT = 0.1


class TapUNet(nn.Module):
    """Four token maps (B, dim, rows, columns) to 64 dense features; GeoladderError unless 32 divides `dim`."""

    channels = CHANNELS[-1]

    def __init__(self, dim: int) -> None:
        if dim % (4 * GROUP):
            raise GeoladderError(
                f"the U-Net over taps needs tokens of a multiple of {4 * GROUP} channels; got {dim}"
            )
        super().__init__()
        half, quarter = dim // 2, dim // 4
        finest = nn.Sequential(
            nn.ConvTranspose2d(dim, half, 2, stride=2),
            nn.GroupNorm(half // GROUP, half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2),
        )
        finer = nn.ConvTranspose2d(dim, half, 2, stride=2)
        self.scales = nn.ModuleList([finest, finer, nn.Identity(), nn.MaxPool2d(2)])
        inputs = [dim + dim, CHANNELS[0] + half, CHANNELS[1] + quarter, CHANNELS[2]]
        self.steps = nn.ModuleList(
            nn.Sequential(conv_norm(wide, narrow, 3, nn.ReLU), conv_norm(narrow, narrow, 3, nn.ReLU))
            for wide, narrow in zip(inputs, CHANNELS, strict=True)
        )
        self.dropout = nn.Dropout(DROPOUT)
        self.apply(init_weights)

    def forward(self, taps: list[Tensor], pixels: Tensor) -> Tensor:
        """Features (B, 64, H, W) as large as `pixels` (B, any, H, W) from four taps, the earliest first."""
        *maps, x = (scale(tap) for scale, tap in zip(self.scales, taps, strict=True))
        for step, fine in zip(self.steps, reversed(maps), strict=False):
            x = step(torch.cat([functional.interpolate(x, size=fine.shape[2:], mode="nearest"), fine], 1))
        return resize(self.dropout(self.steps[-1](x)), pixels.shape[2:])
