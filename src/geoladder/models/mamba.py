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

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone, Started, damp, log_rates, start_steps
from geoladder.models.causal_conv import causal_convolution
from geoladder.models.mamba2d import M2DMixer
from geoladder.models.scan import reading_orders, selective_scan
from geoladder.models.tokens import Encoder, MixerBlock, PatchEmbedding, PlainPatches
from geoladder.models.upernet import GRID_MULTIPLE, PAPER_CHANNELS, PaperUPerNet, UPerNet
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
        # All sweeps are one batch: they share their parameters.
        read = torch.cat([inputs.index_select(1, order) for order in orders])
        outputs = self._scan(read).unflatten(0, (len(orders), -1))
        y = sum(part.index_select(1, order.argsort()) for part, order in zip(outputs, orders, strict=True))
        return self.out_proj(y * functional.silu(gate)).view_as(x)

    def _scan(self, sequence: Tensor) -> Tensor:
        u = causal_convolution(sequence, self.conv1d.weight, self.conv1d.bias, silu=True)
        step, b, c = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], -1)
        delta = self.dt_proj(step)
        rates = -torch.exp(self.A_log.float())
        y = selective_scan(u.mT, delta.mT, rates, b.mT, c.mT, self.D, softplus=True)
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
