"""Mamba2D: a four-stage backbone whose blocks scan the grid in two dimensions at once, and a light UPerNet on it.

All stages, the last two included, are the "2D_local" blocks of Mamba2D (Baty et al., arXiv 2412.16146), a
wavefront scan beside a separable convolution; the published M2D-T has attention in two. A scan sees what lies above
and to the left; every second block of a stage reads the grid turned by half, so that two blocks see everything. No
parameter depends on it. With widths 64, 128, 320, 512, depths 3, 3, 9, 3 and `expand` 2 the encoder has the 31.98 M
parameters of the authors' first version. What their description leaves open is settled here so:

- a step's rank is a 16th of the token's channels, B and C are shared by both directions, all projections have biases
- the local branch has its own norm, twice the channels, a 3x3 depthwise kernel, and is added to the mixer's output
- the MLP has four times the channels; residuals have no scales
- stages begin with a 3x3 convolution of stride 2 and end in a norm, from which the decoder reads
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone, Started, damp, log_rates, start, start_steps
from geoladder.models.tokens import MixerBlock, with_mask_token
from geoladder.models.upernet import GROUP, LightUPerNet
from geoladder.models.wavefront import wavefront_scan

STAGES = 4
STEM = 4
"""Side of a cell of the first stage in pixels."""
WIDTHS = (1, 2, 5, 8)
"""Channels of the stages over those of the first, where `dims` says nothing else."""


class M2DMixer(Started):
    """Linear, GELU, wavefront scan with skip, GELU, linear (arXiv 2412.16146, figure 3): (B, rows, columns, dim).

    The scan has `expand` channels per token channel, each with `d_state` states; if `turned`, it goes from the last
    row and column to the first.
    """

    def __init__(self, dim: int, d_state: int, expand: int, turned: bool = False) -> None:
        super().__init__()
        self.d_state, self.turned = d_state, turned
        inner = expand * dim
        self.dt_rank = math.ceil(dim / 16)
        self.in_proj = nn.Linear(dim, inner)
        self.x_proj = nn.Linear(inner, 2 * self.dt_rank + 2 * d_state)
        self.dt_proj_top = nn.Linear(self.dt_rank, inner)
        self.dt_proj_left = nn.Linear(self.dt_rank, inner)
        self.A_top_log, self.A_left_log = log_rates(inner, d_state), log_rates(inner, d_state)
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim)

    def start(self, depth: int) -> None:
        """Give the scan its initial steps, the same from above and from the left, and damp the branch."""
        start_steps(self.dt_proj_top, self.dt_proj_left)
        damp(self.out_proj, 2 * depth)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, rows, columns, dim) to the same."""
        u = functional.gelu(self.in_proj(x.flip(1, 2) if self.turned else x))
        y = self.out_proj(functional.gelu(self._scan(u)))
        return y.flip(1, 2) if self.turned else y

    def _scan(self, u: Tensor) -> Tensor:
        sizes = [self.dt_rank, self.dt_rank, self.d_state, self.d_state]
        step_top, step_left, b, c = self.x_proj(u).split(sizes, -1)
        top, left = self.dt_proj_top(step_top), self.dt_proj_left(step_left)
        rate_top, rate_left = (-torch.exp(rate.float()) for rate in (self.A_top_log, self.A_left_log))
        u, top, left, b, c = (grid.permute(0, 3, 1, 2) for grid in (u, top, left, b, c))
        y = wavefront_scan(u, top, left, rate_top, rate_left, b, c, self.D, softplus=True)
        return y.permute(0, 2, 3, 1)


class _StarReLU(nn.Module):
    """scale * relu(x)² + bias, both learned; starts with mean 0 and variance 1 on normal input (arXiv 2210.13452)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.8944]))
        self.bias = nn.Parameter(torch.tensor([-0.4472]))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * functional.relu(x).square() + self.bias


class _LocalBranch(Started):
    """Norm and separable convolution (pointwise, depthwise, pointwise) of a grid (B, rows, columns, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = 2 * dim
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, inner, bias=False)
        self.act1, self.act2 = _StarReLU(), _StarReLU()
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.narrow = nn.Linear(inner, dim, bias=False)

    def start(self, depth: int) -> None:
        damp(self.narrow, 2 * depth)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.act1(self.widen(self.norm(x))).permute(0, 3, 1, 2)
        return self.narrow(self.act2(self.depthwise(wide).permute(0, 2, 3, 1)))


def stage(dim: int, depth: int, d_state: int, expand: int) -> nn.Sequential:
    """`depth` of the "2D_local" blocks and a norm, on a grid (B, rows, columns, dim)."""
    mixers = (M2DMixer(dim, d_state, expand, turned=number % 2 == 1) for number in range(depth))
    blocks = (MixerBlock(dim, mixer, _LocalBranch(dim)) for mixer in mixers)
    return nn.Sequential(*blocks, nn.LayerNorm(dim))


class _Encoder(nn.Module):
    """Pixels (B, bands, H, W), filled where hidden, to four maps (B, dims[i], H / 4 / 2^i, ...) and a mean token.

    A cell of the first stage whose pixels are all hidden is the mask token.
    """

    def __init__(self, bands: int, dims: list[int], depths: list[int], d_state: int, expand: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(bands, dims[0], 7, stride=STEM, padding=2)
        self.stem_norm = nn.LayerNorm(dims[0])
        self.mask_token = nn.Parameter(0.02 * torch.randn(dims[0]))
        self.downs = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(dims)
        )
        self.stages = nn.ModuleList(
            stage(dim, depth, d_state, expand) for dim, depth in zip(dims, depths, strict=True)
        )
        start(self, sum(depths))

    def forward(self, pixels: Tensor, hidden: Tensor | None) -> tuple[list[Tensor], Tensor]:
        x = self.stem_norm(self.stem(pixels).permute(0, 2, 3, 1))
        x = with_mask_token(x, hidden, STEM, self.mask_token)
        maps = [self.stages[0](x).permute(0, 3, 1, 2)]
        for down, stage in zip(self.downs, self.stages[1:], strict=True):
            maps.append(stage(down(maps[-1]).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return maps, maps[-1].mean((2, 3))


class Mamba2D(Backbone):
    """Mamba2D encoder and a light UPerNet.

    Each of four stages has `dims` channels, the first of them `width` (None: 1, 2, 5 and 8 times `width`), and
    `depths` blocks; UPerNet and dense features have `decoder`, a multiple of 8. The rest is the mixers'.
    """

    mask_channel = False

    def __init__(
        self,
        width: int,
        depths: list[int],
        decoder: int,
        dims: list[int] | None = None,
        d_state: int = 16,
        expand: int = 2,
        bands: int = 10,
    ) -> None:
        channels = [factor * width for factor in WIDTHS] if dims is None else list(dims)
        if len(channels) != STAGES or len(depths) != STAGES or channels[0] != width or decoder % GROUP:
            raise GeoladderError(
                f"a Mamba2D needs {STAGES} dims, the first of them its width, {STAGES} depths, and a decoder that "
                f"is a multiple of {GROUP}; got width {width}, dims {channels}, depths {depths}, "
                f"decoder {decoder}"
            )
        encoder = _Encoder(bands, channels, depths, d_state, expand)
        upernet = LightUPerNet(channels, decoder)
        super().__init__(encoder, upernet, bands, STEM * 2 ** (STAGES - 1), decoder, channels[-1])
