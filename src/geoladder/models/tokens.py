"""The encoder of all token models, and the model around it: patches, place code, blocks, taps, summary, decoder.

Attention blocks take a row of tokens (B, 1 + N, width) that begins with a CLS token, which is the summary from which
place and climate are read. Mamba blocks take the grid (B, rows, columns, width), since a scan has no place for a CLS
token; their summary is the mean token. Hidden patches enter as a learned mask token (geoladder.models.patches) at
their position, so that pretraining and fine-tuning run the same network.
"""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Features, Fill, channels_last, check_input, hide, init_weights
from geoladder.models.upernet import GRID_MULTIPLE, PaperUPerNet, UPerNet

STEP_RANGE = (0.001, 0.1)
"""Of the initial step sizes of a selective scan (Gu and Dao, arXiv 2312.00752)."""


@lru_cache(maxsize=16)
def _sincos(rows: int, columns: int, dim: int, temperature: float) -> np.ndarray:
    quarter = dim // 4
    frequency = temperature ** (-np.arange(quarter) / quarter)
    parts = []
    for index in np.meshgrid(np.arange(columns), np.arange(rows)):
        angle = index.reshape(-1, 1) * frequency
        parts += [np.sin(angle), np.cos(angle)]
    return np.concatenate(parts, 1).astype(np.float32)


def position_code(rows: int, columns: int, dim: int, temperature: float) -> Tensor:
    """Fixed 2-D sine-cosine code (Vaswani et al., 2017, per axis; half of the channels each for x and y).

    Args:
        rows: of the grid.
        columns: of the grid.
        dim: channels, a multiple of 4.
        temperature: longest over shortest wavelength.

    Returns:
        (rows * columns, dim) float32, row by row.
    """
    return torch.from_numpy(_sincos(rows, columns, dim, temperature))


def tap_blocks(depth: int) -> list[int]:
    """Four equally spaced blocks (from 0) whose outputs are tapped, the last block among them.

    The authors tap blocks 5, 15, 23 and 31 of 32 in one place and others elsewhere; this gives 7, 15, 23, 31.
    """
    return [depth * k // 4 - 1 for k in (1, 2, 3, 4)]


def damp(last_layers: Iterable[nn.Linear], depth: int) -> None:
    """Scale down layers that end residual branches, two in each block, so that depth does not grow the signal."""
    for last in last_layers:
        last.weight.data.mul_((2 * depth) ** -0.5)


def start_steps(*layers: nn.Linear) -> None:
    """Give `layers` (rank to channels, before a softplus) the same initial steps, log-uniform in STEP_RANGE.

    Random numbers come from torch's current generator.
    """
    low, high = (math.log(bound) for bound in STEP_RANGE)
    with torch.no_grad():
        step = torch.exp(low + (high - low) * torch.rand_like(layers[0].bias))
        for layer in layers:
            layer.bias.copy_(step + torch.log(-torch.expm1(-step)))  # inverse of softplus
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound)


class TokenBlock(nn.Module):
    """A residual block of an encoder; tokens to tokens of the same shape."""

    def start(self, depth: int) -> None:
        """Set what `init_weights` does not know of, in one of `depth` blocks; may draw random numbers."""
        raise NotImplementedError


class Encoder(nn.Module):
    """Pixels (B, bands, H, W), filled where hidden, to four taps and a summary.

    Args:
        width: channels of a token.
        depth: number of blocks, a multiple of 4.
        patches: from pixels and what is hidden to tokens (B, rows, columns, width).
        block: makes a block, given its number from 0.
        cls: whether blocks take a row of tokens with a CLS token before it, and not the grid.
        temperature: of the place code; None adds none.
        code_side: side of the grid whose place code is kept among the parameters, untrained; 0 keeps none.
        stem: what pixels go through before the patches.
        latent: numbers of the summary, by a linear map of the CLS token; 0 takes the token itself.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        patches: nn.Module,
        block: Callable[[int], TokenBlock],
        cls: bool = False,
        temperature: float | None = None,
        code_side: int = 0,
        stem: nn.Module | None = None,
        latent: int = 0,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.stem = stem or nn.Identity()
        self.patches = patches
        self.cls = nn.Parameter(0.02 * torch.randn(width)) if cls else None
        self.position: nn.Parameter | None = None
        if code_side and temperature:
            place = position_code(code_side, code_side, width, temperature)
            # The first row belongs to the CLS token.
            self.position = nn.Parameter(functional.pad(place, (0, 0, 1, 0)), requires_grad=False)
        blocks = [block(number) for number in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.to_latent = nn.Linear(width, latent) if latent else nn.Identity()
        self.apply(init_weights)
        for started in blocks:
            started.start(depth)

    def forward(self, pixels: Tensor, hidden: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """Taps (B, width, rows, columns), the last one normalised, and the summary (B, width or latent)."""
        grid = self.patches(self.stem(pixels), hidden)
        batch, rows, columns, width = grid.shape
        if self.temperature:
            grid = grid + self._place(rows, columns, width).to(grid).view(rows, columns, width)
        x = grid
        if self.cls is not None:
            x = torch.cat([self.cls.to(grid.dtype).expand(batch, 1, width), grid.flatten(1, 2)], 1)
        taps, depth = [], len(self.blocks)
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number == depth - 1:
                x = self.norm(x)
            if number in tap_blocks(depth):
                tokens = x if self.cls is None else x[:, 1:].reshape(grid.shape)
                taps.append(tokens.permute(0, 3, 1, 2))
        return taps, x.mean((1, 2)) if self.cls is None else self.to_latent(x[:, 0])

    def _place(self, rows: int, columns: int, width: int) -> Tensor:
        if self.position is not None and len(self.position) == rows * columns + 1 and rows == columns:
            return self.position[1:]
        return position_code(rows, columns, width, self.temperature or 1)


class TokenUPerNet(nn.Module):
    """A token encoder and a UPerNet: the `Backbone` that the classes of the families fill.

    Args:
        encoder: of the family.
        decoder: either layout.
        patch: side of a patch in pixels.
        summary_dim: numbers of the summary.
        bands: of the image.
    """

    fill: Fill = "mean"

    def __init__(
        self, encoder: Encoder, decoder: UPerNet | PaperUPerNet, patch: int, summary_dim: int, bands: int
    ) -> None:
        super().__init__()
        self.bands, self.stride = bands, patch * GRID_MULTIPLE
        self.dense_channels, self.summary_dim = decoder.channels, summary_dim
        self.encoder, self.decoder = encoder, decoder
        channels_last(self)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Features:
        """Features of an image; see geoladder.models.backbone.Backbone. H and W multiples of 2 patches."""
        check_input(x, self.bands, self.stride)
        pixels = torch.cat(hide(x, mask, self.fill), 1).contiguous(memory_format=torch.channels_last)
        taps, summary = self.encoder(pixels[:, : self.bands], mask)
        return Features(self.decoder(taps, pixels), summary)


def check_tokens(name: str, requirements: dict[str, bool], **arguments: int) -> None:
    """Refuse arguments of a token model that do not fit together.

    Args:
        name: of the model, with its article.
        requirements: what it needs, in words, and whether that is met.
        arguments: named in the message.

    Raises:
        GeoladderError: a requirement is not met.
    """
    if not all(requirements.values()):
        got = ", ".join(f"{key} {value}" for key, value in arguments.items())
        raise GeoladderError(f"{name} needs {', '.join(requirements)}; got {got}")
