"""The encoder of all token models: patches, place code, blocks, taps, summary.

Patches take pixels (B, bands, H, W), filled where hidden, to tokens (B, rows, columns, dim) of `patch` pixels a side,
either by a plain linear map or with a 4x4 convolution of stride 2 before it ("early convolutions", Xiao et al., 2021,
arXiv 2106.14881), since a small model has only a few hundred steps to learn what one convolution knows. Hidden pixels
are filled before it, so nothing leaks; a patch whose pixels are all `hidden` (B, 1, H, W bool) becomes a learned mask
token, so that pretraining and fine-tuning run the same network. Place is coded apart: a scan has its own order.

Attention blocks take a row of tokens (B, 1 + N, width) that begins with a CLS token, which is the summary from which
place and climate are read. Mamba blocks take the grid (B, rows, columns, width), since a scan has no place for a CLS
token; their summary is the mean token.
"""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Started, damp, start

MLP_RATIO = 4
"""Hidden units of a block's MLP per token channel."""


def with_mask_token(tokens: Tensor, hidden: Tensor | None, patch: int, mask_token: Tensor) -> Tensor:
    """Tokens with the mask token (dim,) where a patch is wholly hidden, see the module; None hides nothing."""
    if hidden is None:
        return tokens
    wholly = functional.max_pool2d((~hidden).float(), patch)[:, 0, :, :, None] == 0
    return torch.where(wholly, mask_token.to(tokens.dtype), tokens)


class PatchEmbedding(nn.Module):
    """By a convolution to `stem` channels at half resolution, GELU, and a linear map of each patch; see the module.

    Raises GeoladderError where `patch` is odd.
    """

    def __init__(self, bands: int, dim: int, patch: int, stem: int) -> None:
        if patch % 2:
            raise GeoladderError(f"patches after a stem of stride 2 need an even side; got patch {patch}")
        super().__init__()
        self.patch = patch
        self.stem = nn.Conv2d(bands, stem, 4, stride=2, padding=1)
        self.embed = nn.Conv2d(stem, dim, patch // 2, stride=patch // 2)
        self.mask_token = nn.Parameter(0.02 * torch.randn(dim))

    def forward(self, pixels: Tensor, hidden: Tensor | None) -> Tensor:
        """(B, bands, H, W) and `hidden` (B, 1, H, W) to tokens (B, rows, columns, dim)."""
        tokens = self.embed(functional.gelu(self.stem(pixels))).permute(0, 2, 3, 1)
        return with_mask_token(tokens, hidden, self.patch, self.mask_token)


class PlainPatches(nn.Module):
    """By one linear map of each patch; see the module.

    It is the usual convolution whose stride is its kernel, written as the matrix product it is: on CPUs with AMX
    torch 2.13 returns wrong numbers for such a convolution of stride 16 in bf16 (compare pytorch issue 169688).
    """

    def __init__(self, bands: int, dim: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(bands * patch**2, dim)
        self.mask_token = nn.Parameter(0.02 * torch.randn(dim))

    def forward(self, pixels: Tensor, hidden: Tensor | None) -> Tensor:
        """(B, bands, H, W) and `hidden` (B, 1, H, W) to tokens (B, rows, columns, dim)."""
        grid = pixels.unflatten(2, (-1, self.patch)).unflatten(4, (-1, self.patch))
        patches = grid.permute(0, 2, 4, 1, 3, 5).flatten(3)  # rows, columns, bands x side x side
        return with_mask_token(self.embed(patches), hidden, self.patch, self.mask_token)


@lru_cache(maxsize=16)
def position_code(rows: int, columns: int, dim: int, temperature: float) -> np.ndarray:
    """Fixed 2-D sine-cosine code (Vaswani et al., 2017, per axis; half of the channels each for x and y).

    Returns:
        (rows, columns, dim) float32; `dim` is a multiple of 4, `temperature` longest over shortest wavelength.
    """
    frequency = temperature ** (-np.arange(dim // 4) / (dim // 4))
    angles = [index[..., None] * frequency for index in np.meshgrid(np.arange(columns), np.arange(rows))]
    parts = [function(angle) for angle in angles for function in (np.sin, np.cos)]
    return np.concatenate(parts, -1).astype(np.float32)


def tap_blocks(depth: int) -> list[int]:
    """Four equally spaced blocks (from 0) whose outputs are tapped, the last block among them.

    The authors tap blocks 5, 15, 23 and 31 of 32 in one place and others elsewhere; this gives 7, 15, 23, 31.
    """
    return [depth * k // 4 - 1 for k in (1, 2, 3, 4)]


class MixerBlock(Started):
    """Norm and mixer, with `local` beside it if there is one; norm and MLP; on a grid (B, rows, columns, dim)."""

    def __init__(self, dim: int, mixer: nn.Module, local: nn.Module | None = None) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mixer, self.local = mixer, local
        self.fc1 = nn.Linear(dim, MLP_RATIO * dim)
        self.fc2 = nn.Linear(MLP_RATIO * dim, dim)

    def start(self, depth: int) -> None:
        """Damp the second branch; mixer and `local` damp the first."""
        damp(self.fc2, 2 * depth)

    def forward(self, x: Tensor) -> Tensor:
        """(B, rows, columns, dim) to the same."""
        normal = self.norm1(x)
        x = x + self.mixer(normal)
        if self.local is not None:
            x = x + self.local(normal)
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


class Encoder(nn.Module):
    """Pixels (B, bands, H, W), filled where hidden, to four taps and a summary.

    The first `bands` channels go through `stem`, if there is one, and `patches`, which takes them and what is hidden
    to tokens (B, rows, columns, width). `width` and the number of `blocks` are multiples of 4. Blocks are iterated
    once, after the CLS token is made, so that a generator draws their random numbers after its. With `cls` they take
    a row of tokens with a CLS token before it, else the grid. The place code has a `temperature`; 0 adds none. That
    of a grid of side `code_side` is kept among the parameters, untrained; 0 keeps none. The summary is `latent`
    numbers by a linear map of the CLS token; 0 takes that token itself.

    Raises:
        GeoladderError: the width or the number of blocks is not a multiple of 4.
    """

    def __init__(
        self,
        bands: int,
        width: int,
        blocks: Iterable[nn.Module],
        patches: nn.Module,
        cls: bool = False,
        temperature: float = 0,
        code_side: int = 0,
        stem: nn.Module | None = None,
        latent: int = 0,
    ) -> None:
        super().__init__()
        self.bands, self.temperature = bands, temperature
        self.stem = stem or nn.Identity()
        self.patches = patches
        self.cls = nn.Parameter(0.02 * torch.randn(width)) if cls else None
        self.position: nn.Parameter | None = None
        if code_side:
            place = torch.from_numpy(position_code(code_side, code_side, width, temperature)).flatten(0, 1)
            # The first row belongs to the CLS token.
            self.position = nn.Parameter(functional.pad(place, (0, 0, 1, 0)), requires_grad=False)
        self.blocks = nn.ModuleList(blocks)
        depth = len(self.blocks)
        if width % 4 or depth % 4 or not depth:
            raise GeoladderError(
                f"token models need a width and a depth that are multiples of 4; got width {width}, depth {depth}"
            )
        self.taps = tap_blocks(depth)
        self.norm = nn.LayerNorm(width)
        self.to_latent = nn.Linear(width, latent) if latent else nn.Identity()
        start(self, depth)

    def forward(self, pixels: Tensor, hidden: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """Taps (B, width, rows, columns), the last one normalised, and the summary (B, width or latent)."""
        grid = self.patches(self.stem(pixels[:, : self.bands]), hidden)
        if self.temperature:
            grid = grid + self._place(*grid.shape[1:]).to(grid)
        x = grid
        if self.cls is not None:
            cls = self.cls.to(grid.dtype).expand(len(grid), 1, -1)
            x = torch.cat([cls, grid.flatten(1, 2)], 1)
        taps, depth = [], len(self.blocks)
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number == depth - 1:
                x = self.norm(x)
            if number in self.taps:
                tokens = x if self.cls is None else x[:, 1:].reshape(grid.shape)
                taps.append(tokens.permute(0, 3, 1, 2))
        return taps, x.mean((1, 2)) if self.cls is None else self.to_latent(x[:, 0])

    def _place(self, rows: int, columns: int, width: int) -> Tensor:
        if self.position is not None and len(self.position) == rows * columns + 1 and rows == columns:
            return self.position[1:].view(rows, columns, width)
        return torch.from_numpy(position_code(rows, columns, width, self.temperature))
