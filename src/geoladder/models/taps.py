"""What a frozen encoder knows of each pixel: all its maps at full resolution, then the pixel's own bands.

A linear head on these judges an encoder without training it (Alain and Bengio, arXiv 1610.01644). Maps are those the
decoder would get, of every family; the decoder itself takes no part.
"""

import torch
from torch import Tensor
from torch.nn import functional

from geoladder.models.backbone import Backbone


def tap_maps(backbone: Backbone, pixels: Tensor) -> list[Tensor]:
    """All maps (B, C_i, H_i, W_i) of the encoder, in its own order and resolutions, nothing hidden.

    A vector of the whole image, which some encoders hand to their decoder beside the maps, is left out. A network
    that is no `Backbone` has one map: its dense features.
    `pixels` (B, bands, H, W) are float32 standardised reflectance; raises GeoladderError as `Backbone.forward`.
    """
    if not isinstance(backbone, Backbone):
        return [backbone(pixels).dense]
    maps, _ = backbone.encoder(backbone.visible(pixels, None), None)
    return [part for part in maps if part.ndim == 4]


def tap_features(backbone: Backbone, pixels: Tensor) -> Tensor:
    """Features (B, F, H, W) float32 of each pixel: maps of `tap_maps`, bilinear, then the bands of `pixels`.

    Bilinear interpolation takes a map's numbers to lie at the centres of its cells. Arguments and errors as those of
    `tap_maps`.
    """
    size = pixels.shape[-2:]
    finer = [
        functional.interpolate(part.float(), size=size, mode="bilinear", align_corners=False)
        for part in tap_maps(backbone, pixels)
    ]
    return torch.cat([*finer, pixels.float()], 1)
