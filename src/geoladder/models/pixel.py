"""Per-pixel baseline: 1x1 convolutions, so a pixel is judged by its own spectrum alone. Never pretrained.

It is what a spatial model must beat. Whatever it scores, no context was used for it.
"""

from torch import Tensor, nn
from torch.nn import functional

from geoladder.models.backbone import Backbone, Features, init_weights


class PixelMLP(Backbone):
    """`depth` layers of `width` units on every pixel of an image of any size; the summary is a mean."""

    def __init__(self, width: int, depth: int, bands: int = 10) -> None:
        inputs = [bands + 1] + [width] * (depth - 1)
        layers = nn.Sequential(*(nn.Conv2d(channels, width, 1) for channels in inputs))
        layers.apply(init_weights)
        super().__init__(layers, nn.Identity(), bands, stride_px=1, dense_channels=width, summary_dim=width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Features:
        """As `Backbone.forward`."""
        h = self.visible(x, mask)
        for layer in self.encoder.children():
            h = functional.gelu(layer(h))
        return Features(h, h.mean((2, 3)))
