"""ViT-UPerNet: a plain pre-norm vision transformer on patches, decoded to full resolution by a UPerNet.

`ViTUPerNet` is ours, with a small UPerNet; `PaperViTUPerNet` is the paper's (arXiv 2506.14765): plain patches and a
UPerNet of 256 channels. The sizes the authors give include more or less beside the encoder, so each rung says what it
has: a vector of `latent` numbers between CLS token and heads, a convolutional stem before the patches whose norms
have a weight per pixel, and the place code kept among the parameters, though it is not trained. Different from the
authors': taps are equally spaced, and a learned token stands for wholly hidden patches.
"""

from torch import Tensor, nn
from torch.nn import functional

from geoladder.models.backbone import Features, check_side
from geoladder.models.geoaware_unet import ConvBlock
from geoladder.models.patches import PatchEmbedding, PlainPatches
from geoladder.models.tokens import Encoder, TokenBlock, TokenUPerNet, check_tokens, damp
from geoladder.models.upernet import GRID_MULTIPLE, PaperUPerNet, UPerNet

TEMPERATURE = 10.0
"""Longest over shortest wavelength of the place code: from 6 to 60 tokens, which suits grids of 8 to 60 a side. With
the usual 10,000 most channels hardly change over such a grid, and a small ViT did not learn to look at its neighbours
within 256 steps: masked error 0.71 in place of 0.61 to 0.64 on smooth random fields."""
PAPER_TEMPERATURE = 10_000.0
"""Of the paper's place code."""


class Block(TokenBlock):
    """Pre-norm attention and MLP (Dosovitskiy et al., 2021); tokens (B, T, dim) to the same."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.fc1 = nn.Linear(dim, mlp_ratio * dim)
        self.fc2 = nn.Linear(mlp_ratio * dim, dim)

    def start(self, depth: int) -> None:
        """Damp both branches."""
        damp([self.proj, self.fc2], depth)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, T, dim) to (B, T, dim)."""
        batch, tokens, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(attended.transpose(1, 2).reshape(batch, tokens, dim))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


class ViTUPerNet(TokenUPerNet):
    """ViT encoder and UPerNet decoder.

    Args:
        width: of a token; a multiple of 4 and of `heads`.
        depth: blocks; a multiple of 4.
        heads: of attention.
        patch: side of a patch in pixels; even.
        decoder: channels of the UPerNet and of the dense features.
        stem: channels before the patch embedding.
        mlp_ratio: hidden units of the MLP per token channel.
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
        decoder: int,
        stem: int,
        mlp_ratio: int = 4,
        bands: int = 10,
    ) -> None:
        requirements = {
            "a width that is a multiple of 4 and of its heads": width % 4 == 0 and width % heads == 0,
            "a depth that is a multiple of 4": depth % 4 == 0,
            "an even patch": patch % 2 == 0,
        }
        check_tokens("a ViT-UPerNet", requirements, width=width, heads=heads, depth=depth, patch=patch)
        encoder = Encoder(
            width,
            depth,
            PatchEmbedding(bands, width, patch, stem),
            lambda _number: Block(width, heads, mlp_ratio),
            cls=True,
            temperature=TEMPERATURE,
        )
        super().__init__(encoder, UPerNet(width, decoder, patch, bands), patch, width, bands)


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
            temperature=PAPER_TEMPERATURE,
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
