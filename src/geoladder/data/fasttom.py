"""Which quadrant of a tile FastTOM keeps.

Unusual: the paper says "land only, no ice", but the authors' script has no ice filter. Its rule is the one here: of
the four corner quadrants the one with most clear pixels, if it is clear and dry enough.
"""

import numpy as np

from geoladder.errors import GeoladderError

MIN_CLEAR_SHARE = 0.33
MAX_WATER_SHARE = 0.5


def best_quadrant(cloud_mask: np.ndarray, quadrant_px: int, water: np.ndarray) -> tuple[int, int] | None:
    """Choose the quadrant with most clear pixels; of equals the last, in reading order.

    Args:
        cloud_mask: (H, W) uint8, 0 clear, 1 thick cloud, 2 thin cloud, 3 shadow.
        quadrant_px: side of a quadrant; the four start at 0 and `quadrant_px` in each direction.
        water: (H, W) bool.

    Returns:
        (row0, col0) of the chosen quadrant; None when fewer than 33 % of its pixels are clear or more than 50 %
        water.

    Raises:
        GeoladderError: the masks differ in shape or are too small for four quadrants.
    """
    if cloud_mask.shape != water.shape or min(cloud_mask.shape) < 2 * quadrant_px or quadrant_px < 1:
        raise GeoladderError(
            f"quadrants of {quadrant_px} px do not fit a cloud mask of {cloud_mask.shape} and water of {water.shape}"
        )
    corners = [(row, column) for row in (0, quadrant_px) for column in (0, quadrant_px)]
    clear = [(_cut(cloud_mask, corner, quadrant_px) == 0).mean() for corner in corners]
    chosen = max(range(4), key=lambda i: (clear[i], i))
    if clear[chosen] < MIN_CLEAR_SHARE or _cut(water, corners[chosen], quadrant_px).mean() > MAX_WATER_SHARE:
        return None
    return corners[chosen]


def _cut(image: np.ndarray, corner: tuple[int, int], side: int) -> np.ndarray:
    return image[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
