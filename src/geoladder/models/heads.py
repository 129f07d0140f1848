"""Heads on a backbone: the pretraining objectives, and one dense task.

Unusual: final layers start near zero, so that the first loss is that of predicting the mean (or the given prior) and
not of noise. Both models keep the backbone under the name `backbone`, whose state dict goes from one to the other.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from geoladder.models.backbone import Backbone, Fill, module

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)

GEO_OUTPUTS = 4
CLIMATE_CLASSES = 31
HEAD_DEVIATION = 0.01
"""Standard deviation of the initial weights of a final layer."""


class PretrainOutput(NamedTuple):
    """reconstruction (B, bands, H, W) standardised reflectance; geo (B, 4) raw; climate_logits (B, 31).

    label_logits has (B, classes of all further maps, one after another).
    """

    reconstruction: Tensor
    geo: Tensor
    climate_logits: Tensor
    label_logits: Tensor


class PretrainModel(nn.Module):
    """Backbone with heads for masked reconstruction, place (sine and cosine) and Köppen-Geiger class.

    Args:
        backbone: any architecture.
        bands: to reconstruct.
        fill: what hidden pixels are replaced by.
        labels: classes of each further map to predict, by its name.
    """

    def __init__(
        self,
        backbone: Backbone,
        bands: int = 10,
        fill: Fill = "mean",
        labels: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        backbone.fill = fill
        self.backbone = module(backbone)
        self.reconstruction = _final(nn.Conv2d(backbone.dense_channels, bands, 1))
        self.geo = _final(nn.Linear(backbone.summary_dim, GEO_OUTPUTS))
        self.climate = _final(nn.Linear(backbone.summary_dim, CLIMATE_CLASSES))
        self.labels = nn.ModuleDict(
            {name: _final(nn.Linear(backbone.summary_dim, classes)) for name, classes in labels.items()}
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> PretrainOutput:
        """Outputs for images x (B, bands, H, W) whose pixels under `mask` (B, 1, H, W) bool are hidden."""
        features = self.backbone(x, mask)
        return PretrainOutput(
            self.reconstruction(features.dense),
            self.geo(features.summary),
            self.climate(features.summary),
            torch.cat(
                [features.summary[:, :0], *(head(features.summary) for head in self.labels.values())], 1
            ),
        )


class FinetuneModel(nn.Module):
    """Backbone with a 1x1 convolution for one dense task.

    Args:
        backbone: pretrained or not.
        outputs: per pixel.
        prior_bias: what every output starts at: one number, or one per output (logit of a mean density, log of
            class shares).
    """

    def __init__(self, backbone: Backbone, outputs: int, prior_bias: float | list[float] = 0.0) -> None:
        super().__init__()
        self.backbone = module(backbone)
        self.head = _final(nn.Conv2d(backbone.dense_channels, outputs, 1))
        bias = cast(Tensor, self.head.bias)
        with torch.no_grad():
            bias += torch.as_tensor(prior_bias, dtype=bias.dtype).to(bias.device)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, outputs, H, W) for images x (B, bands, H, W)."""
        logits: Tensor = self.head(self.backbone(x).dense)
        return logits


def _final(layer: Layer) -> Layer:
    nn.init.normal_(layer.weight, std=HEAD_DEVIATION)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
