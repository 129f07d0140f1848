"""RS3Mamba (Ma et al., 2024, arXiv 2404.02457) at the paper's size: a ResNet-50 that a VMamba encoder helps.

At each of four scales the CNN's map asks, by window attention, and the state-space encoder's map answers by
convolutions; two thirds of the parameters are in these four blocks. Place is read from a dense layer on the whole
coarsest map, which locks the model to one image size. Different from the authors' (arXiv 2506.14765), at the same
number of parameters: GroupNorm in place of BatchNorm (geoladder.models.resnet says why), no drop-path, strip means
of attention pad with zeros, and the heads are ours. What no count settles: fused maps are what the CNN's next stage
takes, and the stem's InstanceNorm has no weights.
"""

from itertools import pairwise, repeat

from torch import Tensor, nn

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone
from geoladder.models.initial import init_weights, start
from geoladder.models.resnet import EXPANSION, ResNet
from geoladder.models.ss2d import PatchMerging, VSSBlock
from geoladder.models.unetformer import HEADS as DECODER_HEADS
from geoladder.models.unetformer import GlobalLocalBlock, UNetFormerDecoder

SCALES = 4
COARSEST = 32
"""Side of a pixel of the coarsest map in pixels of the image."""


class StateSpaceEncoder(nn.Module):
    """Images (B, bands, H, W) to four maps (B, width 2**i, H / 4 / 2**i, ...)."""

    def __init__(self, bands: int, width: int, depths: list[int], d_state: int, expand: int) -> None:
        super().__init__()
        self.dims, self.depth = [width * 2**stage for stage in range(SCALES)], sum(depths)
        self.stem = nn.Conv2d(bands, width // 2, 7, stride=2, padding=3)
        self.stem_norm = nn.InstanceNorm2d(width // 2)
        self.embed = nn.Conv2d(width // 2, width, 2, stride=2)
        self.embed_norm = nn.LayerNorm(width)
        self.stages = nn.ModuleList(
            nn.Sequential(*(VSSBlock(dim, d_state, expand) for _ in range(depth)))
            for dim, depth in zip(self.dims, depths, strict=True)
        )
        self.merges = nn.ModuleList(PatchMerging(fine) for fine, _ in pairwise(self.dims))

    def forward(self, x: Tensor) -> list[Tensor]:
        """The four maps, finest first."""
        x = self.embed(self.stem_norm(self.stem(x)))
        x, maps = self.embed_norm(x.permute(0, 2, 3, 1)), []
        for scale, stage in enumerate(self.stages):
            x = stage(self.merges[scale - 1](x) if scale else x)
            maps.append(x.permute(0, 3, 1, 2))
        return maps


class Encoder(nn.Module):
    """Both encoders and what joins them; images to four fused maps and the embedding (B, latent).

    `cells` are those of the coarsest map.
    """

    def __init__(self, cnn: ResNet, ssm: StateSpaceEncoder, heads: int, cells: int, latent: int) -> None:
        super().__init__()
        self.cnn, self.ssm = cnn, ssm
        self.fusions = nn.ModuleList(map(GlobalLocalBlock, cnn.dims, ssm.dims, repeat(heads)))
        self.to_latent = nn.Linear(cnn.dims[-1] * cells, latent)
        start(self, ssm.depth)

    def forward(self, pixels: Tensor, _mask: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """Fused maps, finest first; each is what the CNN's next stage takes."""
        locals_, maps = self.ssm(pixels), []
        x = self.cnn.stem(pixels)
        for stage, fuse, local in zip(self.cnn.stages, self.fusions, locals_, strict=True):
            x = fuse(stage(x), local)
            maps.append(x)
        return maps, self.to_latent(x.flatten(1))


class RS3Mamba(Backbone):
    """RS3Mamba for images of one size.

    Args:
        width: channels of the state-space encoder's first stage, the dial; the ResNet's inner width is two thirds.
        depths: blocks of the state-space encoder's four stages.
        resnet: blocks of the ResNet's four stages.
        heads: of the fusions' attention.
        decoder: channels of the decoder and of the dense features, a multiple of 8.
        latent: numbers of the embedding.
        image_px: side of the images, a multiple of 32.
        d_state: states per channel of a scan.
        expand: channels of a scan per token channel.
        bands: of the image.

    Raises:
        GeoladderError: the arguments do not fit together.
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
        cnn, ssm = (
            ResNet(bands, 2 * width // 3, resnet),
            StateSpaceEncoder(bands, width, depths, d_state, expand),
        )
        encoder = Encoder(cnn, ssm, heads, (image_px // COARSEST) ** 2, latent)
        unetformer = UNetFormerDecoder(cnn.dims, decoder)
        unetformer.apply(init_weights)
        why = "it reads place from the whole coarsest map"
        super().__init__(encoder, unetformer, bands, COARSEST, decoder, latent, image_px, why)
