"""Mamba-UPerNet: selective state spaces (S6) swept over the rows and columns of the patch grid, and a small UPerNet.

Blocks are a ViT's with the attention replaced by a mixer, as in the authors' Mamba-UPerNet. A mixer reads the grid in
one order; blocks take turns along rows and columns, each forwards and backwards, so that four blocks look in all
directions at the cost of one scan each. Tokens carry no code of their place: a scan knows order, and with one the
model learned more slowly.

`PaperMambaUPerNet` is the paper's: its ViT-B of patch 16 with every attention replaced by a two-dimensional scan.
Apart from the mixer little differs from the ViT, so that the two compare mixers: patches by one linear map,
the fixed 2-D sine-cosine place code, pre-norm blocks, four equally spaced taps, the wide UPerNet. No code of it is
published; 12 blocks of 768 channels with `expand` 2 give the stated size. The grid is scanned from the first row and
column in even blocks and from the last in odd ones, since one direction alone would leave the first token blind; this
adds no parameter. There is no CLS token, which a scan has no place for: the summary is the mean token.
"""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone, Started, damp, log_rates, start_steps
from geoladder.models.backends import Backend, FusedKernel, check_shapes
from geoladder.models.mamba2d import M2DMixer
from geoladder.models.scan import selective_scan
from geoladder.models.tokens import Encoder, MixerBlock, PatchEmbedding, PlainPatches
from geoladder.models.upernet import GRID_MULTIPLE, PAPER_CHANNELS, PaperUPerNet, UPerNet
from geoladder.models.vit import PAPER_TEMPERATURE

KERNEL = 4
"""Tokens under the causal convolution."""
FUSED = FusedKernel("causal convolution", "causal-conv1d", "causal_conv1d:causal_conv1d_fn")
CHANNELS_LAST_MULTIPLE = 8
"""Of this many channels the fused kernel takes tokens as they lie in memory; other numbers it wants transposed."""
SWEEPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "alternate": ((0,), (1,), (2,), (3,)),
    "bidirectional": ((0, 1),),
    "cross": ((0, 1, 2, 3),),
}
"""By name, what blocks take in turns: which of `reading_orders` are run through one block's parameters and summed.
All four at once are VMamba's cross-scan (arXiv 2401.10166)."""


def causal_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, backend: str = "auto") -> Tensor:
    """Compute y[t] = bias + sum over k of weight[k] x[t - K + 1 + k], with zeros before the first token.

    Tokens x and y are (B, L, D), filters `weight` (D, 1, K), as those of `nn.Conv1d(D, D, K, groups=D)`, and `bias`
    (D,). In plain torch it is a convolution of images of one row, whose memory has channels last: on a CPU torch is
    several times quicker at that than at `conv1d`. On a GPU with the package causal-conv1d it is that package's
    kernel, for a K of 2 to 4. `auto` picks by the device and logs the reason once.

    Raises:
        GeoladderError: shapes that do not fit, an unknown backend, or one that cannot be imported.
    """
    check_shapes("causal convolution needs x (B, L, D) and weight (D, 1, K)", "BTD D1K", x, weight)
    name = choose_backend(x.device.type).name if backend == "auto" else backend
    if name not in BACKENDS:
        raise GeoladderError(f"convolution backend '{name}' is unknown; use auto, {', '.join(BACKENDS)}")
    return BACKENDS[name](x, weight, bias)


@cache
def choose_backend(device_type: str) -> Backend:
    """Backend for a kind of device (`cpu`, `cuda`, `meta`, ...); the reason is logged once."""
    return FUSED.choose(device_type, otherwise="torch")


def _torch(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    padded = functional.pad(x, (0, 0, weight.shape[2] - 1, 0))
    rows = padded.transpose(1, 2).unsqueeze(2)  # (B, D, 1, L + K - 1), channels last in memory
    y = functional.conv2d(rows, weight.unsqueeze(2), bias, groups=weight.shape[0])
    return y.squeeze(2).transpose(1, 2)


def _fused(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    wide = x.shape[2] % CHANNELS_LAST_MULTIPLE == 0
    channels_first = x.contiguous().mT if wide else x.mT.contiguous()  # (B, D, L)
    return FUSED(channels_first, weight.squeeze(1), bias).mT


BACKENDS: dict[str, Callable[..., Tensor]] = {"torch": _torch, "causal_conv1d": _fused}


def reading_orders(rows: int, columns: int) -> list[list[int]]:
    """Tokens of a grid, numbered row by row, as read by rows from the first or last, and by columns from either."""
    by_rows = list(range(rows * columns))
    by_columns = [row * columns + column for column in range(columns) for row in range(rows)]
    return [by_rows, by_rows[::-1], by_columns, by_columns[::-1]]


class Mixer(Started):
    """Mamba's S6 mixer (arXiv 2312.00752, figure 3), reading a grid of tokens along one sweep.

    Parameters have the names and shapes of `mamba_ssm.Mamba`, so that state dicts go both ways. The scan has `expand`
    channels per token channel, each with `d_state` states. `sweep` is which of `reading_orders` the tokens are read
    in; outputs are summed.
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
        self.A_log = log_rates(inner, d_state)
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def start(self, depth: int) -> None:
        """Give the scan its initial steps, and damp the branch."""
        start_steps(self.dt_proj)
        damp(self.out_proj, 2 * depth)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, rows, columns, dim) to the same."""
        _, rows, columns, _ = x.shape
        sweep = [reading_orders(rows, columns)[number] for number in self.sweep]
        orders = torch.tensor(sweep, device=x.device)  # (sweeps, tokens)
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


class MambaUPerNet(Backbone):
    """Mamba encoder and UPerNet decoder.

    `width` channels of a token and `depth` blocks are multiples of 4; `patch` is its side in pixels, even. The patch
    embedding has a stem of `stem` channels, UPerNet and dense features have `decoder`. Scans have `d_state` states
    per channel, `expand` channels per token channel. A `sweep` is `alternate` (one order a block, in turns),
    `bidirectional` or `cross` (two or four a block, summed).
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
        sweep: str = "alternate",
        bands: int = 10,
    ) -> None:
        if sweep not in SWEEPS:
            raise GeoladderError(f"a Mamba-UPerNet's sweep is {', '.join(SWEEPS)}; got '{sweep}'")
        turns = SWEEPS[sweep]
        mixers = (Mixer(width, d_state, expand, turns[number % len(turns)]) for number in range(depth))
        patches = PatchEmbedding(bands, width, patch, stem)
        encoder = Encoder(bands, width, (MixerBlock(width, mixer) for mixer in mixers), patches)
        upernet = UPerNet(width, decoder, patch, bands)
        super().__init__(encoder, upernet, bands, GRID_MULTIPLE * patch, decoder, width)


class PaperMambaUPerNet(Backbone):
    """Mamba encoder of the ViT's form and the paper's UPerNet; arguments as those of `MambaUPerNet`."""

    def __init__(
        self, width: int, depth: int, patch: int, d_state: int = 16, expand: int = 2, bands: int = 10
    ) -> None:
        mixers = (M2DMixer(width, d_state, expand, turned=number % 2 == 1) for number in range(depth))
        blocks = (MixerBlock(width, mixer) for mixer in mixers)
        patches = PlainPatches(bands, width, patch)
        encoder = Encoder(bands, width, blocks, patches, temperature=PAPER_TEMPERATURE)
        super().__init__(encoder, PaperUPerNet(width), bands, GRID_MULTIPLE * patch, PAPER_CHANNELS, width)
