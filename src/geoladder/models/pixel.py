"""Per-pixel baseline: 1x1 convolutions, so a pixel is judged by its own spectrum alone. Never pretrained.

It is what a spatial model must beat. Whatever it scores, no context was used for it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.models.backbone import Features, Fill, channels_last, check_input, hide, init_weights


class PixelMLP(nn.Module):
    """One multilayer perceptron applied to every pixel.

    Args:
        width: units of each layer.
        depth: hidden layers.
        bands: of the image.
    """

    stride = 1
    fill: Fill = "mean"

    def __init__(self, width: int, depth: int, bands: int = 10) -> None:
        super().__init__()
        self.bands = bands
        self.dense_channels = self.summary_dim = width
        inputs = [bands + 1] + [width] * (depth - 1)
        self.encoder = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in inputs)
        self.apply(init_weights)
        channels_last(self)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Features:
        """Features of an image; see geoladder.models.backbone.Backbone. Any H and W; the summary is a mean."""
        check_input(x, self.bands, self.stride)
        h = torch.cat(hide(x, mask, self.fill), 1).contiguous(memory_format=torch.channels_last)
        for layer in self.encoder:
            h = functional.gelu(layer(h))
        return Features(h, h.mean((2, 3)))
