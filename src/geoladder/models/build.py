"""Models as they are trained: a backbone, whose class is imported when it is built, with heads on it.

Heads are those of the pretraining objectives, or of one dense task.

Unusual: final layers start near zero, so that the first loss is that of predicting the mean (or the given prior) and
not of noise. Both models keep the backbone under the name `backbone`, whose state dict goes from one to the other.
"""

from collections.abc import Mapping
from pkgutil import resolve_name
from types import MappingProxyType
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone, Fill
from geoladder.models.taps import tap_features
from geoladder.registry import ARCHITECTURES
from geoladder.registry.architecture import Kwargs
from geoladder.registry.ladder import rung
from geoladder.suggest import nearest

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)

PAPER_HEADS = MappingProxyType({"geo": 4, "climate": 31})
"""Outputs of the heads of the paper's targets, by name: place and Köppen-Geiger class."""
LEAST_DENSITY = 1e-6
"""Of a linear model; no logit is infinite."""
LEAST_SHARE = 0.01
"""Of a class of a linear model, before they are made to sum to 1. On land cover of the synthetic bench (n = 4), 0.001
to 0.05 gave losses of 1.69, 1.66 (0.01) and 1.70 nats; softmax of the same numbers at its best temperature 1.76, and
twice the calibration error."""
HEAD_DEVIATION = 0.01
"""Standard deviation of the initial weights of a final layer."""


def build_backbone(architecture: str, size: str, bands: int = 10) -> Backbone:
    """A new backbone of a rung, as `build_from` makes it; unknown architectures and sizes are refused."""
    return build_from(architecture, rung(architecture, size).kwargs, bands)


def build_from(architecture: str, kwargs: Kwargs, bands: int = 10) -> Backbone:
    """A new backbone from constructor arguments, such as a checkpoint keeps.

    Its weights come from torch's current generator, which the caller seeds.

    Raises:
        GeoladderError: unknown architecture, arguments that do not fit together, or a class that cannot be imported.
    """
    classes, layout = ARCHITECTURES[architecture].classes, str(kwargs.get("layout", ""))
    if layout not in classes:
        raise GeoladderError(f"{architecture} has no layout '{layout}'{nearest(layout, classes)}")
    path = classes[layout]
    try:
        family = resolve_name(path)
    except (ImportError, AttributeError) as problem:
        raise GeoladderError(
            f"{path}, the class of {architecture}, cannot be imported: {problem}"
        ) from problem
    arguments = {key: value for key, value in kwargs.items() if key != "layout"}
    try:
        return cast(Backbone, family(**arguments, bands=bands))
    except (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError, GeoladderError) as problem:
        raise GeoladderError(f"{architecture} cannot be built from {kwargs}: {problem}") from None


class PretrainOutput(NamedTuple):
    """For B images reconstructed (B, bands, H, W) standardised reflectance, and raw outputs.

    They are (B, size) by target, and (B, size, H, W) by task.
    """

    reconstruction: Tensor
    targets: dict[str, Tensor]
    maps: Mapping[str, Tensor] = MappingProxyType({})


class PretrainModel(nn.Module):
    """Backbone with a head for masked reconstruction, one for each target of whole images, and one for each task.

    `fill` is what hidden pixels are replaced by; `head_sizes` are the outputs of the head of each target, and
    `map_sizes` those per pixel of the head of each task, by name, in the order in which heads are made.
    """

    def __init__(
        self,
        backbone: Backbone,
        bands: int = 10,
        fill: Fill = "mean",
        head_sizes: Mapping[str, int] = PAPER_HEADS,
        map_sizes: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        backbone.fill = fill
        self.backbone = backbone
        self.reconstruction = _final(nn.Conv2d(backbone.dense_channels, bands, 1))
        self.heads = nn.ModuleDict(
            {name: _final(nn.Linear(backbone.summary_dim, size)) for name, size in head_sizes.items()}
        )
        self.maps = nn.ModuleDict(
            {name: _final(nn.Conv2d(backbone.dense_channels, size, 1)) for name, size in map_sizes.items()}
        )

    def start_maps(self, priors: Mapping[str, list[float]]) -> None:
        """Let the maps of tasks start at these outputs everywhere, as `FinetuneModel` starts at its prior."""
        for name, prior in priors.items():
            cast(Tensor, self.maps[name].bias).data.copy_(torch.as_tensor(prior))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> PretrainOutput:
        """Outputs for images x (B, bands, H, W) whose pixels under `mask` (B, 1, H, W) bool are hidden."""
        features = self.backbone(x, mask)
        return PretrainOutput(
            self.reconstruction(features.dense),
            {name: head(features.summary) for name, head in self.heads.items()},
            {name: head(features.dense) for name, head in self.maps.items()},
        )


class FinetuneModel(nn.Module):
    """Backbone, pretrained or not, with a 1x1 convolution to `outputs` per pixel for one dense task.

    Outputs start at `prior_bias`: one number, or a number for each (logit of a mean density, log of class shares).
    """

    def __init__(self, backbone: Backbone, outputs: int, prior_bias: float | list[float] = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = _final(nn.Conv2d(backbone.dense_channels, outputs, 1), prior_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, outputs, H, W) for images x (B, bands, H, W)."""
        return self.head(self.backbone(x).dense)


class RawDensityModel(FinetuneModel):
    """A `FinetuneModel` trained on squared errors, as it is used: its own outputs are densities."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 1, H, W), see `logits_of_shares`, for images x (B, bands, H, W)."""
        return logits_of_shares(super().forward(x))


class LinearModel(nn.Module):
    """Backbone, left as it is, with a 1x1 convolution to `outputs` shares per pixel from its `features` taps.

    See `tap_features`. The head is made in closed form, and has no initial weights worth having.
    """

    def __init__(self, backbone: Backbone, features: int, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(features, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, outputs, H, W), see `logits_of_shares`, for images x (B, bands, H, W)."""
        return logits_of_shares(self.head(tap_features(self.backbone, x)))


def logits_of_shares(shares: Tensor) -> Tensor:
    """Logits (B, outputs, H, W) that say what a linear model of shares says.

    Of one output, the logit of its share, clipped to 0 to 1. Of several, logarithms of shares of at least
    `LEAST_SHARE`: their softmax is the shares divided by their sum. There is no upper limit, under which two shares
    above 1 would be alike.
    """
    if shares.shape[1] == 1:
        return shares.clamp(LEAST_DENSITY, 1 - LEAST_DENSITY).logit()
    return shares.clamp(min=LEAST_SHARE).log()


def _final(layer: Layer, bias: float | list[float] = 0.0) -> Layer:
    nn.init.normal_(layer.weight, std=HEAD_DEVIATION)
    cast(Tensor, layer.bias).data.copy_(torch.as_tensor(bias))
    return layer
