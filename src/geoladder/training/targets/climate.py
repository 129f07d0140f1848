"""Köppen-Geiger class at the chip's centre."""

import numpy as np

from geoladder.data.labels.targets import CLIMATE_CLASSES
from geoladder.registry.target import Target
from geoladder.training.targets.raster import class_accuracy, class_loss

TARGET = Target(
    name="climate",
    measure="cross_entropy",
    size=lambda _: CLIMATE_CLASSES,
    encode=lambda _, places: places.koppen.astype(np.int64),
    loss=class_loss,
    metrics=class_accuracy,
    meanings={"accuracy": "share of images with the right Köppen-Geiger class"},
    order=1,
)
