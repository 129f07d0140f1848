"""Class of a global map at the chip's centre: land cover, degree of urbanisation, whatever a study lists.

Maps are read where a batch is made, from the places that come with it, so neither chips nor indices know of them, and
another map needs no second cutting.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from geoladder.registry.target import Places, Settings, Target
from geoladder.study.block import Whole

if TYPE_CHECKING:
    from torch import Tensor

UNKNOWN = -1
"""Class of a chip whose value in the map is none of the codes."""


class LabelRaster(Settings):
    """A map of classes of the whole Earth; its class at a chip's centre is one more thing to predict."""

    raster: Path = Field(
        description="GeoTIFF of integers, such as landcover_4326.tif of the authors' statics"
    )
    codes: Annotated[list[Whole], Field(min_length=2)] = Field(
        description="the raster's values, one class each; chips with any other value have no label"
    )

    @model_validator(mode="after")
    def _codes_differ(self) -> Self:
        if len(set(self.codes)) != len(self.codes):
            raise ValueError(f"codes {self.codes} must differ from one another")
        return self


def _encode(settings: LabelRaster, places: Places) -> np.ndarray:
    """(N,) int64 position of the map's value among its codes; `UNKNOWN` where it is none, or outside the map."""
    from geoladder.data.labels.rasters import sample

    no_code = min(settings.codes) - 1
    values = sample(settings.raster, places.lat_deg, places.lon_deg, outside=no_code)
    classes = np.full(values.shape, UNKNOWN, np.int64)
    for position, code in enumerate(settings.codes):
        classes[values == code] = position
    return classes


def class_loss(logits: "Tensor", classes: "Tensor") -> "Tensor":
    """Cross-entropy in nats, summed over the chips that have a class."""
    from torch.nn import functional

    return functional.cross_entropy(logits, classes, ignore_index=UNKNOWN, reduction="sum")


def class_accuracy(logits: np.ndarray, classes: np.ndarray, _: Places) -> dict[str, float]:
    """`accuracy` over the chips that have a class; nothing where none has."""
    labelled = classes != UNKNOWN
    if not labelled.any():
        return {}
    return {"accuracy": float((logits.argmax(axis=1) == classes)[labelled].mean())}


TARGET = Target(
    name="raster",
    measure="cross_entropy",
    size=lambda settings: len(settings.codes),
    encode=_encode,
    loss=class_loss,
    metrics=class_accuracy,
    meanings={"accuracy": "share of images with the right class of {name}"},
    settings=LabelRaster,
)
