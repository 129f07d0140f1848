"""What encoders of released models share: choice of bands, tokens with place, blocks, four taps; and their decoders.

Images come in as the ten bands, standardised by the constants of the model's entry (`Architecture.input`). A band the
model was released with and the ten lack is at its mean, 0. Hidden pixels are filled and no token is learned for them,
since these models are not pretrained here.
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone, start
from geoladder.models.tap_unet import TapUNet
from geoladder.models.tokens import tap_blocks
from geoladder.models.upernet import PaperUPerNet, resize

IMAGE_PX = 224
"""Side of the images they were trained on."""
ABSENT = -1
"""In an order of bands: one that the ten lack."""


class ReleasedEncoder(nn.Module):
    """Pixels (B, 10, H, W) to four taps (B, width, rows, columns), the last one normalised, and a summary (B, width).

    `patches` takes the bands `order` (places among the ten, or `ABSENT`) to tokens with place (B, rows, columns,
    width), given pixels and coordinates. The summary is the CLS token with `cls`, else the mean token. Where
    `patch_px` is not 0, images are first resized, bilinearly, to the nearest multiples of it.
    """

    def __init__(
        self,
        patches: nn.Module,
        blocks: Iterable[nn.Module],
        norm: nn.LayerNorm,
        order: list[int],
        cls: bool,
        patch_px: int = 0,
    ) -> None:
        super().__init__()
        self.order, self.patch_px = order, patch_px
        self.patches = patches
        width = norm.normalized_shape[0]
        self.cls = nn.Parameter(0.02 * torch.randn(width)) if cls else None
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        start(self, len(self.blocks))

    def forward(
        self, pixels: Tensor, hidden: Tensor | None = None, coordinates: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Taps and summary; pixels must be filled where `hidden`. For `coordinates` see the model's patches."""
        grid = self.patches(self._bands(pixels), coordinates)
        x = grid.flatten(1, 2)
        if self.cls is not None:
            x = torch.cat([self.cls.to(x.dtype).expand(len(x), 1, -1), x], 1)
        taps, depth = [], len(self.blocks)
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number == depth - 1:
                x = self.norm(x)
            if number in tap_blocks(depth):
                tokens = x if self.cls is None else x[:, 1:]
                taps.append(tokens.reshape(grid.shape).permute(0, 3, 1, 2))
        return taps, x.mean(1) if self.cls is None else x[:, 0]

    def _bands(self, pixels: Tensor) -> Tensor:
        if self.patch_px:
            sides = [max(1, round(side / self.patch_px)) * self.patch_px for side in pixels.shape[2:]]
            pixels = resize(pixels, sides)
        if ABSENT in self.order:  # the last channel
            pixels = functional.pad(pixels, (0, 0, 0, 0, 0, 1))
        return pixels[:, self.order]


class Released(Backbone):
    """A released encoder and the UPerNet that token models of the paper's sizes have here."""

    mask_channel = False
    decoder_class: ClassVar[type[PaperUPerNet | TapUNet]] = PaperUPerNet

    def __init__(self, encoder: ReleasedEncoder, width: int, bands: int, stride_px: int) -> None:
        if bands <= max(encoder.order):
            raise GeoladderError(f"released models take the ten bands and choose among them; got {bands}")
        decoder = self.decoder_class(width)
        super().__init__(encoder, decoder, bands, stride_px, decoder.channels, width)


def resized_code(code: np.ndarray, rows: int, columns: int, align_corners: bool) -> np.ndarray:
    """A place code (rows, columns, dim) of the images a model was trained on, brought to another grid, bicubic."""
    if code.shape[:2] == (rows, columns):
        return code
    maps = torch.from_numpy(code).permute(2, 0, 1)[None]
    size = (rows, columns)
    resized = functional.interpolate(maps, size=size, mode="bicubic", align_corners=align_corners)
    return resized[0].permute(1, 2, 0).numpy()
