"""One product as a folder of GeoTIFFs: `B02.tif` ... `B12.tif` and `cloud_mask.tif`, or all in one `combined.tif`.

`combined.tif` has eleven bands at 10 m, the ten of PhilEO order and the cloud mask. Its 20 m bands were enlarged for
that, and are made small again here, so that both forms give a tile of the same shape.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from geoladder.data.archives.folders import walk
from geoladder.data.archives.grid import to_lat_lon
from geoladder.data.archives.tile import (
    UNKNOWN_CLOUD,
    Band,
    Tile,
    UnreadableTileError,
    assemble,
    ground_m,
    halve,
    read_bands,
)
from geoladder.data.labels.bands import BANDS, BANDS_10M, BANDS_20M

COMBINED = "combined.tif"
CLOUD = (1, 2)
"""Values of the cloud mask that metadata count as cloud: thick and thin, but not shadow."""


def find_products(root: Path) -> list[str]:
    """Folders with B02.tif or combined.tif, at any depth, as POSIX paths below `root`, sorted.

    Raises:
        GeoladderError: a folder may not be looked into.
    """
    products = []
    for folder, folders, files in walk(root):
        if "B02.tif" in files or COMBINED in files:
            products.append(folder.relative_to(root).as_posix())
            folders.clear()
    return sorted(products)


def read_product(folder: Path, grid_cell: str, mask_may_lack: bool = False) -> Tile:
    """Read a product's ten bands and cloud mask at native resolution.

    Args:
        folder: of the product, named like it.
        grid_cell: its name.
        mask_may_lack: whether a cloud mask that is missing or does not fit counts as unknown.

    Raises:
        UnreadableTileError: a file is missing or unreadable, or a band has another size or dtype.
    """
    combined = (folder / COMBINED).is_file()
    bands = _combined(folder) if combined else {name: _band(folder, name) for name in BANDS}
    if not combined:
        bands["cloud_mask"] = _mask(folder, bands["B02"], mask_may_lack)
    return assemble(grid_cell, folder.name, bands, str(folder))


class Peek(NamedTuple):
    """What a product's 10 m band and cloud mask say of the whole tile."""

    lat_deg: float
    lon_deg: float
    epsg: int
    cloud_percent: float
    """0-100 of the pixels with thick or thin cloud; 0 where the mask says nothing."""
    nodata_share: float


def peek(folder: Path, mask_may_lack: bool = False) -> Peek:
    """Describe a product without reading all its bands.

    Raises:
        UnreadableTileError: as `read_product`.
    """
    if (folder / COMBINED).is_file():
        bands = _combined(folder)
        blue, mask = bands["B02"], bands["cloud_mask"]
    else:
        blue = _band(folder, "B02")
        mask = _mask(folder, blue, mask_may_lack)
    if blue.epsg is None:
        raise UnreadableTileError(f"{folder} band B02 has no coordinate system; unpack or fetch it again")
    height, width = blue.pixels.shape
    lat_deg, lon_deg = to_lat_lon(blue.epsg, *ground_m(blue.transform, width / 2, height / 2))
    cloudy = 100 * float(np.isin(mask.pixels, CLOUD).mean())
    return Peek(lat_deg, lon_deg, blue.epsg, cloudy, float((blue.pixels == 0).mean()))


def _band(folder: Path, name: str) -> Band:
    path = folder / f"{name}.tif"
    if not path.exists():
        raise UnreadableTileError(f"{path} does not exist; unpack or fetch the product again")
    return read_bands(path, str(path))[0]


def _mask(folder: Path, like: Band, may_lack: bool) -> Band:
    unknown = Band(np.full(like.pixels.shape, UNKNOWN_CLOUD, np.uint8), like.transform, like.crs)
    if may_lack and not (folder / "cloud_mask.tif").exists():
        return unknown
    mask = _band(folder, "cloud_mask")
    return unknown if may_lack and mask.pixels.shape != like.pixels.shape else mask


def _combined(folder: Path) -> dict[str, Band]:
    path = folder / COMBINED
    names = (*BANDS_10M, *BANDS_20M, "cloud_mask")
    bands = dict(zip(names, read_bands(path, str(path), len(names)), strict=True))
    if any(side % 2 for side in bands["B02"].pixels.shape):
        raise UnreadableTileError(
            f"{path} has sides of {bands['B02'].pixels.shape} pixels; even ones are expected"
        )
    coarse = halve(np.stack([bands[name].pixels for name in BANDS_20M]))
    return bands | {
        name: bands[name]._replace(pixels=pixels.astype(bands[name].pixels.dtype))
        for name, pixels in zip(BANDS_20M, coarse, strict=True)
    }
