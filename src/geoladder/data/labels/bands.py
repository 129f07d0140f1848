"""The ten bands, and the one place where digital numbers (DN) become reflectance.

Unusual: Sentinel-2 products of processing baseline 04.00 and later carry +1000 DN (BOA_ADD_OFFSET = -1000).
Old scenes were reprocessed, so the acquisition date says nothing: only the N0xxx field of `product_id` does.
"""

import re
from collections.abc import Iterable

import numpy as np
import torch
from torch.nn import functional

from geoladder.errors import GeoladderError

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

DN = np.ndarray | torch.Tensor


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
    dark = [np.percentile(valid, 1) for band in bands if (valid := band[band > 0]).size]
    return BOA_OFFSET_DN if dark and min(dark) > DARKEST_OFFSET_DN else 0


def to_reflectance(dn10: DN, dn20: DN | None, offset_dn: DN | int) -> torch.Tensor:
    """Turn stored DN into surface reflectance at 10 m: max(DN - offset, 0) / 10000.

    Negative reflectance is clipped to 0, and nodata (DN 0) stays 0. Bands of 20 m are resampled bilinearly.
    GeoladderError where band counts or sizes do not fit together.

    Args:
        dn10: (N, 4, P, P) uint16, B02 B03 B04 B08; or all ten bands at 10 m, (N, 10, P, P), with dn20 None.
        dn20: (N, 6, P/2, P/2) uint16, B05 B06 B07 B8A B11 B12; or None.
        offset_dn: DN to subtract, (N,) or one number.

    Returns:
        (N, 10, P, P) float32 reflectance, 0..1 for most surfaces (snow and clouds exceed 1), bands in `BANDS` order,
        on the device of `dn10`.
    """
    fine = _subtract(dn10, offset_dn)
    if dn20 is None:
        if fine.shape[1] != len(BANDS):
            raise GeoladderError(
                f"without 20 m bands, 10 bands at 10 m are needed; got shape {tuple(dn10.shape)}"
            )
        return fine
    coarse = _subtract(dn20, offset_dn)
    side = tuple(2 * length for length in coarse.shape[2:])
    if fine.shape[1] != len(BANDS_10M) or coarse.shape[1] != len(BANDS_20M) or tuple(fine.shape[2:]) != side:
        raise GeoladderError(
            f"10 m bands {tuple(dn10.shape)} and 20 m bands {tuple(dn20.shape)} do not fit: "
            "(N, 4, P, P) and (N, 6, P/2, P/2) are needed"
        )
    coarse = functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat([fine, coarse], dim=1)


def _subtract(dn: DN, offset_dn: DN | int) -> torch.Tensor:
    stored = dn.float() if isinstance(dn, torch.Tensor) else torch.from_numpy(dn.astype(np.float32))
    offset = torch.as_tensor(offset_dn, dtype=torch.float32, device=stored.device).reshape(-1, 1, 1, 1)
    return (stored - offset).clamp_(min=0).div_(DN_PER_REFLECTANCE)
