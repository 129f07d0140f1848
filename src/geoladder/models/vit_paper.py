"""The paper's ViT-UPerNet (arXiv 2506.14765): plain patches, ViT blocks, UPerNet of 256 channels.

The sizes the authors give include more or less beside the encoder, so each rung says what it has: a vector of
`latent` numbers between CLS token and heads, a convolutional stem before the patches whose norms have a weight per
pixel, and the place code kept among the parameters, though it is not trained. Different from the authors': taps are
equally spaced, and a learned token stands for wholly hidden patches.
"""

from torch import Tensor

from geoladder.models.backbone import Features, check_side
from geoladder.models.learned_residual import ConvBlock
from geoladder.models.patches import PlainPatches
from geoladder.models.tokens import Encoder, TokenUPerNet, check_tokens
from geoladder.models.upernet import GRID_MULTIPLE, PaperUPerNet
from geoladder.models.vit import Block

TEMPERATURE = 10_000.0
"""Longest over shortest wavelength of the place code."""


class PaperViTUPerNet(TokenUPerNet):
    """ViT encoder and the paper's UPerNet.

    Args:
        width: of a token; a multiple of 4 and of `heads`.
        depth: blocks; a multiple of 4.
        heads: of attention.
        patch: side of a patch in pixels.
        latent: numbers of the summary; 0 takes the CLS token itself.
        stem_px: side of the images that a convolutional stem before the patches is for; 0 leaves it out, and the
            model takes any size.
        code_px: side of the images whose place code is kept among the parameters; 0 keeps none.
        bands: of the image.

    Raises:
        GeoladderError: the arguments do not fit together.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        latent: int = 0,
        stem_px: int = 0,
        code_px: int = 0,
        bands: int = 10,
    ) -> None:
        requirements = {
            "a width that is a multiple of 4 and of its heads": width % 4 == 0 and width % heads == 0,
            "a depth that is a multiple of 4": depth % 4 == 0,
            "a stem_px that is a multiple of two patches": stem_px % (GRID_MULTIPLE * patch) == 0,
            "a code_px that is a multiple of a patch": code_px % patch == 0,
        }
        check_tokens(
            "a ViT-UPerNet of the paper", requirements,
            width=width, heads=heads, depth=depth, patch=patch, stem_px=stem_px, code_px=code_px,
        )  # fmt: skip
        stem = ConvBlock(bands, bands, stem_px) if stem_px else None
        encoder = Encoder(
            width,
            depth,
            PlainPatches(bands, width, patch),
            lambda _number: Block(width, heads, mlp_ratio=4),
            cls=True,
            temperature=TEMPERATURE,
            code_side=code_px // patch,
            stem=stem,
            latent=latent,
        )
        super().__init__(encoder, PaperUPerNet(width), patch, latent or width, bands)
        self.stem_px = stem_px

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Features:
        """Features of an image; see geoladder.models.backbone.Backbone. H = W = stem_px, or any of 2 patches."""
        if self.stem_px:
            only = f"it takes images of {self.stem_px} x {self.stem_px} pixels only"
            advice = f". Rungs without a stem take any multiple of {self.stride}"
            check_side(
                x, self.stem_px, f"this ViT's stem has norms with a weight per pixel, so {only}", advice
            )
        return super().forward(x, mask)
