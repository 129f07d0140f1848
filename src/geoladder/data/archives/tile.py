"""One tile in memory, whatever layout it was read from, and what every reader of tiles offers.

Readers differ only in where bands lie. Each opens its bands its own way and hands them to `assemble`, which holds all
of them to the same rules, so a bad band gives the same message from every archive.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd
import rasterio
from affine import Affine
from numpy.typing import ArrayLike
from rasterio.crs import CRS

from geoladder.bounds import check_raster, plain_file
from geoladder.data.archives.folders import remedy
from geoladder.data.archives.stored import NODATA_DN, Stored, clear_fill
from geoladder.data.labels.bands import BANDS_10M, BANDS_20M
from geoladder.data.labels.climate import koppen
from geoladder.errors import GeoladderError

T = TypeVar("T", float, np.ndarray)

CLOUDY = (1, 2, 3)
"""Values of a cloud mask that count as cloudy: thick cloud, thin cloud, cloud shadow."""
UNKNOWN_CLOUD = 4
"""Where a cloud mask says nothing, as FastTOM's author fills it. Counts neither as clear nor as cloudy."""
NO_CLASS = 255
"""In place of numbers of a cloud mask that uint8 does not have."""

JPEG_2000 = (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
"""First bytes of JPEG 2000, in which Sentinel-2 comes from its makers, as a file and as a bare code stream."""

TILE_COLUMNS = (
    "grid_cell product_id timestamp lat_deg lon_deg cloud_percent nodata_share epsg part row unusable"
).split()


def table_row(part: str, **facts: Any) -> dict[str, Any]:  # noqa: ANN401
    """A row of `TileSource.metadata` of which only `facts` are known."""
    unknown: dict[str, Any] = dict.fromkeys(TILE_COLUMNS, "")
    unknown |= {"timestamp": pd.NaT, "lat_deg": np.nan, "lon_deg": np.nan}
    return unknown | {"cloud_percent": 0.0, "nodata_share": 0.0, "epsg": 0, "part": part, "row": 0} | facts


class UnreadableTileError(GeoladderError):
    """A row whose bytes cannot be turned into a tile. Callers may drop and count it."""


class UnwantedTileError(UnreadableTileError):
    """A tile that is sound, but that the corpus does not take; `reason` says why, in the words of a ledger."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Tile(NamedTuple):
    """One row of an archive at native resolution."""

    grid_cell: str
    product_id: str
    dn10: np.ndarray
    """(4, H, W) uint16: B02 B03 B04 B08; 0 is nodata."""
    dn20: np.ndarray
    """(6, H/2, W/2) uint16: B05 B06 B07 B8A B11 B12; 0 is nodata."""
    cloud_mask: np.ndarray
    """(H, W) uint8: 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow, 4 unknown; any other is no class."""
    transform: Affine
    """(column, row) in 10 m pixels to (easting, northing) in metres."""
    epsg: int
    koppen: int | None = None
    """Köppen-Geiger class the archive itself states for the tile; None: sample a map at each crop's centre."""
    stored: tuple[Stored, ...] = ()
    """What the file of each band, and of the mask, says of its numbers; empty where no raster file holds them."""


class TileSource(Protocol):
    """What index and chips ask of an archive."""

    def metadata(self) -> pd.DataFrame:
        """Table of all rows, in the archive's order.

        Returns:
            grid_cell, product_id, timestamp (UTC without zone, NaT where unreadable), lat_deg, lon_deg (centre),
            cloud_percent (0-100), nodata_share (0-1), epsg (int, 0 where unreadable), part (a name `identities` and
            `read` know), row (number in the part), unusable (why the reader already knows a row to be of no use;
            empty elsewhere). Where metadata were read, its `attrs["units"]` say how their columns are written.
        """
        ...

    def identities(self, part: str) -> pd.DataFrame:
        """grid_cell and product_id of the rows of one part, from its images and not from the metadata.

        UnreadableTileError, with what is wrong and the fix, where the part as a whole cannot be read.
        """
        ...

    def read(self, part: str, row: int) -> Tile:
        """Read one row at native resolution.

        Raises:
            UnreadableTileError: it does not exist, a file or band is missing or damaged, of another size or dtype;
                names file, row, band and the fix. Or (`UnwantedTileError`) the corpus does not take it.
        """
        ...


class Band(NamedTuple):
    """One band as it was read."""

    pixels: np.ndarray
    """(H, W)."""
    transform: Affine
    crs: CRS | None
    stored: Stored

    @property
    def epsg(self) -> int | None:
        """Code of the coordinate system; looked up when asked for, since that takes as long as a small band."""
        code: int | None = self.crs.to_epsg() if self.crs else None
        return code


def read_bands(
    source: Path | memoryview, where: str, names: Sequence[str], into: np.ndarray | None = None
) -> list[Band]:
    """Read every band, called `names`, of a GeoTIFF, or of the bytes of one or of a JPEG 2000.

    `where` names the source in messages. Pixels are read into `into` (bands, H, W), if its size and dtype are those
    of the file. Where a tag, a mask or the bulk of its pixels says that a pixel has no data it becomes 0, or
    `UNKNOWN_CLOUD` in a cloud_mask. UnreadableTileError where the source is none of these formats, claims to be
    larger than `bounds` allow, or has another number of bands.
    """
    try:
        with ExitStack() as files:
            if isinstance(source, memoryview):
                memory = files.enter_context(rasterio.MemoryFile(source))
                raster = files.enter_context(memory.open(driver=_driver_of(source)))
            else:
                raster = files.enter_context(rasterio.open(plain_file(source), driver="GTiff"))
            if raster.count != len(names):
                raise UnreadableTileError(
                    f"{where} has {raster.count} bands in its GeoTIFF; {len(names)} is expected"
                )
            check_raster(raster)
            if into is not None and (into.shape[1:] != raster.shape or raster.dtypes[0] != into.dtype.name):
                into = None
            transform, crs = raster.transform, raster.crs
            pixels = raster.read(out=into)
            empty = [UNKNOWN_CLOUD if name == "cloud_mask" else NODATA_DN for name in names]
            return [
                Band(band, transform, crs, clear_fill(raster, number, band, value))
                for number, (band, value) in enumerate(zip(pixels, empty, strict=True), 1)
            ]
    except (rasterio.errors.RasterioError, OSError) as problem:
        raise UnreadableTileError(
            f"{where} is no readable GeoTIFF ({problem}); {remedy(source, problem)}"
        ) from None


def _driver_of(image: memoryview) -> str:
    """GDAL's driver of the bytes of an image; no other one sees them."""
    return "JP2OpenJPEG" if bytes(image[:12]).startswith(JPEG_2000) else "GTiff"


def assemble(
    grid_cell: str, product_id: str, read: Callable[[str, np.ndarray | None], Band], where: str
) -> Tile:
    """Put a tile together from the ten `BANDS` at native resolution and cloud_mask at 10 m.

    `read(name, into)` gives a band; it may read the band into the array `into` (1, H, W), which saves a tenth of a
    tile's time. `where` names the tile in messages. UnreadableTileError where a band has another size or dtype, or
    B02 has no coordinate system.
    """
    with rasterio.Env():  # one for all bands; each would set up its own
        blue = read("B02", None)
        (height, width), epsg = blue.pixels.shape, blue.epsg
        if epsg is None:
            bare = blue.stored.driver != "GTiff"
            fault = "is JPEG 2000 without a coordinate system" if bare else "has no coordinate system"
            fix = "write it with one, or as GeoTIFF" if bare else "fetch the part again"
            raise UnreadableTileError(f"{where} band B02 {fault}; {fix}")
        dn10 = np.empty((len(BANDS_10M), height, width), np.uint16)
        dn20 = np.empty((len(BANDS_20M), height // 2, width // 2), np.uint16)
        mask = np.empty((1, height, width), np.uint8)
        stored = []
        for names, stack, step in ((BANDS_10M, dn10, 1), (BANDS_20M, dn20, 2), (["cloud_mask"], mask, 1)):
            for place, name in enumerate(names):
                band = blue if name == "B02" else read(name, stack[place : place + 1])
                pixels = band.pixels
                stored.append(band.stored)
                if (pixels.shape[0] * step, pixels.shape[1] * step) != (height, width):
                    raise UnreadableTileError(
                        f"{where} band {name} has {pixels.shape[0]} x {pixels.shape[1]} pixels beside {height} x "
                        f"{width} of B02; {'half as many a side' if step == 2 else 'as many'} are expected"
                    )
                if stack is mask:
                    pixels = _classes(pixels)
                elif pixels.dtype != np.uint16:
                    raise UnreadableTileError(
                        f"{where} band {name} is {pixels.dtype}; uint16 DN are expected"
                    )
                if pixels.base is not stack:
                    stack[place] = pixels
    return Tile(grid_cell, product_id, dn10, dn20, mask[0], blue.transform, epsg, stored=tuple(stored))


def _classes(mask: np.ndarray) -> np.ndarray:
    """A cloud mask of any type as uint8: NaN is unknown, and what is no whole number of uint8 becomes 255."""
    if mask.dtype == np.uint8:
        return mask
    classes = np.where(np.isnan(mask), UNKNOWN_CLOUD, mask)
    whole = (classes >= 0) & (classes <= NO_CLASS) & (classes % 1 == 0)
    return np.where(whole, classes, NO_CLASS).astype(np.uint8)


def climate_of(tile: Tile, lat_deg: ArrayLike, lon_deg: ArrayLike, raster: Path | None = None) -> np.ndarray:
    """Beck codes, (N,) uint8, of N places in a tile: what the tile's archive states for it, else as `koppen`."""
    if tile.koppen is not None:
        return np.full(np.shape(lat_deg), tile.koppen, np.uint8)
    return koppen(lat_deg, lon_deg, raster)


def ground_m(transform: Affine, column: T, line: T) -> tuple[T, T]:
    """Easting and northing in metres of places in a tile, 10 m pixels from its left and upper sides."""
    return (
        transform.a * column + transform.b * line + transform.c,
        transform.d * column + transform.e * line + transform.f,
    )


def halve(fine: np.ndarray) -> np.ndarray:
    """20 m pixels from bands that were enlarged to 10 m: the mean of each four, rounded.

    (B, H, W) uint16 of even sides becomes (B, H/2, W/2). Undoes an enlargement by repetition to the bit. One nodata
    pixel of four makes nodata.
    """
    quarters = np.stack([fine[:, top::2, left::2] for top in (0, 1) for left in (0, 1)]).astype(np.uint32)
    mean = ((quarters.sum(axis=0) + 2) // 4).astype(np.uint16)
    return np.where(quarters.min(axis=0) == 0, np.uint16(0), mean)
