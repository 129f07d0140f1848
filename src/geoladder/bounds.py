"""How large a file of images may be, by what its header claims, before anything of it is decoded.

A few bytes can claim any size: a compressed GeoTIFF of 170 kB that of 8 GB. All checks raise OSError, as opening the
file would, so that whoever reads names the file, drops it or stops, as for any other damage.
"""

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow.parquet as pq
    import rasterio

MAX_SIDE_PX = 4096
"""Of a tile or patch; a whole tile of MajorTOM has 1068. Ten bands and a mask of it take 200 MB."""
MAX_RASTER_BYTES = 2**28
"""Of all bands of a GeoTIFF together, and of one of its blocks: GDAL decodes blocks as a whole."""
MAX_PATCHES = 1_000_000
"""In an npy file; all of a bucket of PhilEO Bench are 230,000."""
MAX_ROW_BYTES = 2**28
"""Of the columns of one tile in an image part; real ones have 10 MB."""
MAX_TABLE_BYTES = 2**29
"""Of the columns of a table that are read as a whole; those of all of MajorTOM Core have 300 MB."""
MAX_ROWS = 10_000_000
"""Of such a table. Repeated values take no room in a file, so bytes alone say too little."""


def plain_file(path: Path) -> Path:
    """The same path, unless it names a pipe, a device or a socket, which may never end or never answer."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise OSError(f"it is {kind}, not a file")
    return path


def check_raster(raster: "rasterio.DatasetReader") -> None:
    """Refuse a raster that claims too much to be read as a whole."""
    height, width = raster.shape
    size_bytes = height * width * sum(map(_item_bytes, raster.dtypes))
    if max(height, width) > MAX_SIDE_PX or size_bytes > MAX_RASTER_BYTES:
        raise OSError(
            f"it claims {height} x {width} pixels, {size_bytes / 1e6:.0f} MB; at most {MAX_SIDE_PX} a side and "
            f"{MAX_RASTER_BYTES / 1e6:.0f} MB are read"
        )
    check_blocks(raster)


def check_blocks(raster: "rasterio.DatasetReader") -> None:
    """Refuse a raster whose blocks claim too much, if only windows of it are read."""
    for (height, width), dtype in zip(raster.block_shapes, raster.dtypes, strict=True):
        size_bytes = height * width * _item_bytes(dtype)
        if size_bytes > MAX_RASTER_BYTES:
            raise OSError(
                f"it claims blocks of {height} x {width} pixels, {size_bytes / 1e6:.0f} MB; at most "
                f"{MAX_RASTER_BYTES / 1e6:.0f} MB are read: tile it anew with `rio convert --co TILED=YES`"
            )


def check_array(array: np.ndarray) -> None:
    """Refuse a memory-mapped array (N, ...) of more patches, or larger ones, than any archive has."""
    patches, *sides = array.shape or (1,)
    if patches > MAX_PATCHES or max(sides, default=0) > MAX_SIDE_PX:
        raise OSError(
            f"it claims the shape {array.shape}; at most {MAX_PATCHES} patches of {MAX_SIDE_PX} pixels are read"
        )


def check_columns(
    file: "pq.FileMetaData", columns: Iterable[str], groups: Iterable[int] | None, most_bytes: int
) -> None:
    """Refuse columns that claim more than `most_bytes` when unpacked, in some row groups or in all (None)."""
    wanted = set(columns)
    numbers = [n for n in range(file.num_columns) if file.schema.column(n).path.partition(".")[0] in wanted]
    size_bytes = rows = 0
    for number in range(file.num_row_groups) if groups is None else groups:
        group = file.row_group(number)
        rows += group.num_rows
        size_bytes += sum(max(0, group.column(column).total_uncompressed_size) for column in numbers)
    if rows > MAX_ROWS or size_bytes > most_bytes:
        raise OSError(
            f"it claims {rows} rows and {size_bytes / 1e6:.0f} MB; at most {MAX_ROWS} rows and "
            f"{most_bytes / 1e6:.0f} MB are read"
        )


def _item_bytes(dtype: str) -> int:
    return np.dtype("complex64" if dtype.startswith("complex_") else dtype).itemsize
