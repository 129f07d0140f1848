"""Random crops of one tile: where they may lie, and how many pixels they show together.

No crop is drawn and thrown away: sums over every possible square tell which ones are wholly valid and not too cloudy,
and crops are drawn among those, so they are uniform over what the tile has to offer.
"""

from pathlib import Path

import numpy as np
from rasterio.warp import transform as reproject

from geoladder.data.archives.tile import CLOUDY, Tile, climate_of, ground_m


def take_crops(
    tile: Tile,
    crop_px: int,
    crops: int,
    max_cloud_share: float,
    rng: np.random.Generator,
    koppen_raster: Path | None = None,
) -> tuple[np.ndarray, ...] | None:
    """Draw K `crops` of P (even) 10 m pixels a side uniformly among all allowed places, with replacement.

    At most `max_cloud_share` (0..1) of a crop's pixels are cloudy. `koppen_raster` is as for `climate_of`.

    Returns:
        (K, 4, P, P) and (K, 6, P/2, P/2) uint16 DN, and (K,) lat_deg, lon_deg and uint8 Köppen-Geiger class of the
        crops' centres; None where the tile has no allowed place.
    """
    allowed = np.flatnonzero(allowed_places(tile, crop_px, max_cloud_share))
    if not allowed.size:
        return None
    half = crop_px // 2
    places = tile.dn20.shape[2] - half + 1
    top, left = np.divmod(allowed[rng.integers(allowed.size, size=crops)], places)
    corners = list(zip(top.tolist(), left.tolist(), strict=True))
    dn20 = np.stack([tile.dn20[:, y : y + half, x : x + half] for y, x in corners])
    dn10 = np.stack([tile.dn10[:, 2 * y : 2 * y + crop_px, 2 * x : 2 * x + crop_px] for y, x in corners])
    ground = ground_m(tile.transform, 2 * left + half, 2 * top + half)
    lon_deg, lat_deg = reproject(f"EPSG:{tile.epsg}", "EPSG:4326", *ground)
    climates = climate_of(tile, lat_deg, lon_deg, koppen_raster)
    return dn10, dn20, np.array(lat_deg), np.array(lon_deg), climates


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
