"""Reflectance as it is stored: digital numbers at native resolution, in GeoTIFF bytes.

0 means no data, so a valid pixel is at least 1; products of baseline 04.00 or later are 1000 DN brighter.
"""

import numpy as np
import rasterio
from rasterio.io import MemoryFile

DN_PER_REFLECTANCE, OFFSET_DN, OFFSET_BASELINE = 10_000, 1_000, 400
BANDS_10M = {"B02": 0, "B03": 1, "B04": 2, "B08": 3}
BANDS_20M = {"B05": 4, "B06": 5, "B07": 6, "B8A": 7, "B11": 8, "B12": 9}


def offset_dn(baseline: str) -> int:
    """DN a product of this processing baseline (`0500`) carries on top: 1000 or 0."""
    return OFFSET_DN if int(baseline) >= OFFSET_BASELINE else 0


def _block_mean(image: np.ndarray, factor: int) -> np.ndarray:
    """Mean of factor x factor blocks over the last two axes."""
    *lead, height, width = image.shape
    return image.reshape(*lead, height // factor, factor, width // factor, factor).mean((-3, -1))


def digital_numbers(reflectance: np.ndarray, offset_dn: int, valid: np.ndarray) -> dict[str, np.ndarray]:
    """All twelve bands as stored: uint16 DN at their native 10, 20 or 60 m, 0 where there are no data.

    B01 (443 nm) and B09 (945 nm) are extrapolated from B02 and B03, and interpolated between B8A and B11.

    Args:
        reflectance: (10, H, W) float32 at 10 m, H and W multiples of 6.
        offset_dn: added to every valid pixel.
        valid: (H, W) bool.
    """
    coastal = 1.65 * reflectance[0] - 0.65 * reflectance[1]
    vapour = 0.89 * reflectance[7] + 0.11 * reflectance[8]
    half, sixth = _block_mean(reflectance[4:], 2), _block_mean(np.stack([coastal, vapour]), 6)
    stored = {band: (reflectance[index], 1) for band, index in BANDS_10M.items()}
    stored |= {band: (half[index - 4], 2) for band, index in BANDS_20M.items()}
    stored |= {"B01": (sixth[0], 6), "B09": (sixth[1], 6)}
    full = {factor: _block_mean(valid.astype(np.float32), factor) >= 0.999 for factor in (1, 2, 6)}
    return {
        band: np.where(full[factor], quantise(image, offset_dn), np.uint16(0))
        for band, (image, factor) in stored.items()
    }


def quantise(reflectance: np.ndarray, offset_dn: int) -> np.ndarray:
    """Reflectance to uint16 DN; 0 stays free for nodata."""
    return np.clip(np.rint(reflectance * DN_PER_REFLECTANCE) + offset_dn, 1, 65_535).astype(np.uint16)


def geotiff(image: np.ndarray, epsg: int, left_m: float, top_m: float, width_m: float) -> bytes:
    """Single-band deflated GeoTIFF in memory; nodata is 0 but for masks (uint8)."""
    step = width_m / image.shape[1]
    profile = {
        "driver": "GTiff", "dtype": image.dtype, "count": 1, "height": image.shape[0], "width": image.shape[1],
        "crs": rasterio.CRS.from_epsg(epsg), "transform": rasterio.Affine(step, 0, left_m, 0, -step, top_m),
        "compress": "deflate", "zlevel": 3, "nodata": 0 if image.dtype == np.uint16 else None,
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**profile) as target:
            target.write(image, 1)
        return bytes(memory.getbuffer())
