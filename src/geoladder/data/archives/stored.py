"""What a raster file says of its own numbers: its fill value, mask, scale and offset; and its pixels without fill.

Readers know one mark of missing data, 0. Other writers mark it by a tag (xarray: 65535 for uint16), by a mask inside
the file, or not at all, so what fills much of a band with the largest number there is counts as missing, too.
"""

import math
from typing import NamedTuple

import numpy as np
from rasterio import DatasetReader
from rasterio.enums import MaskFlags

from geoladder.data.labels.bands import DN_PER_REFLECTANCE

NODATA_DN = 0
LARGEST_DN = 65_535
"""Of uint16: the fill of xarray, and Sentinel-2's own mark of single saturated pixels, which stay."""
FILL_SHARE = 0.001
"""Of a band; from so many pixels on, the largest number is a fill and no saturation."""


class Stored(NamedTuple):
    """A band as its file describes it."""

    driver: str
    """`GTiff` or `JP2OpenJPEG`."""
    nodata: float | None
    """Of the tag."""
    masked: bool
    """Whether the file holds a mask of valid pixels."""
    offset_dn: int | None
    """DN to subtract by the tags scale and offset; None where the file has none."""
    unit_dn: float | None
    """DN of a stored 1 by the tag scale; None where the file has none, infinite where it cannot be."""
    filled: float
    """Share of pixels that were marked as missing by another number than 0."""


def bulk_fill(pixels: np.ndarray) -> np.ndarray | None:
    """Which pixels (H, W) of a band hold the largest number of uint16 as a fill; None where none does."""
    if pixels.dtype != np.uint16 or pixels.max(initial=0) < LARGEST_DN:
        return None
    largest = pixels == LARGEST_DN
    return largest if largest.mean() >= FILL_SHARE else None


def clear_fill(raster: DatasetReader, number: int, pixels: np.ndarray, empty: int) -> Stored:
    """Set pixels (H, W) of a band without data to `empty`, in place, and describe the band; bands count from 1.

    Of a cloud mask, which holds classes from 0 on, a tag that names a class says nothing.
    """
    nodata, masked = (
        raster.nodatavals[number - 1],
        MaskFlags.per_dataset in raster.mask_flag_enums[number - 1],
    )
    marks = []
    if masked:
        marks.append(raster.read_masks(number) == 0)
    if nodata is not None and not 0 <= nodata <= empty:
        marks.append(pixels == nodata)
    if (bulk := bulk_fill(pixels)) is not None:
        marks.append(bulk)
    filled = 0.0
    if marks:
        missing = np.logical_or.reduce(marks) & (pixels != empty)
        filled, pixels[missing] = float(missing.mean()), empty
    scale, offset = raster.scales[number - 1], raster.offsets[number - 1]
    possible = scale > 0 and math.isfinite(scale) and math.isfinite(offset)
    offset_dn = round(-offset / scale) if possible and (scale, offset) != (1, 0) else None
    unit_dn = None if scale == 1 else scale * DN_PER_REFLECTANCE if possible else math.inf
    return Stored(raster.driver, nodata, masked, offset_dn, unit_dn, filled)
