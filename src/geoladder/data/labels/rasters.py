"""Values of a global raster at places: climate, water, whatever a GeoTIFF holds.

Only the pixels asked for are read, so a map of 1 km, about 0.9 GB in memory, costs what its blocks cost.
"""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import ArrayLike
from rasterio.warp import transform as reproject

from geoladder.bounds import check_blocks, plain_file
from geoladder.errors import GeoladderError

GEOGRAPHIC = 4326


def sample(raster: Path, lat_deg: ArrayLike, lon_deg: ArrayLike, outside: int) -> np.ndarray:
    """Values, int64, of a GeoTIFF's only band at places in degrees, any shape.

    The raster has integers, in any coordinate system; a geographic one is in degrees. Where it does not reach, or has
    no data, the value is `outside`. GeoladderError where it is no readable GeoTIFF, or has several bands, other
    numbers, or no coordinate system.
    """
    dataset = _opened(Path(raster), os.getpid())
    lat, lon = np.broadcast_arrays(np.asarray(lat_deg, float), np.asarray(lon_deg, float))
    x, y = lon.ravel(), lat.ravel()
    if dataset.crs.to_epsg() != GEOGRAPHIC and x.size:
        x, y = (np.asarray(axis) for axis in reproject(f"EPSG:{GEOGRAPHIC}", dataset.crs, x, y))
    try:
        values = np.ma.concatenate(
            [*dataset.sample(zip(x, y, strict=True), masked=True)] or [np.ma.empty(0, int)]
        )
    except rasterio.errors.RasterioError as problem:
        raise GeoladderError(f"{raster} cannot be read ({problem}); fetch it again") from None
    box = dataset.bounds
    inside = (x >= box.left) & (x <= box.right) & (y >= box.bottom) & (y <= box.top)
    sampled = np.where(inside & ~np.ma.getmaskarray(values), np.ma.getdata(values).astype(np.int64), outside)
    return sampled.reshape(lat.shape)


@lru_cache(maxsize=8)
def _opened(raster: Path, process: int) -> rasterio.DatasetReader:
    """Open raster of a process: forks must not share one, as they would share its position."""
    try:
        dataset = rasterio.open(plain_file(raster))
        check_blocks(dataset)
    except (rasterio.errors.RasterioError, OSError) as problem:
        raise GeoladderError(
            f"{raster} is no readable raster ({problem}); give the path of a GeoTIFF that may be read"
        ) from None
    integers = np.issubdtype(np.dtype(dataset.dtypes[0]), np.integer)
    if dataset.count != 1 or not integers or dataset.crs is None:
        raise GeoladderError(
            f"{raster} has {dataset.count} band(s) of {dataset.dtypes[0]} and the coordinate system {dataset.crs}; "
            "one band of integers with a coordinate system is needed"
        )
    return dataset
