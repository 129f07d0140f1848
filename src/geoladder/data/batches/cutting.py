"""One tile into its chips: non-overlapping squares that are wholly valid and not too cloudy.

Unusual: one pixel of nodata in one band drops a chip, so whoever reads chips needs no validity mask.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

from geoladder.data.archives.tile import Tile, ground_m

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
