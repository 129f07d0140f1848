"""Squares of one tile that are wholly valid and not too cloudy: all of a fixed grid, or crops at random places.

Unusual: one pixel of nodata in one band rules a square out, so whoever reads squares needs no validity mask. No crop
is drawn and thrown away: sums over every possible square tell which ones are allowed, and crops are drawn among
those, so they are uniform over what the tile has to offer.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rasterio.warp import transform as reproject

from geoladder.data.archives.tile import Tile, climate_of, ground_m
from geoladder.data.batches.shards import chip_shapes

CLOUDY = (1, 2, 3)
"""Values of the cloud mask that count as cloudy: thick cloud, thin cloud, cloud shadow."""


class CutTile(NamedTuple):
    """The chips of one tile that are worth keeping."""

    dn10: np.ndarray
    """(K, 4, P, P) uint16."""
    dn20: np.ndarray
    """(K, 6, P/2, P/2) uint16."""
    easting_m: np.ndarray
    """(K,) of the chip's centre, in the tile's coordinate system."""
    northing_m: np.ndarray
    cloud_share: np.ndarray
    """(K,) of pixels with thick cloud, thin cloud or shadow."""
    dropped: Counter[str]
    """Chips left out, by reason."""


def cut(tile: Tile, chip_px: int, max_cloud_share: float) -> CutTile:
    """Cut a tile into non-overlapping chips from its upper left corner; what is left at the far sides is unused.

    Chips with nodata (DN 0) in any band, and chips cloudier than `max_cloud_share`, are left out.

    Args:
        tile: at native resolution.
        chip_px: side of a chip in 10 m pixels, even, so that chips begin on the 20 m grid.
        max_cloud_share: of the chip's pixels, 0..1.
    """
    dn10, dn20 = _squares(tile.dn10, chip_px), _squares(tile.dn20, chip_px // 2)
    cloudy = _squares(np.isin(tile.cloud_mask, CLOUDY)[None], chip_px).mean(axis=(1, 2, 3))
    nodata = (dn10 == 0).any(axis=(1, 2, 3)) | (dn20 == 0).any(axis=(1, 2, 3))
    cloud = ~nodata & (cloudy > max_cloud_share)
    keep = ~nodata & ~cloud
    down, right = np.divmod(np.flatnonzero(keep), max(tile.dn10.shape[2] // chip_px, 1))
    easting, northing = ground_m(tile.transform, (right + 0.5) * chip_px, (down + 0.5) * chip_px)
    dropped = Counter({"nodata": int(nodata.sum()), "cloud": int(cloud.sum())})
    return CutTile(dn10[keep], dn20[keep], easting, northing, cloudy[keep].astype(np.float32), dropped)


def _squares(image: np.ndarray, side: int) -> np.ndarray:
    """(C, H, W) to (K, C, side, side), row by row of squares."""
    bands, down, right = image.shape[0], image.shape[1] // side, image.shape[2] // side
    blocks = image[:, : down * side, : right * side].reshape(bands, down, side, right, side)
    return blocks.transpose(1, 3, 0, 2, 4).reshape(-1, bands, side, side)


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
