"""Mamba-UPerNet: selective state spaces (S6) swept over the rows and columns of the patch grid, and a small UPerNet.

The mixer's parameters have the names and shapes of `mamba_ssm.Mamba`, so that state dicts go both ways. One
mixer reads the grid in one order; blocks take turns along rows and columns, each forwards and backwards, so that four
blocks look in all directions at the cost of one scan each. Tokens carry no code of their place: a scan knows order,
and with one the model learned more slowly. `sweep` picks one order a block in turns (the default), two or four.

`PaperMambaUPerNet` is the paper's: its ViT-B of patch 16 with every attention replaced by a two-dimensional scan.
Apart from the mixer little differs from the ViT, so that the two compare mixers: patches by one linear map,
the fixed 2-D sine-cosine place code, pre-norm blocks, four equally spaced taps, the wide UPerNet. No code of it is
published; 12 blocks of 768 channels with `expand` 2 give the stated size. The grid is scanned from the first row and
column in even blocks and from the last in odd ones, since one direction alone would leave the first token blind; this
adds no parameter. There is no CLS token, which a scan has no place for: the summary is the mean token.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.causal_conv import causal_convolution
from geoladder.models.mamba2d import M2DMixer
from geoladder.models.patches import PatchEmbedding, PlainPatches
from geoladder.models.scan import selective_scan
from geoladder.models.tokens import Encoder, TokenBlock, TokenUPerNet, check_tokens, damp, start_steps
from geoladder.models.upernet import PaperUPerNet, UPerNet
from geoladder.models.vit import PAPER_TEMPERATURE

KERNEL = 4
"""Tokens under the causal convolution."""
SWEEPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "alternate": ((0,), (1,), (2,), (3,)),
    "bidirectional": ((0, 1),),
    "cross": ((0, 1, 2, 3),),
}
"""By name, what blocks take in turns: which of `reading_orders` are run through one block's parameters and summed.
All four at once are VMamba's cross-scan (arXiv 2401.10166)."""


def reading_orders(rows: int, columns: int) -> list[list[int]]:
    """Tokens of a grid, numbered row by row, as read by rows from the first or last, and by columns from either."""
    by_rows = list(range(rows * columns))
    by_columns = [row * columns + column for column in range(columns) for row in range(rows)]
    return [by_rows, by_rows[::-1], by_columns, by_columns[::-1]]


class Mixer(nn.Module):
    """Mamba's S6 mixer (arXiv 2312.00752, figure 3), reading a grid of tokens along one sweep.

    Parameters as `mamba_ssm.Mamba`: in_proj, conv1d, x_proj, dt_proj, A_log, D, out_proj.

    Args:
        dim: of a token.
        d_state: states per channel.
        expand: channels of the scan per token channel.
        sweep: which of `reading_orders` the tokens are read in; outputs are summed.
    """

    def __init__(self, dim: int, d_state: int, expand: int, sweep: tuple[int, ...]) -> None:
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
        orders = torch.tensor(reading_orders(rows, columns), device=x.device)[
            list(self.sweep)
        ]  # (sweeps, tokens)
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
        if sweep not in SWEEPS:
            raise GeoladderError(f"a Mamba-UPerNet's sweep is {', '.join(SWEEPS)}; got '{sweep}'")
        sweeps = SWEEPS[sweep]

        def block(number: int) -> Block:
            return Block(width, Mixer(width, d_state, expand, sweeps[number % len(sweeps)]), mlp_ratio)

        encoder = Encoder(width, depth, PatchEmbedding(bands, width, patch, stem), block)
        super().__init__(encoder, UPerNet(width, decoder, patch, bands), patch, width, bands)


class PaperMambaUPerNet(TokenUPerNet):
    """Mamba encoder of the ViT's form and the paper's UPerNet.

    Args:
        width: of a token; a multiple of 4.
        depth: blocks; a multiple of 4.
        patch: side of a patch in pixels.
        d_state: states per channel of a scan.
        expand: channels of the scan per token channel.
        mlp_ratio: hidden units of the MLP per token channel.
        bands: of the image.

    Raises:
        GeoladderError: the arguments do not fit together.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        patch: int,
        d_state: int = 16,
        expand: int = 2,
        mlp_ratio: int = 4,
        bands: int = 10,
    ) -> None:
        requirements = {"a width and a depth that are multiples of 4": width % 4 == depth % 4 == 0 < depth}
        check_tokens("a Mamba-UPerNet of the paper", requirements, width=width, depth=depth)

        def block(number: int) -> Block:
            return Block(width, M2DMixer(width, d_state, expand, turned=number % 2 == 1), mlp_ratio)

        encoder = Encoder(
            width, depth, PlainPatches(bands, width, patch), block, temperature=PAPER_TEMPERATURE
        )
        super().__init__(encoder, PaperUPerNet(width), patch, width, bands)
