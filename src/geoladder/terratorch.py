"""Exported models as backbones of TerraTorch: `import geoladder.terratorch`, then its name is `geoladder`.

    BACKBONE_REGISTRY.build("geoladder", source="out/")

`source` is the folder of a run or an export, or hf://owner/name@revision. Any of TerraTorch's tasks can then tune it:
`backbone: geoladder`, `backbone_source: out/` in its configuration, which must list `geoladder.terratorch` among the
modules it imports.
"""

from typing import cast

import torch
from terratorch.registry import TERRATORCH_BACKBONE_REGISTRY
from torch import Tensor, nn

from geoladder.data.batches.batch import CLIP_SIGMA, DN_PER_REFLECTANCE
from geoladder.models.backbone import Backbone
from geoladder.models.taps import tap_maps
from geoladder.training.checkpoints import statistics_of
from geoladder.training.hub import load_model


class GeoladderBackbone(nn.Module):
    """Images (B, 10, H, W), divided by `scale` to give reflectance, to the encoder's maps, the finest first.

    Bands are B02 B03 B04 B08 B05 B06 B07 B8A B11 B12. `out_channels` are the channels of the maps.
    """

    def __init__(self, source: str, scale: float = DN_PER_REFLECTANCE) -> None:
        super().__init__()
        model, card = load_model(source)
        self.backbone = cast(Backbone, model)
        self.scale, self.transform = scale, card["transform"]
        self.statistics = statistics_of(card)
        side = 4 * getattr(self.backbone, "stride_px", 8)
        side_px = getattr(self.backbone, "side_px", 0) or side
        with torch.no_grad():
            maps = tap_maps(self.backbone, torch.zeros(1, len(card["bands"]), side_px, side_px))
        self.out_channels = [part.shape[1] for part in maps]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps (B, C_i, H_i, W_i); raises GeoladderError for sides or bands the model does not take."""
        pixels = self.statistics.standardise((images / self.scale).clamp(min=0), self.transform)
        return tap_maps(self.backbone, pixels.clamp(-CLIP_SIGMA, CLIP_SIGMA))


@TERRATORCH_BACKBONE_REGISTRY.register
def geoladder(source: str, scale: float = DN_PER_REFLECTANCE, pretrained: bool = True) -> GeoladderBackbone:
    """An exported model; there is none without its weights, so `pretrained` must be true."""
    if not pretrained:
        raise ValueError("backbone geoladder is a trained model; leave `pretrained` out, or set it to true")
    return GeoladderBackbone(source, scale)
