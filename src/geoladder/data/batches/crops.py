"""Random crops of one tile: squares that begin on the 20 m grid, are wholly valid and not too cloudy.

Unusual: nothing is drawn and thrown away. Sums over every possible square tell which ones are allowed, and crops are
drawn among those, so they are uniform over what the tile has to offer, and a tile without any says so.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from rasterio.warp import transform as reproject

from geoladder.data.archives.tile import Tile, climate_of, ground_m
from geoladder.data.batches.cutting import CLOUDY
from geoladder.data.batches.shards import chip_shapes


class Crops(NamedTuple):
    """Some crops of one tile."""

    dn10: np.ndarray
    """(K, 4, P, P) uint16."""
    dn20: np.ndarray
    """(K, 6, P/2, P/2) uint16."""
    lat_deg: np.ndarray
    """(K,) of the crop's centre."""
    lon_deg: np.ndarray
    koppen: np.ndarray
    """(K,) uint8 Köppen-Geiger class at the centre."""


def take_crops(
    tile: Tile,
    crop_px: int,
    crops: int,
    max_cloud_share: float,
    rng: np.random.Generator,
    koppen_raster: Path | None = None,
) -> Crops | None:
    """Draw crops uniformly among all allowed places, with replacement.

    Args:
        tile: at native resolution.
        crop_px: side of a crop in 10 m pixels, even.
        crops: how many.
        max_cloud_share: of a crop's pixels, 0..1.
        rng: draws the places.
        koppen_raster: map of climates; None: the packaged one.

    Returns:
        The crops, or None where the tile has no allowed place.
    """
    allowed = np.flatnonzero(allowed_places(tile, crop_px, max_cloud_share))
    if not allowed.size:
        return None
    half = crop_px // 2
    across = tile.dn20.shape[2] - half + 1
    top, left = np.divmod(allowed[rng.integers(allowed.size, size=crops)], across)
    fine, coarse = chip_shapes(crop_px)
    dn10, dn20 = np.empty((crops, *fine), np.uint16), np.empty((crops, *coarse), np.uint16)
    for number, (down, right) in enumerate(zip(top.tolist(), left.tolist(), strict=True)):
        dn20[number] = tile.dn20[:, down : down + half, right : right + half]
        dn10[number] = tile.dn10[:, 2 * down : 2 * down + crop_px, 2 * right : 2 * right + crop_px]
    ground = ground_m(tile.transform, 2 * left + half, 2 * top + half)
    lon_deg, lat_deg = reproject(f"EPSG:{tile.epsg}", "EPSG:4326", *ground)
    climates = climate_of(tile, lat_deg, lon_deg, koppen_raster)
    return Crops(dn10, dn20, np.array(lat_deg), np.array(lon_deg), climates)


def allowed_places(tile: Tile, crop_px: int, max_cloud_share: float) -> np.ndarray:
    """Which places on the 20 m grid can be the upper left corner of a crop.

    Returns:
        (H/2 - P/2 + 1, W/2 - P/2 + 1) bool; no element where the tile is smaller than a crop.
    """
    half = crop_px // 2
    down, right = tile.dn20.shape[1:]
    if min(down, right) < half:
        return np.zeros((0, max(0, right - half + 1)), bool)
    lowest = _quarters(np.minimum.reduce(tile.dn10)).min(axis=0)
    nodata = np.minimum(lowest, np.minimum.reduce(tile.dn20)) == 0
    allowed = ~_sums(nodata, half).astype(bool)
    cloudy = np.isin(tile.cloud_mask, CLOUDY)
    if cloudy.any():
        sums = _sums(_quarters(cloudy).sum(axis=0, dtype=np.int32), half)
        allowed &= sums <= max_cloud_share * crop_px**2
    return allowed


def _quarters(image: np.ndarray) -> np.ndarray:
    """The four 10 m pixels of every 20 m pixel: (H, W) to (4, H/2, W/2)."""
    return np.stack([image[top::2, left::2] for top in (0, 1) for left in (0, 1)])


def _sums(image: np.ndarray, side: int) -> np.ndarray:
    """Sum over the square of `side` pixels at every place, by differences of running sums."""
    total = np.zeros((image.shape[0] + 1, image.shape[1] + 1), np.int32)
    image.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, out=total[1:, 1:])
    return total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]


def expected_union_px(side_px: int, crop_px: int, crops: float) -> float:
    """Expected number of different 10 m pixels in so many uniform crops of one clear tile.

    A pixel at x is in a crop with probability p(x), the share of the places that cover it, and in none of k crops
    with (1 - p)^k. Nodata and clouds, which crops avoid, are not known here; they lower the truth.

    Args:
        side_px: of the tile, 10 m pixels.
        crop_px: of a crop, even.
        crops: drawn independently; need not be whole.
    """
    side, half = side_px // 2, crop_px // 2
    places = side - half + 1
    x = np.arange(side)
    covering = np.minimum(x, places - 1) - np.maximum(x - half + 1, 0) + 1
    share = np.outer(covering / places, covering / places)
    return float(4 * (1 - (1 - share) ** crops).sum())
