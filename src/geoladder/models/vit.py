"""ViT-UPerNet: a plain pre-norm vision transformer on patches, decoded to full resolution by a UPerNet.

`ViTUPerNet` is ours, with a small UPerNet; `PaperViTUPerNet` is the paper's (arXiv 2506.14765): plain patches and a
UPerNet of 256 channels. The sizes the authors give include more or less beside the encoder, so each rung says what it
has: a vector of `latent` numbers between CLS token and heads, a convolutional stem before the patches whose norms
have a weight per pixel, and the place code kept among the parameters, though it is not trained. Different from the
authors': taps are equally spaced, and a learned token stands for wholly hidden patches. `AuthorsViTUPerNet` has
the layers of the authors' code itself, for weights that were trained with it.
"""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone, Started, damp
from geoladder.models.geoaware_unet import ConvBlock
from geoladder.models.tokens import MLP_RATIO, Encoder, PatchEmbedding, PlainPatches
from geoladder.models.upernet import GRID_MULTIPLE, PAPER_CHANNELS, PaperUPerNet, UPerNet, authors_decoder

TEMPERATURE = 10.0
"""Longest over shortest wavelength of the place code: from 6 to 60 tokens, which suits grids of 8 to 60 a side. With
the usual 10,000 most channels hardly change over such a grid, and a small ViT did not learn to look at its neighbours
within 256 steps: masked error 0.71 in place of 0.61 to 0.64 on smooth random fields."""
PAPER_TEMPERATURE = 10_000.0
"""Of the paper's place code."""


def attend(qkv: Tensor, heads: int) -> Tensor:
    """Attention of queries, keys and values side by side (B, T, 3 dim), in `heads` heads; to (B, T, dim)."""
    batch, tokens, dims = qkv.shape
    q, k, v = qkv.view(batch, tokens, 3, heads, dims // 3 // heads).permute(2, 0, 3, 1, 4)
    attended = functional.scaled_dot_product_attention(q, k, v)
    return attended.transpose(1, 2).reshape(batch, tokens, dims // 3)


class Block(Started):
    """Pre-norm attention and MLP (Dosovitskiy et al., 2021); tokens (B, T, dim) to the same.

    Raises:
        GeoladderError: `dim` is no multiple of `heads`.
    """

    def __init__(self, dim: int, heads: int) -> None:
        if dim % heads:
            raise GeoladderError(
                f"attention needs a width that is a multiple of its heads; got width {dim}, heads {heads}"
            )
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.fc1 = nn.Linear(dim, MLP_RATIO * dim)
        self.fc2 = nn.Linear(MLP_RATIO * dim, dim)

    def start(self, depth: int) -> None:
        """Damp both branches."""
        damp(self.proj, 2 * depth)
        damp(self.fc2, 2 * depth)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, T, dim) to (B, T, dim)."""
        x = x + self.proj(attend(self.qkv(self.norm1(x)), self.heads))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


class ViTUPerNet(Backbone):
    """ViT encoder and UPerNet decoder.

    `width` channels of a token are a multiple of 4 and of `heads`, `depth` blocks one of 4; `patch` is its side in
    pixels, even. The patch embedding has a stem of `stem` channels, UPerNet and dense features have `decoder`.
    """

    def __init__(
        self, width: int, depth: int, heads: int, patch: int, decoder: int, stem: int, bands: int = 10
    ) -> None:
        blocks = (Block(width, heads) for _ in range(depth))
        patches = PatchEmbedding(bands, width, patch, stem)
        encoder = Encoder(bands, width, blocks, patches, cls=True, temperature=TEMPERATURE)
        upernet = UPerNet(width, decoder, patch, bands)
        super().__init__(encoder, upernet, bands, GRID_MULTIPLE * patch, decoder, width)


class PaperViTUPerNet(Backbone):
    """ViT encoder and the paper's UPerNet; arguments as those of `ViTUPerNet`.

    The summary has `latent` numbers; 0 takes the CLS token itself. A convolutional stem before the patches is for
    images of `stem_px` a side; 0 leaves it out, and the model takes any size. The place code of images of `code_px` a
    side is kept among the parameters; 0 keeps none.
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
        stride_px = GRID_MULTIPLE * patch
        if stem_px % stride_px or code_px % patch:
            raise GeoladderError(
                "the paper's ViT needs a stem_px that is a multiple of two patches and a code_px that is a multiple "
                f"of one; got stem_px {stem_px}, code_px {code_px}, patch {patch}"
            )
        encoder = Encoder(
            bands,
            width,
            (Block(width, heads) for _ in range(depth)),
            stem=ConvBlock(bands, bands, stem_px) if stem_px else None,
            patches=PlainPatches(bands, width, patch),
            cls=True,
            temperature=PAPER_TEMPERATURE,
            code_side=code_px // patch,
            latent=latent,
        )
        why = f"its stem has norms with a weight per pixel (rungs without a stem take any multiple of {stride_px})"
        upernet = PaperUPerNet(width)
        super().__init__(encoder, upernet, bands, stride_px, PAPER_CHANNELS, latent or width, stem_px, why)


class AuthorsViTUPerNet(PaperViTUPerNet):
    """The paper's model with the layers of the authors' code, see `authors_decoder`; else as `PaperViTUPerNet`.

    The stem has LeakyReLUs. `taps` are the four blocks that are tapped, from 0, which differ between their models;
    LayerNorms of the blocks add `eps`. Because of BatchNorm, results depend on how many images a device has.

    Raises:
        GeoladderError: as `PaperViTUPerNet`, or taps that are not four blocks in their order.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        taps: list[int],
        latent: int = 0,
        stem_px: int = 0,
        code_px: int = 0,
        eps: float = 1e-5,
        normed_taps: bool = False,
        bands: int = 10,
    ) -> None:
        super().__init__(width, depth, heads, patch, latent, stem_px, code_px, bands)
        if len(taps) != 4 or any(not 0 <= one < other < depth for one, other in pairwise(taps)):
            raise GeoladderError(f"taps are four of the blocks 0 to {depth - 1}, in their order; got {taps}")
        encoder = cast(Encoder, self.encoder)
        encoder.taps = taps
        for layer in encoder.modules():
            if isinstance(layer, ConvBlock):
                layer.activation = functional.leaky_relu
        for layer in (*encoder.blocks.modules(), encoder.norm):
            if isinstance(layer, nn.LayerNorm):
                layer.eps = eps
        self.decoder = authors_decoder(width, normed_taps)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
