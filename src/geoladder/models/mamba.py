"""Mamba-UPerNet: selective state spaces (S6) swept over the rows and columns of the patch grid, and a small UPerNet.

The mixer's parameters have the names and shapes of `mamba_ssm.Mamba`, so that state dicts go both ways. One
mixer reads the grid in one order; blocks take turns along rows and columns, each forwards and backwards, so that four
blocks look in all directions at the cost of one scan each. Tokens carry no code of their place: a scan knows order,
and with one the model learned more slowly. What is read in which order is a `Sweep`, apart from the mixer: a sweep
of several orders runs them through the same parameters and sums; `sweep` picks one a block in turns (the default),
two or four.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.causal_conv import causal_convolution
from geoladder.models.mamba2d import M2DMixer
from geoladder.models.patches import PatchEmbedding
from geoladder.models.scan import selective_scan
from geoladder.models.steps import start_steps
from geoladder.models.tokens import Encoder, TokenBlock, TokenUPerNet, check_tokens, damp
from geoladder.models.upernet import UPerNet

Sweep = Callable[[int, int], list[list[int]]]
"""From (rows, columns) to orders in which the tokens, numbered row by row, are read; their outputs are summed."""

KERNEL = 4
"""Tokens under the causal convolution."""


def rows_forward(rows: int, columns: int) -> list[list[int]]:
    """Row by row from the first token."""
    return [list(range(rows * columns))]


def rows_backward(rows: int, columns: int) -> list[list[int]]:
    """Row by row from the last token."""
    return [list(reversed(range(rows * columns)))]


def columns_forward(rows: int, columns: int) -> list[list[int]]:
    """Column by column from the first token."""
    return [[row * columns + column for column in range(columns) for row in range(rows)]]


def columns_backward(rows: int, columns: int) -> list[list[int]]:
    """Column by column from the last token."""
    return [columns_forward(rows, columns)[0][::-1]]


SWEEPS: tuple[Sweep, ...] = (rows_forward, rows_backward, columns_forward, columns_backward)
"""Of block 0, 1, 2, 3, 4 (again the first), ..."""


def bidirectional(rows: int, columns: int) -> list[list[int]]:
    """Row by row from either end."""
    return [sweep(rows, columns)[0] for sweep in SWEEPS[:2]]


def cross(rows: int, columns: int) -> list[list[int]]:
    """Rows and columns, each from either end (VMamba's cross-scan, arXiv 2401.10166)."""
    return [sweep(rows, columns)[0] for sweep in SWEEPS]


SWEEPS_OF_BLOCKS: dict[str, tuple[Sweep, ...]] = {
    "alternate": SWEEPS,
    "bidirectional": (bidirectional,),
    "cross": (cross,),
}
"""By name, the sweeps that blocks take in turns."""


class Mixer(nn.Module):
    """Mamba's S6 mixer (arXiv 2312.00752, figure 3), reading a grid of tokens along one sweep.

    Parameters as `mamba_ssm.Mamba`: in_proj, conv1d, x_proj, dt_proj, A_log, D, out_proj.

    Args:
        dim: of a token.
        d_state: states per channel.
        expand: channels of the scan per token channel.
        sweep: orders in which the tokens are read.
    """

    def __init__(self, dim: int, d_state: int, expand: int, sweep: Sweep) -> None:
        super().__init__()
        self.sweep, self.d_state = sweep, d_state
        inner = expand * dim
        self.dt_rank = math.ceil(dim / 16)
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, KERNEL, groups=inner, padding=KERNEL - 1)
        self.x_proj = nn.Linear(inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, inner)
        self.A_log = nn.Parameter(torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def start(self) -> None:
        """Give the scan its initial steps."""
        start_steps(self.dt_proj)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, rows, columns, dim) to the same."""
        _, rows, columns, _ = x.shape
        orders = torch.tensor(self.sweep(rows, columns), device=x.device)  # (sweeps, tokens)
        inputs, gate = self.in_proj(x.flatten(1, 2)).chunk(2, -1)
        outputs = (
            self._scan(inputs.index_select(1, order)).index_select(1, order.argsort()) for order in orders
        )
        return self.out_proj(sum(outputs) * functional.silu(gate)).view_as(x)

    def _scan(self, sequence: Tensor) -> Tensor:
        u = functional.silu(causal_convolution(sequence, self.conv1d.weight, self.conv1d.bias))
        step, b, c = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], -1)
        delta = functional.softplus(self.dt_proj(step))
        rates = -torch.exp(self.A_log.float())
        y = selective_scan(u.mT, delta.mT, rates, b.mT, c.mT, self.D)
        return y.mT


class Block(TokenBlock):
    """A ViT block with the attention replaced by `mixer`, as in the authors' Mamba-UPerNet; on a grid of tokens."""

    def __init__(self, dim: int, mixer: Mixer | M2DMixer, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mixer = mixer
        self.fc1 = nn.Linear(dim, mlp_ratio * dim)
        self.fc2 = nn.Linear(mlp_ratio * dim, dim)

    def start(self, depth: int) -> None:
        """Start the steps of the scan, and damp both branches."""
        self.mixer.start()
        damp([self.mixer.out_proj, self.fc2], depth)

    def forward(self, x: Tensor) -> Tensor:
        """(B, rows, columns, dim) to the same."""
        x = x + self.mixer(self.norm1(x))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


class MambaUPerNet(TokenUPerNet):
    """Mamba encoder and UPerNet decoder.

    Args:
        width: of a token; a multiple of 4.
        depth: blocks; a multiple of 4.
        patch: side of a patch in pixels; even.
        decoder: channels of the UPerNet and of the dense features.
        stem: channels before the patch embedding.
        d_state: states per channel of a scan.
        expand: channels of the scan per token channel.
        mlp_ratio: hidden units of the MLP per token channel.
        sweep: `alternate` (one order a block, in turns), `bidirectional` or `cross` (two or four a block, summed).
        bands: of the image.

    Raises:
        GeoladderError: the arguments do not fit together.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        patch: int,
        decoder: int,
        stem: int,
        d_state: int,
        expand: int,
        mlp_ratio: int = 4,
        sweep: str = "alternate",
        bands: int = 10,
    ) -> None:
        requirements = {
            "a width and a depth that are multiples of 4": width % 4 == depth % 4 == 0,
            "an even patch": patch % 2 == 0,
        }
        check_tokens("a Mamba-UPerNet", requirements, width=width, depth=depth, patch=patch)
        if sweep not in SWEEPS_OF_BLOCKS:
            raise GeoladderError(f"a Mamba-UPerNet's sweep is {', '.join(SWEEPS_OF_BLOCKS)}; got '{sweep}'")
        sweeps = SWEEPS_OF_BLOCKS[sweep]

        def block(number: int) -> Block:
            return Block(width, Mixer(width, d_state, expand, sweeps[number % len(sweeps)]), mlp_ratio)

        encoder = Encoder(width, depth, PatchEmbedding(bands, width, patch, stem), block)
        super().__init__(encoder, UPerNet(width, decoder, patch, bands), patch, width, bands)
