"""Prithvi-EO-2.0 (Szwarcman et al., 2024, arXiv 2412.02732): the encoder for one date, as a plain ViT.

Blocks are those of our ViT, after a CLS token. Place is a fixed code of 16 x 16 or 14 x 14 patches, brought to other
grids bicubically; the last quarter of its channels is of the date's number, which is 0. Models with time and
location (`coordinates`) may also be told when and where an image was taken; they were trained with and without, and
runs of a study give none, since not every bench patch has a date. Patches of 14 pixels fit no image of 128: such
models resize (`resizes`).
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from geoladder.models.released import IMAGE_PX, Released, ReleasedEncoder, resized_code
from geoladder.models.tap_unet import TapUNet
from geoladder.models.tokens import position_code
from geoladder.models.vit import Block

TEMPERATURE = 10_000.0
SCALE = 0.1
"""Initial weight of time and location beside the tokens."""


@lru_cache(maxsize=16)
def place_code(rows: int, columns: int, dim: int, side: int) -> np.ndarray:
    """Code of place (rows, columns, dim) float32 from that of `side` patches a side; `dim` is a multiple of 16."""
    place = position_code(side, side, dim // 4 * 3, TEMPERATURE)
    of_date = np.repeat(
        np.array([0, 1], np.float32), dim // 8
    )  # sine and cosine of the only date's number, 0
    dated = np.broadcast_to(of_date, (side, side, dim // 4))
    return resized_code(np.concatenate([place, dated], -1), rows, columns, align_corners=True)


def waves(values: Tensor, dim: int) -> Tensor:
    """Sine-cosine code (B, dim) of numbers (B,), as of places."""
    frequency = 1.0 / TEMPERATURE ** (
        torch.arange(dim // 2, dtype=values.dtype, device=values.device) / (dim / 2)
    )
    angles = values[:, None] * frequency
    return torch.cat([angles.sin(), angles.cos()], 1)


class TimeAndPlace(nn.Module):
    """Coordinates (B, 4) of images, that is year, day of the year, latitude and longitude, to (B, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        # Frozen: runs give no coordinates, and DDP waits for a gradient of every trainable weight.
        self.time_scale = nn.Parameter(torch.full((1,), SCALE), requires_grad=False)
        self.place_scale = nn.Parameter(torch.full((1,), SCALE), requires_grad=False)

    def forward(self, coordinates: Tensor) -> Tensor:
        """What is added to every token of an image."""
        year, day, lat_deg, lon_deg = (waves(values, self.dim // 2) for values in coordinates.unbind(1))
        time, place = torch.cat([year, day], 1), torch.cat([lat_deg, lon_deg], 1)
        return self.time_scale * time + self.place_scale * place


class PrithviPatches(nn.Module):
    """Bands (B, bands, H, W) to tokens (B, rows, columns, dim) with place, and with time and location if it has them.

    The convolution over patches is a linear map, as in `geoladder.models.tokens.PlainPatches`.
    """

    def __init__(self, bands: int, dim: int, patch: int, coordinates: bool) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(bands * patch**2, dim)
        self.time_and_place = TimeAndPlace(dim) if coordinates else None

    def forward(self, pixels: Tensor, coordinates: Tensor | None = None) -> Tensor:
        """Tokens; `coordinates` (B, 4) float32 as `TimeAndPlace` takes them, None where they are unknown."""
        grid = pixels.unflatten(2, (-1, self.patch)).unflatten(4, (-1, self.patch))
        tokens = self.embed(grid.permute(0, 2, 4, 1, 3, 5).flatten(3))  # rows, columns, bands x side x side
        tokens = tokens + torch.from_numpy(place_code(*tokens.shape[1:], IMAGE_PX // self.patch)).to(tokens)
        if self.time_and_place is None or coordinates is None:
            return tokens
        return tokens + self.time_and_place(coordinates)[:, None, None].to(tokens)


class Prithvi(Released):
    """Prithvi of `depth` blocks of `width` channels in `heads` heads on patches of `patch` pixels.

    `order` is that of its bands. `coordinates` (0 or 1) says whether it takes time and location, `resizes` whether
    images are brought to the nearest multiples of a patch; others must be multiples of two.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        order: list[int],
        coordinates: int = 0,
        resizes: int = 0,
        bands: int = 10,
    ) -> None:
        patches = PrithviPatches(len(order), width, patch, bool(coordinates))
        blocks = (Block(width, heads) for _ in range(depth))
        patch_px = patch if resizes else 0
        encoder = ReleasedEncoder(patches, blocks, nn.LayerNorm(width), order, cls=True, patch_px=patch_px)
        super().__init__(encoder, width, bands, patch)


class PaperPrithvi(Prithvi):
    """The same with the paper's decoder."""

    decoder_class = TapUNet
