"""ViT-UPerNet: a plain pre-norm vision transformer on patches, decoded to full resolution by a small UPerNet.

Unusual: the CLS token is the summary from which place and climate are read; hidden patches enter as a learned mask
token, at every position (no token is dropped), so that pretraining and fine-tuning run the same network.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Features, Fill, channels_last, check_input, hide, init_weights
from geoladder.models.patches import PatchEmbedding
from geoladder.models.tapped import damp, run_tapped
from geoladder.models.upernet import GRID_MULTIPLE, UPerNet

TEMPERATURE = 10.0
"""Longest over shortest wavelength of the place code: from 6 to 60 tokens, which suits grids of 8 to 60 a side. With
the usual 10,000 most channels hardly change over such a grid, and a small ViT did not learn to look at its neighbours
within 256 steps: masked error 0.71 in place of 0.61 to 0.64 on smooth random fields."""


@lru_cache(maxsize=16)
def _sincos(rows: int, columns: int, dim: int, temperature: float) -> np.ndarray:
    quarter = dim // 4
    frequency = temperature ** (-np.arange(quarter) / quarter)
    parts = []
    for index in np.meshgrid(np.arange(columns), np.arange(rows)):
        angle = index.reshape(-1, 1) * frequency
        parts += [np.sin(angle), np.cos(angle)]
    return np.concatenate(parts, 1).astype(np.float32)


def position_code(rows: int, columns: int, dim: int, temperature: float = TEMPERATURE) -> Tensor:
    """Fixed 2-D sine-cosine code (Vaswani et al., 2017, per axis; half of the channels each for x and y).

    Returns:
        (rows * columns, dim) float32, row by row. `dim` must be a multiple of 4.
    """
    return torch.from_numpy(_sincos(rows, columns, dim, temperature))


class Block(nn.Module):
    """Pre-norm attention and MLP (Dosovitskiy et al., 2021); tokens (B, T, dim) to the same."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.fc1 = nn.Linear(dim, mlp_ratio * dim)
        self.fc2 = nn.Linear(mlp_ratio * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, T, dim) to (B, T, dim)."""
        batch, tokens, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(attended.transpose(1, 2).reshape(batch, tokens, dim))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


class Encoder(nn.Module):
    """Patches, CLS token, blocks and final norm; pixels (B, bands, H, W) to four taps and the CLS token."""

    def __init__(
        self, bands: int, width: int, depth: int, heads: int, patch: int, stem: int, mlp_ratio: int
    ) -> None:
        super().__init__()
        self.patches = PatchEmbedding(bands, width, patch, stem)
        self.cls = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.apply(init_weights)
        for layer in self.modules():
            if isinstance(layer, Block):
                damp([layer.proj, layer.fc2], depth)

    def forward(self, pixels: Tensor, hidden: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """Taps (B, width, rows, columns), the last one normalised, and the CLS token (B, width)."""
        grid = self.patches(pixels, hidden)
        batch, rows, columns, width = grid.shape
        tokens = grid.flatten(1, 2) + position_code(rows, columns, width).to(grid)
        x = torch.cat([self.cls.to(grid.dtype).expand(batch, 1, width), tokens], 1)
        taps, x = run_tapped(
            self.blocks,
            self.norm,
            x,
            lambda tokens: tokens[:, 1:].reshape(batch, rows, columns, width).permute(0, 3, 1, 2),
        )
        return taps, x[:, 0]


class ViTUPerNet(nn.Module):
    """ViT encoder and UPerNet decoder.

    Args:
        width: of a token; a multiple of 4 and of `heads`.
        depth: blocks; a multiple of 4.
        heads: of attention.
        patch: side of a patch in pixels; even.
        decoder: channels of the UPerNet and of the dense features.
        stem: channels before the patch embedding.
        mlp_ratio: hidden units of the MLP per token channel.
        bands: of the image.

    Raises:
        GeoladderError: the arguments do not fit together.
    """

    fill: Fill = "mean"

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        decoder: int,
        stem: int,
        mlp_ratio: int = 4,
        bands: int = 10,
    ) -> None:
        super().__init__()
        if width % 4 or width % heads or depth % 4 or patch % 2:
            raise GeoladderError(
                f"a ViT-UPerNet needs a width that is a multiple of 4 and of its heads, a depth that is a multiple "
                f"of 4 and an even patch; got width {width}, heads {heads}, depth {depth}, patch {patch}"
            )
        self.bands, self.stride = bands, patch * GRID_MULTIPLE
        self.dense_channels, self.summary_dim = decoder, width
        self.encoder = Encoder(bands, width, depth, heads, patch, stem, mlp_ratio)
        self.decoder = UPerNet(width, decoder, patch, bands)
        channels_last(self)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Features:
        """Features of an image; see geoladder.models.backbone.Backbone. H and W multiples of 2 patches."""
        check_input(x, self.bands, self.stride)
        pixels = torch.cat(hide(x, mask, self.fill), 1).contiguous(memory_format=torch.channels_last)
        taps, cls = self.encoder(pixels[:, : self.bands], mask)
        return Features(self.decoder(taps, pixels), cls)
