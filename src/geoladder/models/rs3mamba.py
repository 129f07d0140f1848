"""RS3Mamba (Ma et al., 2024, arXiv 2404.02457) at the paper's size: a ResNet-50 that a VMamba encoder helps.

At each of four scales the CNN's map asks, by window attention, and the state-space encoder's map answers by
convolutions; two thirds of the parameters are in these four blocks. Place is read from a dense layer on the whole
coarsest map, which locks the model to one image size. Different from the authors' (arXiv 2506.14765), at the same
number of parameters: GroupNorm in place of BatchNorm (geoladder.models.resnet says why), no drop-path, strip means
of attention pad with zeros, and the heads are ours. `AuthorsRS3Mamba` has the layers of their code itself. The stem's
InstanceNorm has no weights.

The encoder's block is VMamba's (Liu et al., 2024, arXiv 2401.10166): a selective scan in four directions (rows,
columns and both backwards), which have step sizes, rates and weights of their own, so they are four scans and cannot
be one. No MLP follows, as in VMamba's first version, which RS3Mamba builds on.
"""

import math
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone, Started, damp, init_weights, log_rates, start, start_steps
from geoladder.models.resnet import EXPANSION, ResNet
from geoladder.models.scan import cross_scan, reading_orders
from geoladder.models.unetformer import HEADS as DECODER_HEADS
from geoladder.models.unetformer import (
    GlobalLocalAttention,
    GlobalLocalBlock,
    Refinement,
    UNetFormerDecoder,
    WeightedSkip,
)
from geoladder.models.upernet import AUTHORS_DROPOUT, BatchNorm, use_batch_norms

SCALES = 4
COARSEST = 32
"""Side of a pixel of the coarsest map in pixels of the image."""
AUTHORS_DROPPED = 0.2
"""Share of images that the authors' last state-space block drops in training; from the first, in equal steps."""
ORDERS = (0, 2, 1, 3)
"""Which of `reading_orders` the four scans of a block read in: rows, columns, and both backwards."""


class SS2D(Started):
    """Gated four-way scan of a grid of tokens (B, rows, columns, dim), with arguments as `mamba.Mixer`."""

    def __init__(self, dim: int, d_state: int, expand: int) -> None:
        super().__init__()
        inner, self.d_state, self.dt_rank = expand * dim, d_state, math.ceil(dim / 16)
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        outputs = self.dt_rank + 2 * d_state
        self.x_projs = nn.ModuleList(nn.Linear(inner, outputs, bias=False) for _ in ORDERS)
        self.dt_projs = nn.ModuleList(nn.Linear(self.dt_rank, inner) for _ in ORDERS)
        self.A_logs = nn.Parameter(log_rates(inner, d_state).data.repeat(len(ORDERS), 1, 1))
        self.Ds = nn.Parameter(torch.ones(len(ORDERS), inner))
        self.norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def start(self, depth: int) -> None:
        """Give each scan its initial steps, and damp the branch, the block's only one."""
        for projection in self.dt_projs:
            start_steps(cast(nn.Linear, projection))
        damp(self.out_proj, depth)

    def forward(self, x: Tensor) -> Tensor:
        """(B, rows, columns, dim) to the same."""
        wide, gate = self.in_proj(x).chunk(2, -1)
        grid = functional.silu(self.conv(wide.permute(0, 3, 1, 2)))
        y = self._scan(grid.flatten(2).mT, *grid.shape[2:])
        return self.out_proj(self.norm(y.view_as(wide)) * functional.silu(gate))

    def _scan(self, u: Tensor, rows: int, columns: int) -> Tensor:
        """Scan tokens (B, rows x columns, inner) in all directions, and add what these give."""
        sizes = [self.dt_rank, self.d_state, self.d_state]
        parts = [project(u).split(sizes, -1) for project in self.x_projs]
        delta = torch.stack(
            [project(step) for project, (step, _, _) in zip(self.dt_projs, parts, strict=True)]
        )
        b, c = (torch.stack([part[which] for part in parts]) for which in (1, 2))
        every = reading_orders(rows, columns)
        orders = torch.tensor([every[order] for order in ORDERS], device=u.device)
        return cross_scan(u, delta, -torch.exp(self.A_logs.float()), b, c, self.Ds, orders)


class _VSSBlock(nn.Module):
    """x + SS2D(norm(x)); (B, rows, columns, dim) to the same."""

    def __init__(self, dim: int, d_state: int, expand: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mixer = SS2D(dim, d_state, expand)
        self.dropped = 0.0
        """Share of images that go past the mixer in training (stochastic depth, arXiv 1603.09382)."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.mixer(self.norm(x))
        if self.training and self.dropped:
            kept = 1 - self.dropped
            y = y * torch.rand(len(y), 1, 1, 1, device=y.device).lt(kept).to(y.dtype) / kept
        return x + y


class _PatchMerging(nn.Module):
    """2 x 2 tokens of (B, rows, columns, dim) become one of twice the channels (Swin, arXiv 2103.14030)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.by_columns = False
        self.norm = nn.LayerNorm(4 * dim)
        self.reduce = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, rows, columns, dim = x.shape
        pairs = x.view(batch, rows // 2, 2, columns // 2, 2, dim).transpose(2, 3)
        pairs = pairs.transpose(3, 4) if self.by_columns else pairs
        return self.reduce(self.norm(pairs.flatten(3)))


class _StateSpaceEncoder(nn.Module):
    """Images (B, bands, H, W) to four maps (B, width 2**i, H / 4 / 2**i, ...)."""

    def __init__(self, bands: int, width: int, depths: list[int], d_state: int, expand: int) -> None:
        super().__init__()
        self.dims, self.depth = [width * 2**stage for stage in range(SCALES)], sum(depths)
        self.stem = nn.Conv2d(bands, width // 2, 7, stride=2, padding=3)
        self.stem_norm = nn.InstanceNorm2d(width // 2)
        self.embed = nn.Conv2d(width // 2, width, 2, stride=2)
        self.embed_norm = nn.LayerNorm(width)
        self.stages = nn.ModuleList(
            nn.Sequential(*(_VSSBlock(dim, d_state, expand) for _ in range(depth)))
            for dim, depth in zip(self.dims, depths, strict=True)
        )
        self.merges = nn.ModuleList(_PatchMerging(fine) for fine, _ in pairwise(self.dims))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.embed(self.stem_norm(self.stem(x)))
        x, maps = self.embed_norm(x.permute(0, 2, 3, 1)), []
        for scale, stage in enumerate(self.stages):
            x = stage(self.merges[scale - 1](x) if scale else x)
            maps.append(x.permute(0, 3, 1, 2))
        return maps


class _Encoder(nn.Module):
    """Both encoders, joined: images (B, bands, H, W) to four fused maps and the embedding (B, latent).

    Maps are (B, cnn.dims[i], H / 4 / 2**i, ...); each is what the CNN's next stage takes. `cells` are the pixels of
    the coarsest.
    """

    def __init__(self, cnn: ResNet, ssm: _StateSpaceEncoder, heads: int, cells: int, latent: int) -> None:
        super().__init__()
        self.cnn, self.ssm = cnn, ssm
        self.fusions = nn.ModuleList(
            GlobalLocalBlock(dim, local_dim, heads) for dim, local_dim in zip(cnn.dims, ssm.dims, strict=True)
        )
        self.to_latent: nn.Module = nn.Linear(cnn.dims[-1] * cells, latent)
        start(self, ssm.depth)

    def forward(self, pixels: Tensor, _mask: Tensor | None) -> tuple[list[Tensor], Tensor]:
        local_maps, maps = self.ssm(pixels), []
        x = self.cnn.stem(pixels)
        for stage, fuse, local in zip(self.cnn.stages, self.fusions, local_maps, strict=True):
            x = fuse(stage(x), local)
            maps.append(x)
        return maps, self.to_latent(x.flatten(1))


class RS3Mamba(Backbone):
    """RS3Mamba for images of one size.

    The state-space encoder has `width` channels in the first of its four stages, `depths` blocks in them, and scans
    of `expand` channels per token channel with `d_state` states each. The ResNet's inner width is two thirds of
    `width`; its stages have `resnet` blocks. Fusions attend with `heads`; decoder and dense features have `decoder`
    channels, a multiple of 8; the embedding has `latent` numbers. Images have sides of `image_px`, a multiple of 32.
    """

    mask_channel = channels_last = False

    def __init__(
        self,
        width: int,
        depths: list[int],
        resnet: list[int],
        heads: int = 16,
        decoder: int = 64,
        latent: int = 1024,
        image_px: int = 128,
        d_state: int = 16,
        expand: int = 2,
        bands: int = 10,
    ) -> None:
        attended = EXPANSION * (2 * width // 3)
        if (
            len(depths) != SCALES
            or len(resnet) != SCALES
            or min(width, decoder, image_px, heads, latent, d_state, expand, *depths, *resnet) < 1
            or (width % 6, decoder % DECODER_HEADS, image_px % COARSEST, attended % heads) != (0, 0, 0, 0)
        ):
            raise GeoladderError(
                f"RS3Mamba needs {SCALES} depths and {SCALES} ResNet depths, a width that is a multiple of 6, heads "
                f"that divide {EXPANSION} times two thirds of it, a decoder of a multiple of {DECODER_HEADS} and an "
                f"image_px of a multiple of {COARSEST}, all at least 1; got depths {depths}, resnet {resnet}, "
                f"width {width}, heads {heads}, decoder {decoder}, image_px {image_px}, latent {latent}, "
                f"d_state {d_state}, expand {expand}"
            )
        cnn = ResNet(bands, 2 * width // 3, resnet)
        ssm = _StateSpaceEncoder(bands, width, depths, d_state, expand)
        encoder = _Encoder(cnn, ssm, heads, (image_px // COARSEST) ** 2, latent)
        unetformer = UNetFormerDecoder(cnn.dims, decoder)
        unetformer.apply(init_weights)
        why = "it reads place from the whole coarsest map"
        super().__init__(encoder, unetformer, bands, COARSEST, decoder, latent, image_px, why)


class AuthorsRS3Mamba(RS3Mamba):
    """RS3Mamba with the layers of the authors' code; arguments as those of `RS3Mamba`.

    BatchNorm is in place of GroupNorm, so results depend on how many images a device has. The state-space stem's
    InstanceNorm has weights, its blocks drop paths, and merging reads the four tokens column by column. Fusions norm
    the state-space map; strip means see one reflected row or column beyond the edge; MLPs and the decoder have ReLU6.
    A GELU comes before the dense layer to the embedding and a LayerNorm after it. The decoder drops a tenth of its
    channels.
    """

    def __init__(
        self,
        width: int,
        depths: list[int],
        resnet: list[int],
        heads: int = 16,
        decoder: int = 64,
        latent: int = 1024,
        image_px: int = 128,
        d_state: int = 16,
        expand: int = 2,
        bands: int = 10,
    ) -> None:
        super().__init__(width, depths, resnet, heads, decoder, latent, image_px, d_state, expand, bands)
        use_batch_norms(self)
        encoder, unetformer = cast(_Encoder, self.encoder), cast(UNetFormerDecoder, self.decoder)
        encoder.ssm.stem_norm = nn.InstanceNorm2d(width // 2, affine=True)
        blocks = [layer for layer in encoder.ssm.modules() if isinstance(layer, _VSSBlock)]
        for number, block in enumerate(blocks):
            block.dropped = AUTHORS_DROPPED * number / max(1, len(blocks) - 1)
        for merge in encoder.ssm.merges:
            cast(_PatchMerging, merge).by_columns = True
        for fusion, dim in zip(encoder.fusions, encoder.ssm.dims, strict=True):
            cast(GlobalLocalBlock, fusion).norm_local = BatchNorm(dim)
        for layer in self.modules():
            if isinstance(layer, GlobalLocalBlock | WeightedSkip | Refinement | UNetFormerDecoder):
                layer.activation = functional.relu6
            if isinstance(layer, GlobalLocalAttention):
                layer.beyond_edge = "reflect"
        encoder.to_latent = nn.Sequential(nn.GELU(), encoder.to_latent, nn.LayerNorm(latent))
        unetformer.last.append(nn.Dropout2d(AUTHORS_DROPOUT))
