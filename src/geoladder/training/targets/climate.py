"""Köppen-Geiger class at the chip's centre."""

from typing import TYPE_CHECKING

import numpy as np

from geoladder.data.labels.targets import CLIMATE_CLASSES
from geoladder.registry.target import Places, Settings, Target

if TYPE_CHECKING:
    from torch import Tensor


def _encode(_: Settings, places: Places) -> np.ndarray:
    return places.koppen.astype(np.int64)


def _loss(logits: "Tensor", classes: "Tensor") -> "Tensor":
    from torch.nn import functional

    return functional.cross_entropy(logits, classes, reduction="sum")


def _metrics(logits: np.ndarray, classes: np.ndarray, _: Places) -> dict[str, float]:
    return {"accuracy": float((logits.argmax(axis=1) == classes).mean())}


TARGET = Target(
    name="climate",
    measure="cross_entropy",
    size=lambda _: CLIMATE_CLASSES,
    encode=_encode,
    loss=_loss,
    metrics=_metrics,
    meanings={"accuracy": "share of images with the right Köppen-Geiger class"},
    order=1,
)
