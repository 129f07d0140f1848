"""The ten bands, and the DN offset that newer Sentinel-2 products carry.

Unusual: Sentinel-2 products of processing baseline 04.00 and later carry +1000 DN (BOA_ADD_OFFSET = -1000).
Old scenes were reprocessed, so the acquisition date says nothing: only the N0xxx field of `product_id` does.
"""

import re
from collections.abc import Iterable

import numpy as np

BANDS_10M = ("B02", "B03", "B04", "B08")
BANDS_20M = ("B05", "B06", "B07", "B8A", "B11", "B12")
BANDS = BANDS_10M + BANDS_20M
"""PhilEO order, everywhere: four bands native at 10 m, then six native at 20 m."""

DN_PER_REFLECTANCE = 10_000
BOA_OFFSET_DN = 1_000
FIRST_OFFSET_BASELINE = 400
UNKNOWN_BASELINE = "9999"
DARKEST_OFFSET_DN = 900
"""Offset products can fall a little below 1000 DN where the atmospheric correction overshoots."""
IMPOSSIBLE_OFFSET_DN = 500
"""But not to a reflectance of -0.05: a product with so dark pixels carries no offset, whatever its name says."""


def baseline(product_id: str) -> str:
    """Processing baseline of a Sentinel-2 product: `S2A_MSIL2A_20200408T161829_N0500_...` -> `0500`.

    Four digits; `9999` (the mission's own "unknown") where the name has no such field.
    """
    match = re.search(r"_N(\d{4})(?=_|$)", product_id)
    return match[1] if match else UNKNOWN_BASELINE


def boa_offset_dn(product_id: str) -> int | None:
    """DN to subtract from a product's valid pixels, decided by its processing baseline.

    Returns:
        1000 for baseline 04.00 and later, 0 for earlier ones, None where the name does not tell (baseline 99.99 or
        no baseline field); `offset_from_pixels` then decides.
    """
    number = baseline(product_id)
    if number == UNKNOWN_BASELINE:
        return None
    return BOA_OFFSET_DN if int(number) >= FIRST_OFFSET_BASELINE else 0


def offset_from_pixels(bands: Iterable[np.ndarray]) -> int:
    """Guess the offset of a product of unknown baseline from its DN, an array of any shape for each band.

    Rule: take the first percentile of the valid DN (> 0) of each band. If even the lowest of them is above 900,
    no band has dark pixels and the product carries the offset. Some band is dark almost anywhere (blue over land
    and vegetation, short-wave infrared over water and snow); a scene of nothing but bright cloud or sand misleads
    the rule. The offset is 1000 or 0; 0 when there is no valid pixel.
    """
    return offset_of(darkest_dn(bands))


def offset_of(darkest: float) -> int:
    """The offset of a product whose `darkest_dn` is known; 0 where it is not a number."""
    return BOA_OFFSET_DN if darkest > DARKEST_OFFSET_DN else 0


def darkest_dn(bands: Iterable[np.ndarray]) -> float:
    """Lowest first percentile of valid DN (> 0) of any band; not a number where no pixel is valid."""
    return min(
        (float(np.percentile(valid, 1)) for band in bands if (valid := band[band > 0]).size), default=np.nan
    )
