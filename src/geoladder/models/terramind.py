"""TerraMind v1 (Jakubik et al., 2025, arXiv 2504.11171): the encoder of its modality S2L2A, as a plain ViT.

Blocks are pre-norm, with a gated MLP (SwiGLU, Shazeer, 2020) and no biases; there is no CLS token. A patch is taken
pixel by pixel, all bands of a pixel side by side. Place is a fixed code of 14 x 14 patches, brought to other grids
bicubically; one more vector says which modality a token is of. State dicts of the release load under the names of
the entry (`geoladder.models.architectures.terramind`).
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.models.backbone import Started, damp
from geoladder.models.released import IMAGE_PX, Released, ReleasedEncoder, resized_code
from geoladder.models.tap_unet import TapUNet
from geoladder.models.tokens import MLP_RATIO, position_code
from geoladder.models.vit import attend

PATCH_PX = 16
TEMPERATURE = 10_000.0
EPSILON = 1e-6


class GatedBlock(Started):
    """Pre-norm attention and gated MLP without biases; tokens (B, T, dim) to the same."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        hidden = 2 * MLP_RATIO * dim // 3
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=EPSILON, bias=False) for _ in range(2))
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)
        self.fc1, self.fc3 = (nn.Linear(dim, hidden, bias=False) for _ in range(2))
        self.fc2 = nn.Linear(hidden, dim, bias=False)

    def start(self, depth: int) -> None:
        """Damp both branches."""
        damp(self.proj, 2 * depth)
        damp(self.fc2, 2 * depth)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, T, dim) to (B, T, dim)."""
        x = x + self.proj(attend(self.qkv(self.norm1(x)), self.heads))
        normal = self.norm2(x)
        return x + self.fc2(functional.silu(self.fc1(normal)) * self.fc3(normal))


@lru_cache(maxsize=16)
def place_code(rows: int, columns: int, dim: int) -> np.ndarray:
    """Code of place (rows, columns, dim) float32; its first half is of the row."""
    side = IMAGE_PX // PATCH_PX
    by_column_first = position_code(side, side, dim, TEMPERATURE)
    return resized_code(by_column_first.transpose(1, 0, 2), rows, columns, align_corners=False)


class TerraMindPatches(nn.Module):
    """Bands (B, bands, H, W) to tokens (B, rows, columns, dim) with place and modality."""

    def __init__(self, bands: int, dim: int) -> None:
        super().__init__()
        self.embed = nn.Linear(PATCH_PX**2 * bands, dim, bias=False)
        self.modality = nn.Parameter(0.02 * torch.randn(dim))

    def forward(self, pixels: Tensor, coordinates: Tensor | None = None) -> Tensor:
        """Tokens; TerraMind takes no coordinates with its pixels."""
        grid = pixels.unflatten(2, (-1, PATCH_PX)).unflatten(4, (-1, PATCH_PX))
        tokens = self.embed(grid.permute(0, 2, 4, 3, 5, 1).flatten(3))  # rows, columns, side x side x bands
        place = torch.from_numpy(place_code(*tokens.shape[1:])).to(tokens)
        return tokens + (place + self.modality.to(tokens.dtype))


class TerraMind(Released):
    """TerraMind of `depth` blocks of `width` channels in `heads` heads; `order` is that of its bands."""

    def __init__(self, width: int, depth: int, heads: int, order: list[int], bands: int = 10) -> None:
        blocks = (GatedBlock(width, heads) for _ in range(depth))
        norm = nn.LayerNorm(width, eps=EPSILON, bias=False)
        encoder = ReleasedEncoder(TerraMindPatches(len(order), width), blocks, norm, order, cls=False)
        super().__init__(encoder, width, bands, PATCH_PX)


class PaperTerraMind(TerraMind):
    """The same with the paper's decoder."""

    decoder_class = TapUNet
