"""The paper's ViT-UPerNet (arXiv 2506.14765): plain patches, ViT blocks, UPerNet of 256 channels.

Unusual: the sizes the authors give include more or less beside the encoder, so each rung says what it has: a vector
of `latent` numbers between CLS token and heads, a convolutional stem before the patches whose norms have a weight per
pixel, and the place code kept among the parameters, though it is not trained. Different from the authors': taps are
equally spaced, and a learned token stands for wholly hidden patches.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Features, Fill, check_input, hide, init_weights
from geoladder.models.learned_residual import ConvBlock
from geoladder.models.patches import PlainPatches
from geoladder.models.tapped import damp, run_tapped
from geoladder.models.upernet_paper import PaperUPerNet
from geoladder.models.vit import Block, position_code

TEMPERATURE = 10_000.0
GRID_MULTIPLE = 2
"""Rows and columns of tokens must be multiples of this."""


class Encoder(nn.Module):
    """Pixels (B, bands, H, W), filled where hidden, to four taps and the summary (B, latent or width)."""

    def __init__(
        self,
        bands: int,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        latent: int,
        stem_px: int,
        code_px: int,
    ) -> None:
        super().__init__()
        self.stem = ConvBlock(bands, bands, stem_px) if stem_px else nn.Identity()
        self.patches = PlainPatches(bands, width, patch)
        self.cls = nn.Parameter(0.02 * torch.randn(width))
        self.position: nn.Parameter | None = None
        if code_px:
            side = code_px // patch
            place = position_code(side, side, width, TEMPERATURE)
            # The first row belongs to the CLS token.
            self.position = nn.Parameter(functional.pad(place, (0, 0, 1, 0)), requires_grad=False)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio=4) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.to_latent = nn.Linear(width, latent) if latent else nn.Identity()
        self.apply(init_weights)
        for layer in self.modules():
            if isinstance(layer, Block):
                damp([layer.proj, layer.fc2], depth)

    def forward(self, pixels: Tensor, hidden: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """Taps (B, width, rows, columns), the last one normalised, and the summary."""
        grid = self.patches(self.stem(pixels), hidden)
        batch, rows, columns, width = grid.shape
        tokens = grid.flatten(1, 2) + self._place(rows, columns, width).to(grid)
        x = torch.cat([self.cls.to(grid.dtype).expand(batch, 1, width), tokens], 1)
        taps, x = run_tapped(
            self.blocks,
            self.norm,
            x,
            lambda tokens: tokens[:, 1:].reshape(batch, rows, columns, width).permute(0, 3, 1, 2),
        )
        return taps, self.to_latent(x[:, 0])

    def _place(self, rows: int, columns: int, width: int) -> Tensor:
        if self.position is not None and len(self.position) == rows * columns + 1 and rows == columns:
            return self.position[1:]
        return position_code(rows, columns, width, TEMPERATURE)


class PaperViTUPerNet(nn.Module):
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

    fill: Fill = "mean"

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
        super().__init__()
        if width % 4 or width % heads or depth % 4 or stem_px % (GRID_MULTIPLE * patch) or code_px % patch:
            raise GeoladderError(
                "a ViT-UPerNet of the paper needs a width that is a multiple of 4 and of its heads, a depth that is "
                "a multiple of 4, and stem_px and code_px that are multiples of (two) patches; got "
                f"width {width}, heads {heads}, depth {depth}, patch {patch}, stem_px {stem_px}, code_px {code_px}"
            )
        self.bands, self.stride, self.stem_px = bands, GRID_MULTIPLE * patch, stem_px
        self.summary_dim = latent or width
        self.encoder = Encoder(bands, width, depth, heads, patch, latent, stem_px, code_px)
        self.decoder = PaperUPerNet(width)
        self.dense_channels = self.decoder.channels

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Features:
        """Features of an image; see geoladder.models.backbone.Backbone. H and W multiples of 2 patches."""
        check_input(x, self.bands, self.stride)
        if self.stem_px and tuple(x.shape[2:]) != (self.stem_px, self.stem_px):
            raise GeoladderError(
                f"this ViT's stem has norms with a weight per pixel, so it takes images of {self.stem_px} x "
                f"{self.stem_px} pixels only; got {x.shape[2]} x {x.shape[3]}. Rungs without a stem take any "
                f"multiple of {self.stride}"
            )
        taps, summary = self.encoder(hide(x, mask, self.fill)[0], mask)
        return Features(self.decoder(taps, (x.shape[2], x.shape[3])), summary)
