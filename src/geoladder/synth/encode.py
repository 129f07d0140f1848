"""Reflectance as it is stored: digital numbers at native resolution, in GeoTIFF bytes.

0 means no data, so a valid pixel is at least 1; products of baseline 04.00 or later are 1000 DN brighter.
"""

import numpy as np
import rasterio
from rasterio.io import MemoryFile

DN_PER_REFLECTANCE, OFFSET_DN, OFFSET_BASELINE = 10_000, 1_000, 400
STORED = {
    "B01": (6, 0), "B02": (1, 0), "B03": (1, 1), "B04": (1, 2), "B05": (2, 0), "B06": (2, 1),
    "B07": (2, 2), "B08": (1, 3), "B8A": (2, 3), "B09": (6, 1), "B11": (2, 4), "B12": (2, 5),
}  # fmt: skip
"""Bands in the order of the archive: size of a pixel in units of 10 m, and position among the bands of that size."""


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
    fine = {1: reflectance[:4], 2: reflectance[4:], 6: np.stack([coastal, vapour])}
    images = {factor: quantise(_block_mean(bands, factor), offset_dn) for factor, bands in fine.items()}
    full = {factor: _block_mean(valid.astype(np.float32), factor) >= 0.999 for factor in images}
    return {
        band: np.where(full[factor], images[factor][number], np.uint16(0))
        for band, (factor, number) in STORED.items()
    }


def quantise(reflectance: np.ndarray, offset_dn: int) -> np.ndarray:
    """Reflectance to uint16 DN; 0 stays free for nodata."""
    return np.clip(np.rint(reflectance * DN_PER_REFLECTANCE) + offset_dn, 1, 65_535).astype(np.uint16)


def geotiff(image: np.ndarray, epsg: int, left_m: float, top_m: float, pixel_m: float) -> bytes:
    """Single-band deflated GeoTIFF in memory; nodata is 0 but for masks (uint8)."""
    profile = {
        "driver": "GTiff", "dtype": image.dtype, "count": 1,
        "height": image.shape[0], "width": image.shape[1], "crs": rasterio.CRS.from_epsg(epsg),
        "transform": rasterio.Affine(pixel_m, 0, left_m, 0, -pixel_m, top_m),
        "compress": "deflate", "zlevel": 3, "nodata": 0 if image.dtype == np.uint16 else None,
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**profile) as target:
            target.write(image, 1)
        return bytes(memory.getbuffer())
