"""Any backbone of TerraTorch's registry, in an environment that has TerraTorch (tools/terratorch_env.sh).

It gets all ten bands, and images brought to the 224 pixels such models are made for, bilinearly. Of its maps four are
taken, equally spaced and the last among them; a UPerNet of hierarchical encoders decodes them. TerraMind and Prithvi
need none of this: they are architectures of their own.
"""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone
from geoladder.models.tokens import tap_blocks
from geoladder.models.upernet import PAPER_CHANNELS, LightUPerNet, resize

IMAGE_PX = 224
TEN = [
    *("BLUE", "GREEN", "RED", "NIR_BROAD", "RED_EDGE_1", "RED_EDGE_2", "RED_EDGE_3"),
    *("NIR_NARROW", "SWIR_1", "SWIR_2"),
]
"""TerraTorch's names of `BANDS`."""
WAYS: tuple[dict[str, Any], ...] = (
    {"bands": TEN, "num_frames": 1},
    {"bands": TEN},
    {"model_bands": TEN},
    {"in_chans": len(TEN)},
    {"modalities": [{"S2": len(TEN)}]},
)
"""How its families are told of ten bands; the first that a backbone takes is used."""


class RegistryEncoder(nn.Module):
    """Pixels (B, 10, H, W) to four maps (B, C_i, rows, columns) and the mean of the last."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.body = built(name)
        self.channels = [part.shape[1] for part in self._maps(torch.zeros(1, len(TEN), IMAGE_PX, IMAGE_PX))]

    def __deepcopy__(self, memo: dict[int, Any]) -> "RegistryEncoder":
        """Build it again, since some of its backbones keep functions that hold the original."""
        with torch.random.fork_rng(devices=[]):
            twin = RegistryEncoder(self.name)
        twin.load_state_dict(copy.deepcopy(self.state_dict(), memo))
        for mine, its in zip(self.parameters(), twin.parameters(), strict=True):
            its.requires_grad_(mine.requires_grad)
        return twin.train(self.training)

    def forward(self, pixels: Tensor, hidden: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """Maps and summary; pixels must be filled where `hidden`."""
        maps = self._maps(resize(pixels, (IMAGE_PX, IMAGE_PX)))
        return maps, maps[-1].mean((2, 3))

    def _maps(self, pixels: Tensor) -> list[Tensor]:
        features = self.body(pixels)
        arrange = cast(Any, getattr(self.body, "prepare_features_for_image_model", None))
        if arrange is not None:
            features = arrange(features)
        if not isinstance(features, Sequence) or len(features) < 4:
            raise GeoladderError(f"{self.name} of TerraTorch gives no four maps; take a backbone that does")
        return [_as_map(features[place]) for place in tap_blocks(len(features))]


def built(name: str) -> nn.Module:
    """A backbone with random weights for ten bands.

    Raises:
        GeoladderError: TerraTorch is not installed, has no such backbone, or none of `WAYS` suits it.
    """
    try:
        from terratorch.registry import BACKBONE_REGISTRY
    except ImportError:
        raise GeoladderError(
            "architecture terratorch needs the package terratorch, which is not in this environment; make one with "
            "tools/terratorch_env.sh FOLDER, and run geoladder and snakemake there"
        ) from None
    if name not in BACKBONE_REGISTRY:
        raise GeoladderError(
            f"TerraTorch has no backbone '{name}'; `terratorch.registry.BACKBONE_REGISTRY` lists them"
        )
    problems = []
    for way in WAYS:
        try:
            return cast(nn.Module, BACKBONE_REGISTRY.build(name, pretrained=False, **way))
        except (TypeError, ValueError, AssertionError) as problem:
            problems.append(f"{', '.join(way)}: {problem}")
    raise GeoladderError(f"TerraTorch's {name} cannot be built for ten bands ({'; '.join(problems)})")


def _as_map(features: Tensor) -> Tensor:
    """Tokens (B, T, C) as a map (B, C, side, side), without what stands before the grid; maps as they are."""
    if features.ndim == 4:
        return features
    side = int(features.shape[1] ** 0.5)
    return features[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))


class TerraTorchBackbone(Backbone):
    """The backbone `name` of TerraTorch with a UPerNet; `width` is no dial and must be 1."""

    mask_channel = False
    channels_last = False
    """Some of its weights are convolutions in three dimensions."""

    def __init__(self, name: str, width: int = 1, bands: int = 10) -> None:
        if bands != len(TEN) or width != 1:
            raise GeoladderError(f"backbones of TerraTorch take ten bands and width 1; got {bands}, {width}")
        encoder = RegistryEncoder(name)
        decoder = LightUPerNet(encoder.channels, PAPER_CHANNELS)
        super().__init__(encoder, decoder, bands, 1, PAPER_CHANNELS, encoder.channels[-1])
