"""Classes of global maps at chips' centres: land cover, degree of urbanisation, whatever a study lists.

Unusual: they are read where a batch is made, from the places that come with it, so neither chips nor indices know
of them, and another map needs no second cutting.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from geoladder.data.labels.rasters import sample
from geoladder.study.pretraining import LabelRaster

UNKNOWN = -1


def label_classes(labels: Mapping[str, LabelRaster], lat_deg: ArrayLike, lon_deg: ArrayLike) -> np.ndarray:
    """Class of each place in each map.

    Args:
        labels: the maps; their order is that of the columns.
        lat_deg: (N,) latitudes in degrees.
        lon_deg: (N,) longitudes in degrees.

    Returns:
        (N, maps) int64 position of the raster's value among its codes; `UNKNOWN` where it is none of them, or the
        raster does not reach.

    Raises:
        GeoladderError: a raster cannot be read.
    """
    found = np.full((len(np.asarray(lat_deg)), len(labels)), UNKNOWN, np.int64)
    for column, label in enumerate(labels.values()):
        # A value that is no code, so that it stays unknown.
        values = sample(label.raster, lat_deg, lon_deg, outside=min(label.codes) - 1)
        for position, code in enumerate(label.codes):
            found[values == code, column] = position
    return found
