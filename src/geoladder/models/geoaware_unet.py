"""The authors' Geo-Aware U-Net (arXiv 2506.14765, "44M" and "200M"), rebuilt from its description.

Unusual: its norms have one weight per channel *and pixel*, more than half of the parameters of the smaller one, which
lock it to one image size; and everything below the skips goes through one vector of `latent` numbers, from which
place is read too. Our own U-Net without either is geoladder.models.unet. Different from the authors':

- outputs are the ten channels of the last block without their sigmoid, under our 1x1 heads, and the heads of the
  released code (clouds, buildings, land cover) are ours (place, climate)
- hidden pixels are filled as for all our families; the authors put noise
- residual scales start normal around 1, shifts around 0 (deviation .01), but are not drawn again if one is 0
"""

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone, init_weights

STAGES = 5
COARSEST = 2 ** (STAGES - 1)
"""Side of a pixel of the last stage in pixels of the image."""
SQUEEZE = 16
"""Channels per channel of the squeeze."""
SPREAD = 0.01
"""Deviation of the initial scales around 1 and shifts around 0."""


class _LearnedResidual(nn.Module):
    """scale_a * identity + shift_a + scale_b * branch + shift_b, by channel; maps (B, channels, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        shape = (2, channels, 1, 1)
        self.scales = nn.Parameter(1 + SPREAD * torch.randn(shape))
        self.shifts = nn.Parameter(SPREAD * torch.randn(shape))

    def forward(self, identity: Tensor, branch: Tensor) -> Tensor:
        return self.scales[0] * identity + self.scales[1] * branch + self.shifts.sum(0)


class _SqueezeExcite(nn.Module):
    """Gates channels of (B, channels, H, W) by what the whole image has of them (Hu et al., arXiv 1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(1, channels // SQUEEZE)
        self.down = nn.Linear(channels, squeezed, bias=False)
        self.up = nn.Linear(squeezed, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.up(functional.gelu(self.down(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class ConvBlock(nn.Module):
    """1x1, norm, GELU, 3x3, norm, GELU, 1x1, squeeze and excitation, learned residual, GELU if `activate`.

    Another `activation` takes the place of these GELUs.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        px: int,
        activate: bool = True,
        activation: Callable[[Tensor], Tensor] = functional.gelu,
    ) -> None:
        super().__init__()
        self.activate, self.activation = activate, activation
        self.mix = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm1, self.norm2 = nn.LayerNorm([outputs, px, px]), nn.LayerNorm([outputs, px, px])
        self.conv = nn.Conv2d(outputs, outputs, 3, padding=1, padding_mode="replicate", bias=False)
        self.project = nn.Conv2d(outputs, outputs, 1)
        self.excite = _SqueezeExcite(outputs)
        self.match = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        self.residual = _LearnedResidual(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, px, px) to (B, outputs, px, px)."""
        y = self.activation(self.norm1(self.mix(x)))
        y = self.activation(self.norm2(self.conv(y)))
        y = self.residual(self.match(x), self.excite(self.project(y)))
        return self.activation(y) if self.activate else y


class _Stage(nn.Module):
    """`depth` blocks on (B, channels, px, px), with a learned residual around them all if they are several."""

    def __init__(self, channels: int, depth: int, px: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ConvBlock(channels, channels, px) for _ in range(depth)))
        self.residual = _LearnedResidual(channels) if depth > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(x)
        return y if self.residual is None else self.residual(x, y)


def _stages(dims: list[int], depths: list[int], px: int) -> nn.ModuleList:
    levels = enumerate(zip(dims, depths, strict=True))
    return nn.ModuleList(_Stage(dim, depth, px // 2**level) for level, (dim, depth) in levels)


class _Encoder(nn.Module):
    """Images (B, bands, px, px) to five maps (B, dims[i], px / 2**i, px / 2**i) and the embedding (B, latent).

    The embedding is the summary, and also the last of the maps, since the decoder starts from it.
    """

    def __init__(self, bands: int, dims: list[int], depths: list[int], latent: int, px: int) -> None:
        super().__init__()
        self.stem = ConvBlock(bands, dims[0], px)
        self.stages = _stages(dims, depths, px)
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 1) for fine, coarse in pairwise(dims))
        side = px // COARSEST
        self.norm = nn.LayerNorm([dims[-1], side, side])
        self.to_latent = nn.Linear(dims[-1] * side**2, latent)
        self.latent_norm = nn.LayerNorm(latent)

    def forward(self, pixels: Tensor, _mask: Tensor | None) -> tuple[list[Tensor], Tensor]:
        x = self.stem(pixels)
        maps = []
        for level, stage in enumerate(self.stages):
            if level:
                x = functional.max_pool2d(self.downs[level - 1](x), 2)
            x = stage(x)
            maps.append(x)
        embedding = self.latent_norm(self.to_latent(functional.gelu(self.norm(x).flatten(1))))
        return [*maps, embedding], embedding


def _up(inputs: int, outputs: int, px: int) -> nn.Sequential:
    """Twice the side: (B, inputs, px / 2, px / 2) to (B, outputs, px, px)."""
    layers: dict[str, nn.Module] = {
        "wide": nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        "conv": nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate", bias=False),
        "norm": nn.LayerNorm([outputs, px, px]),
        "activation": nn.GELU(),
    }
    return nn.Sequential(OrderedDict(layers))


class _Decoder(nn.Module):
    """Maps and embedding to dense features (B, bands, px, px), from the coarsest stage up; each adds its skip."""

    def __init__(self, bands: int, dims: list[int], depths: list[int], latent: int, px: int) -> None:
        super().__init__()
        side = px // COARSEST
        self.shape = (dims[-1], side, side)
        self.from_latent = nn.Linear(latent, dims[-1] * side**2)
        self.norm = nn.LayerNorm(list(self.shape))
        self.skips = nn.ModuleList(map(_LearnedResidual, dims))
        self.stages = _stages(dims, depths, px)
        self.ups = nn.ModuleList(
            _up(coarse, fine, px // 2**level) for level, (fine, coarse) in enumerate(pairwise(dims))
        )
        self.last_norm = nn.LayerNorm([dims[0], px, px])
        self.head = ConvBlock(dims[0], bands, px, activate=False)

    def forward(self, maps: list[Tensor], _pixels: Tensor) -> Tensor:
        *stages, embedding = maps
        x = self.norm(self.from_latent(embedding).unflatten(1, self.shape))
        for level in reversed(range(STAGES)):
            x = self.stages[level](self.skips[level](stages[level], x))
            if level:
                x = self.ups[level - 1](x)
        return self.head(self.last_norm(x))


class GeoAwareUNet(Backbone):
    """The authors' U-Net for images of one size; as many dense features as bands.

    Each of five stages has `dims` channels, the first of them `width`, and `depths` blocks, in encoder and decoder
    alike; the embedding has `latent` numbers, images `image_px` a side, a multiple of 16.
    """

    mask_channel = channels_last = False

    def __init__(
        self,
        width: int,
        dims: list[int],
        depths: list[int],
        latent: int = 1024,
        image_px: int = 128,
        bands: int = 10,
    ) -> None:
        if len(dims) != STAGES or len(depths) != STAGES or dims[0] != width or min(dims + depths) < 1:
            raise GeoladderError(
                f"a Geo-Aware U-Net has {STAGES} stages and needs as many widths, the first of them `width`, and "
                f"depths; got width {width}, dims {dims}, depths {depths}"
            )
        if image_px < COARSEST or image_px % COARSEST:
            raise GeoladderError(f"image_px must be a multiple of {COARSEST}; got {image_px}")
        encoder = _Encoder(bands, dims, depths, latent, image_px)
        decoder = _Decoder(bands, dims, depths, latent, image_px)
        encoder.apply(init_weights)
        decoder.apply(init_weights)
        why = "its norms have a weight per pixel (the architecture `unet` takes any multiple of 8)"
        super().__init__(encoder, decoder, bands, image_px, bands, latent, image_px, why)
