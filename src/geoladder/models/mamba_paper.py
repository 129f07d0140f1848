"""The paper's Mamba-UPerNet: its ViT-B of patch 16 with every attention replaced by a two-dimensional scan.

Apart from the mixer little differs from the ViT, so that the two compare mixers: patches by one linear map,
the fixed 2-D sine-cosine place code, pre-norm blocks, four equally spaced taps, the wide UPerNet. No code of it is
published; 12 blocks of 768 channels with `expand` 2 give the stated size. The grid is scanned from the first row and
column in even blocks and from the last in odd ones, since one direction alone would leave the first token blind; this
adds no parameter. There is no CLS token, which a scan has no place for: the summary is the mean token.
"""

from geoladder.models.mamba import Block
from geoladder.models.mamba2d import M2DMixer
from geoladder.models.patches import PlainPatches
from geoladder.models.tokens import Encoder, TokenUPerNet, check_tokens
from geoladder.models.upernet import PaperUPerNet
from geoladder.models.vit_paper import TEMPERATURE


class PaperMambaUPerNet(TokenUPerNet):
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
        requirements = {"a width and a depth that are multiples of 4": width % 4 == depth % 4 == 0 < depth}
        check_tokens("a Mamba-UPerNet of the paper", requirements, width=width, depth=depth)

        def block(number: int) -> Block:
            return Block(width, M2DMixer(width, d_state, expand, turned=number % 2 == 1), mlp_ratio)

        encoder = Encoder(width, depth, PlainPatches(bands, width, patch), block, temperature=TEMPERATURE)
        super().__init__(encoder, PaperUPerNet(width), patch, width, bands)
