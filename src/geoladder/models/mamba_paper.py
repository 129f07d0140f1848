"""The paper's Mamba-UPerNet: its ViT-B of patch 16 with every attention replaced by a two-dimensional scan.

Unusual: apart from the mixer little differs from the ViT, so that the two compare mixers: patches by one linear map,
the fixed 2-D sine-cosine place code, pre-norm blocks, four equally spaced taps, the wide UPerNet. No code of it is
published; 12 blocks of 768 channels with `expand` 2 give the stated size. The grid is scanned from the first row and
column in even blocks and from the last in odd ones, since one direction alone would leave the first token blind; this
adds no parameter. There is no CLS token, which a scan has no place for: the summary is the mean token.
"""

import torch
from torch import Tensor, nn

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Features, Fill, channels_last, check_input, hide, init_weights
from geoladder.models.mamba import Block
from geoladder.models.mamba2d import M2DMixer
from geoladder.models.patches import PlainPatches
from geoladder.models.steps import start_steps
from geoladder.models.tapped import damp, run_tapped
from geoladder.models.upernet_paper import PaperUPerNet
from geoladder.models.vit import position_code
from geoladder.models.vit_paper import GRID_MULTIPLE, TEMPERATURE


class Encoder(nn.Module):
    """Patches, blocks, final norm; pixels (B, bands, H, W), filled where hidden, to four taps and a mean token."""

    def __init__(
        self, bands: int, width: int, depth: int, patch: int, d_state: int, expand: int, mlp_ratio: int
    ) -> None:
        super().__init__()
        self.patches = PlainPatches(bands, width, patch)
        self.blocks = nn.ModuleList(
            Block(width, M2DMixer(width, d_state, expand, turned=i % 2 == 1), mlp_ratio) for i in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.apply(init_weights)
        for layer in self.modules():
            if isinstance(layer, M2DMixer):
                start_steps(layer.dt_proj_top, layer.dt_proj_left)
                damp([layer.out_proj], depth)
            if isinstance(layer, Block):
                damp([layer.fc2], depth)

    def forward(self, pixels: Tensor, hidden: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """Taps (B, width, rows, columns), the last one normalised, and the mean token (B, width)."""
        x = self.patches(pixels, hidden)
        _, rows, columns, width = x.shape
        x = x + position_code(rows, columns, width, TEMPERATURE).to(x).view(rows, columns, width)
        taps, x = run_tapped(self.blocks, self.norm, x, lambda grid: grid.permute(0, 3, 1, 2))
        return taps, x.mean((1, 2))


class PaperMambaUPerNet(nn.Module):
    """Mamba encoder of the ViT's form and the paper's UPerNet.

    Args:
        width: of a token; a multiple of 4.
        depth: blocks; a multiple of 4.
        patch: side of a patch in pixels.
        d_state: states per channel of a scan.
        expand: channels of the scan per token channel.
        mlp_ratio: hidden units of the MLP per token channel.
        bands: of the image.

    Raises:
        GeoladderError: the arguments do not fit together.
    """

    fill: Fill = "mean"

    def __init__(
        self,
        width: int,
        depth: int,
        patch: int,
        d_state: int = 16,
        expand: int = 2,
        mlp_ratio: int = 4,
        bands: int = 10,
    ) -> None:
        super().__init__()
        if width % 4 or depth % 4 or not depth:
            raise GeoladderError(
                f"a Mamba-UPerNet needs a width and a depth that are multiples of 4; got width {width}, depth {depth}"
            )
        self.bands, self.stride = bands, GRID_MULTIPLE * patch
        self.summary_dim = width
        self.encoder = Encoder(bands, width, depth, patch, d_state, expand, mlp_ratio)
        self.decoder = PaperUPerNet(width)
        self.dense_channels = self.decoder.channels
        channels_last(self)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Features:
        """Features of an image; see geoladder.models.backbone.Backbone. H and W multiples of 2 patches."""
        check_input(x, self.bands, self.stride)
        pixels = hide(x, mask, self.fill)[0].contiguous(memory_format=torch.channels_last)
        taps, summary = self.encoder(pixels, mask)
        return Features(self.decoder(taps, (x.shape[2], x.shape[3])), summary)
