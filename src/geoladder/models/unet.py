"""Geo-Aware U-Net of any image size: three levels, skips, and a summary from the bottleneck.

Unusual: it works at half resolution (a 2x2 convolution of stride 2 in, a transposed one out), so a step is several
times cheaper at the same parameters; two 3x3 convolutions from the pixels to the output keep full resolution. The
mask is one more input channel. Norms are over channels and place (GroupNorm), where the authors' U-Net
(arXiv 2506.14765) has one weight per channel *and pixel*, which locks it to 128 x 128 and is half its parameters.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone, init_weights

LEVELS = 3
GROUP = 8
"""Channels normalised together."""


class ConvBlock(nn.Module):
    """x + conv3x3(GELU(norm(x))), repeated `depth` times; (B, C, H, W) to the same."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(max(1, channels // GROUP), channels) for _ in range(depth))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + conv(functional.gelu(norm(x)))
        return x


class _Encoder(nn.Module):
    """Pixels with mask to maps (B, C, H / 2**level, W / 2**level) of levels 1, 2, 3, and a summary (B, 4 width)."""

    def __init__(self, bands: int, channels: list[int], depths: list[int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(bands + 1, channels[0], 2, stride=2)
        self.blocks = nn.ModuleList(map(ConvBlock, channels, depths))
        self.downs = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(channels)
        )
        self.norm = nn.LayerNorm(channels[-1])
        self.summary = nn.Linear(channels[-1], channels[-1])

    def forward(self, pixels: Tensor, _mask: Tensor | None) -> tuple[list[Tensor], Tensor]:
        levels = [self.blocks[0](self.stem(pixels))]
        for down, block in zip(self.downs, self.blocks[1:], strict=True):
            levels.append(block(down(levels[-1])))
        summary = functional.gelu(self.summary(self.norm(levels[-1].mean((2, 3)))))
        return levels, summary


class _Decoder(nn.Module):
    """Maps, from the coarsest level up, with added skips, and the pixels to dense features (B, dense, H, W)."""

    def __init__(self, bands: int, channels: list[int], dense: int) -> None:
        super().__init__()
        self.ups = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(channels))
        self.blocks = nn.ModuleList(ConvBlock(width, 1) for width in channels[:-1])
        self.norm = nn.GroupNorm(max(1, channels[0] // GROUP), channels[0])
        self.to_pixels = nn.ConvTranspose2d(channels[0], dense, 2, stride=2)
        self.pixels = nn.Conv2d(bands + 1, dense, 3, padding=1)
        self.fuse = ConvBlock(dense, 1)

    def forward(self, levels: list[Tensor], pixels: Tensor) -> Tensor:
        h = levels[-1]
        for level in reversed(range(LEVELS - 1)):
            finer = functional.interpolate(
                self.ups[level](h), scale_factor=2, mode="bilinear", align_corners=False
            )
            h = self.blocks[level](levels[level] + finer)
        detail = self.pixels(pixels)  # roads and small buildings are lost at half resolution
        return functional.gelu(self.fuse(self.to_pixels(functional.gelu(self.norm(h))) + detail))


class UNet(Backbone):
    """U-Net with `width`, 2 `width` and 4 `width` channels at 1/2, 1/4 and 1/8 resolution.

    The encoder's three blocks have `depths` 3x3 convolutions, the decoder's one each; `dense` features leave it.
    """

    def __init__(self, width: int, depths: list[int], dense: int, bands: int = 10) -> None:
        if len(depths) != LEVELS:
            raise GeoladderError(f"a U-Net has {LEVELS} levels and needs as many depths; got {depths}")
        channels = [width * 2**level for level in range(LEVELS)]
        encoder, decoder = _Encoder(bands, channels, depths), _Decoder(bands, channels, dense)
        encoder.apply(init_weights)
        decoder.apply(init_weights)
        super().__init__(encoder, decoder, bands, 2**LEVELS, dense, 4 * width)
