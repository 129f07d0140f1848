"""UPerNet (Xiao et al., 2018, arXiv 1807.10221) in three layouts: four maps of an encoder to full resolution.

All pool the coarsest map, add each level to the one above it, smooth levels by 3x3 convolutions and fuse them. Norms
are GroupNorm in place of the authors' BatchNorm, at the same number of parameters: the images on one device differ
between 1 and 32 GPUs, and results must not. The layouts:

- `UPerNet`, of our own rungs: light, so that at small rungs the encoder and not the decoder is what scales. The
  pyramid is at 2, 1, 1 and 1/2 of the token grid, levels are fused by a 1x1 convolution, and full resolution comes
  from one transposed convolution plus a 1x1 path from the pixels
- `PaperUPerNet`, of the paper's token models: 256 channels, a pyramid at 4, 2, 1 and 1/2 of the token grid, four
  pools. Different from the authors' (arXiv 2506.14765): no dropout, and where the finest level is coarser than the
  pixels (patches of 16), features are resized bilinearly, in place of a transposed convolution and a ReLU
- `LightUPerNet`, of hierarchical encoders: the usual one has a 3x3 convolution on every level and another of all
  levels together at the finest, which would take twice the FLOPs of a Mamba2D encoder; here the finest map meets only
  1x1 convolutions, and levels are fused by one 1x1 convolution each on their own grid. With 320 channels it brings
  Mamba2D to the 41 M parameters and 4.6 GFLOPs of the paper, which does not describe its decoder
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import init_weights

GRID_MULTIPLE = 2
"""Rows and columns of tokens must be multiples of this."""
GROUP = 8
"""Channels normalised together."""
POOLS = (1, 2)
"""Bins per side of the pyramid pooling of `UPerNet`."""
PAPER_POOLS = (1, 2, 3, 6)
"""Of the other two."""
PAPER_CHANNELS = 256
AUTHORS_DROPOUT = 0.1
"""Share of channels that the authors' decoders drop in training before the last convolution."""


def conv_norm(inputs: int, outputs: int, kernel: int, activation: type[nn.Module] = nn.GELU) -> nn.Sequential:
    """Convolution without bias, GroupNorm, activation; (B, inputs, H, W) to (B, outputs, H, W)."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(max(1, outputs // GROUP), outputs), activation())


class Pyramid(nn.Module):
    """What the layouts share: laterals, pooling of the coarsest map, sums from the coarsest level to the finest.

    `scales`, where a layout has any, resize the encoder's maps first. `laterals`, finest first, take all maps but the
    coarsest to `channels` channels each, and `pools`, by bins per side, take what is pooled of the coarsest to as
    many. A convolution of side `kernel` joins the coarsest map, of `coarsest` channels, with its pools. `activation`
    follows every norm.
    """

    def __init__(
        self,
        laterals: Sequence[nn.Module],
        pools: Mapping[int, nn.Module],
        coarsest: int,
        channels: int,
        kernel: int,
        activation: type[nn.Module] = nn.GELU,
        scales: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.bins = list(pools)
        self.scales, self.laterals = nn.ModuleList(scales), nn.ModuleList(laterals)
        self.pools = nn.ModuleList(pools.values())
        self.bottleneck = conv_norm(coarsest + len(pools) * channels, channels, kernel, activation)
        self.smooth = nn.ModuleList(conv_norm(channels, channels, 3, activation) for _ in range(3))

    def pool(self, coarsest: Tensor, mode: str = "bilinear") -> Tensor:
        """The coarsest map and its pools, as a level (B, channels, rows, columns)."""
        size = coarsest.shape[2:]
        pooled = [
            resize(conv(functional.adaptive_avg_pool2d(coarsest, bins)), size, mode)
            for bins, conv in zip(self.bins, self.pools, strict=True)
        ]
        return self.bottleneck(torch.cat([coarsest, *pooled], 1))

    def levels(self, maps: list[Tensor], top: Tensor) -> list[Tensor]:
        """Levels (B, channels, rows, columns), each with what is above it, finest first; `top` is the last."""
        levels = [top]
        for lateral, fine in zip(reversed(self.laterals), reversed(maps), strict=True):
            level = lateral(fine)
            levels.insert(0, level + resize(levels[0], level.shape[2:]))
        return levels


class UPerNet(Pyramid):
    """Four token maps (B, dim, rows, columns) and the pixels to dense features; a token is `patch` pixels, even."""

    def __init__(self, dim: int, channels: int, patch: int, bands: int) -> None:
        finest = nn.ConvTranspose2d(dim, channels, 2, stride=2)
        laterals = [finest, conv_norm(dim, channels, 1), conv_norm(dim, channels, 1)]
        pools = {bins: nn.Conv2d(dim, channels, 1) for bins in POOLS}
        super().__init__(laterals, pools, dim, channels, kernel=1)
        self.fuse_finest = nn.Conv2d(channels, channels, 1, bias=False)
        self.fuse_coarser = nn.Conv2d(3 * channels, channels, 1, bias=False)
        self.fuse_norm = nn.GroupNorm(max(1, channels // GROUP), channels)
        self.to_pixels = nn.ConvTranspose2d(channels, channels, patch // 2, stride=patch // 2)
        self.pixels = nn.Conv2d(bands + 1, channels, 1)
        self.apply(init_weights)

    def forward(self, taps: list[Tensor], pixels: Tensor) -> Tensor:
        """Features (B, channels, H, W) from taps, the earliest first, and pixels with mask (B, bands + 1, H, W)."""
        top = resize(self.pool(functional.avg_pool2d(taps[3], 2), mode="nearest"), taps[2].shape[2:])
        levels = self.levels(taps[:3], top)
        finest, middle, coarse = (conv(level) for conv, level in zip(self.smooth, levels[:3], strict=True))
        # A 1x1 convolution and a resize commute: fusing the coarser levels on their own grid saves time.
        coarser = self.fuse_coarser(torch.cat([middle, coarse, top], 1))
        fused = functional.gelu(self.fuse_norm(self.fuse_finest(finest) + resize(coarser, finest.shape[2:])))
        return functional.gelu(self.to_pixels(fused) + self.pixels(pixels))


def _doubling(dim: int, steps: int) -> nn.Sequential:
    """Twice the side at half the channels, once for each of `steps`."""
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(dim // 2**step for step in range(steps + 1)):
        groups = narrow // GROUP if narrow % GROUP == 0 else 1
        conv = nn.ConvTranspose2d(wide, narrow, 2, stride=2, bias=False)
        layers += [conv, nn.GroupNorm(groups, narrow), nn.ReLU()]
    return nn.Sequential(*layers)


class PaperUPerNet(Pyramid):
    """Four token maps (B, dim, rows, columns) to 256 dense features; GeoladderError unless 4 divides `dim`."""

    channels = PAPER_CHANNELS

    def __init__(self, dim: int) -> None:
        if dim % 4:
            raise GeoladderError(f"the paper's UPerNet needs tokens of a multiple of 4 channels; got {dim}")
        channels, relu = PAPER_CHANNELS, nn.ReLU
        scales = [_doubling(dim, 2), _doubling(dim, 1), nn.Identity(), nn.MaxPool2d(2)]
        laterals = [conv_norm(fine, channels, 1, relu) for fine in (dim // 4, dim // 2, dim)]
        pools = {bins: conv_norm(dim, channels, 1, relu) for bins in PAPER_POOLS}
        super().__init__(laterals, pools, dim, channels, 3, relu, scales)
        self.fuse = conv_norm(4 * channels, channels, 3, relu)
        self.apply(init_weights)

    def forward(self, taps: list[Tensor], pixels: Tensor) -> Tensor:
        """Features (B, 256, H, W) as large as `pixels` (B, any, H, W) from four taps, the earliest first."""
        *maps, coarsest = (scale(tap) for scale, tap in zip(self.scales, taps, strict=True))
        *levels, top = self.levels(maps, self.pool(coarsest))
        smooth = [conv(level) for conv, level in zip(self.smooth, levels, strict=True)]
        finest = smooth[0].shape[2:]
        fused = self.fuse(torch.cat([resize(level, finest) for level in (*smooth, top)], 1))
        return resize(fused, pixels.shape[2:])


class LightUPerNet(Pyramid):
    """Maps (B, dims[i], rows / 2**i, columns / 2**i) to `channels` dense features, a multiple of 8."""

    def __init__(self, dims: list[int], channels: int) -> None:
        laterals = [conv_norm(dim, channels, 1) for dim in dims[:-1]]
        pools = {bins: conv_norm(dims[-1], channels, 1) for bins in PAPER_POOLS}
        super().__init__(laterals, pools, dims[-1], channels, kernel=3)
        self.fuse = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in dims)
        self.fuse_norm = nn.GroupNorm(channels // GROUP, channels)
        self.apply(init_weights)

    def forward(self, maps: list[Tensor], pixels: Tensor) -> Tensor:
        """Features (B, channels, H, W) as large as `pixels` (B, any, H, W) from maps (B, dims[i], rows, columns)."""
        finest, *coarser = self.levels(maps[:-1], self.pool(maps[-1]))
        levels = [finest, *(conv(level) for conv, level in zip(self.smooth, coarser, strict=True))]
        # A 1x1 convolution and a resize commute: fusing a level on its own grid saves time.
        fused = self.fuse[-1](levels[-1])
        for conv, level in zip(reversed(self.fuse[:-1]), levels[-2::-1], strict=True):
            fused = conv(level) + resize(fused, level.shape[2:])
        return resize(functional.gelu(self.fuse_norm(fused)), pixels.shape[2:])


def authors_decoder(dim: int, normed_taps: bool) -> PaperUPerNet:
    """The paper's UPerNet as the authors' code has it, from what is known of that.

    BatchNorm is in place of GroupNorm, transposed convolutions have biases, and a tenth of the channels is dropped in
    training. With `normed_taps` (their ViT of patch 4 and 512 channels) a norm and a ReLU end the finest map's
    resizing, and are all there is on the third map; without (their other sizes) neither is there.
    """
    decoder = PaperUPerNet(dim)
    half, quarter = dim // 2, dim // 4
    first = [nn.ConvTranspose2d(dim, half, 2, stride=2), BatchNorm(half), nn.ReLU()]
    second = [nn.ConvTranspose2d(dim, half, 2, stride=2), BatchNorm(half), nn.ReLU()]
    last: list[nn.Module] = [nn.ConvTranspose2d(half, quarter, 2, stride=2)]
    third: nn.Module = nn.Identity()
    if normed_taps:
        last += [BatchNorm(quarter), nn.ReLU()]
        third = nn.Sequential(BatchNorm(dim), nn.ReLU())
    decoder.scales = nn.ModuleList(
        [nn.Sequential(*first, *last), nn.Sequential(*second), third, nn.MaxPool2d(2)]
    )
    decoder.scales.apply(init_weights)
    use_batch_norms(decoder)
    decoder.fuse.append(nn.Dropout2d(AUTHORS_DROPOUT))
    return decoder


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm that takes its running statistics where a channel has one number, which has no variance.

    So a single image can be trained on, or counted, though its coarsest map is pooled to one place.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        if x.numel() > x.shape[1]:
            return super().forward(x)
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def use_batch_norms(module: nn.Module) -> None:
    """Put a BatchNorm, as the authors have it, in the place of every GroupNorm; weights keep their names."""
    for name, child in module.named_children():
        if isinstance(child, nn.GroupNorm):
            setattr(module, name, BatchNorm(child.num_channels))
        else:
            use_batch_norms(child)


def resize(x: Tensor, size: Sequence[int], mode: str = "bilinear") -> Tensor:
    """(B, C, H, W) to (B, C, *size), by `bilinear` or `nearest` interpolation."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    corners = False if mode == "bilinear" else None
    return functional.interpolate(x, size=tuple(size), mode=mode, align_corners=corners)
