"""Reader of a local MajorTOM Core-S2L2A archive, one row at a time.

Unusual: a row is a whole tile of about 9 MB, its columns are GeoTIFF files as bytes, and each row is its own parquet
row group, so one tile is read without touching its neighbours. Sizes come from the GeoTIFFs: real tiles have 1068
pixels of 10 m a side, other archives need not. Layout: `metadata.parquet`, `images/part_00001.parquet`, ...
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from affine import Affine

from geoladder.data.bands import BANDS, BANDS_10M, BANDS_20M
from geoladder.errors import GeoladderError

IDENTITY = ["grid_cell", "product_id"]
COLUMNS = [*IDENTITY, *BANDS, "cloud_mask"]
METADATA = {
    "grid_cell": "grid_cell",
    "product_id": "product_id",
    "timestamp": "timestamp",
    "centre_lat": "lat_deg",
    "centre_lon": "lon_deg",
    "cloud_cover": "cloud_percent",
    "nodata": "nodata_share",
    "crs": "epsg",
    "parquet_url": "part",
    "parquet_row": "row",
}
OPEN_PARTS = 4
"""Footers of real parts hold 500 row groups and take about 1 MB each, so only a few are kept."""


class UnreadableTileError(GeoladderError):
    """A row whose bytes cannot be turned into a tile. Callers may drop and count it."""


class Tile(NamedTuple):
    """One row of the archive at native resolution."""

    grid_cell: str
    product_id: str
    dn10: np.ndarray
    """(4, H, W) uint16: B02 B03 B04 B08; 0 is nodata."""
    dn20: np.ndarray
    """(6, H/2, W/2) uint16: B05 B06 B07 B8A B11 B12; 0 is nodata."""
    cloud_mask: np.ndarray
    """(H, W) uint8: 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow."""
    transform: Affine
    """(column, row) in 10 m pixels to (easting, northing) in metres."""
    epsg: int


class MajorTom:
    """A folder in the layout of MajorTOM Core-S2L2A. Never writes to it."""

    def __init__(self, archive: Path) -> None:
        """Open an archive.

        Raises:
            GeoladderError: the folder has no metadata.parquet.
        """
        self.archive = Path(archive)
        self._parts: dict[str, pq.ParquetFile] = {}
        if not (self.archive / "metadata.parquet").is_file():
            raise GeoladderError(
                f"no metadata.parquet in {self.archive}; a MajorTOM archive is a folder with metadata.parquet and "
                "images/part_*.parquet (check the corpus' `path`)"
            )

    def metadata(self) -> pd.DataFrame:
        """Table of all rows the archive lists, in its order.

        Returns:
            grid_cell, product_id, timestamp (UTC without zone, NaT where unreadable), lat_deg, lon_deg (tile centre),
            cloud_percent (0-100), nodata_share (0-1), epsg (int, 0 where unreadable), part (file name in images/),
            row (row group in the part).

        Raises:
            GeoladderError: the file is no parquet, or a column is missing.
        """
        path = self.archive / "metadata.parquet"
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as problem:
            raise GeoladderError(f"{path} cannot be read ({problem}); fetch it again") from None
        names = ["timestamp" if name == "product_datetime" else name for name in table.column_names]
        missing = sorted(set(METADATA) - set(names))
        if missing:
            raise GeoladderError(
                f"{path} lacks the column(s) {', '.join(missing)}; it has {', '.join(names)}. "
                "Is it the metadata of MajorTOM Core-S2L2A?"
            )
        rows = table.rename_columns(names).select(list(METADATA)).to_pandas().rename(columns=METADATA)
        stamps = pd.to_datetime(rows["timestamp"], format="mixed", utc=True, errors="coerce")
        return rows.assign(
            timestamp=stamps.dt.tz_localize(None),
            # Some archives say 'EPSG:EPSG:32701', so only the number at the end counts.
            epsg=rows["epsg"].astype(str).str.extract(r"(\d{4,5})$")[0].fillna("0").astype(int),
            part=rows["part"].astype(str).str.rpartition("/")[2],
            row=pd.to_numeric(rows["row"], errors="coerce").fillna(-1).astype(int),
            grid_cell=rows["grid_cell"].fillna(""),
            product_id=rows["product_id"].fillna(""),
        )

    def identities(self, part: str) -> pd.DataFrame:
        """Read grid_cell and product_id of every row of one part, without its images.

        Raises:
            UnreadableTileError: as `read`, for the part as a whole.
        """
        try:
            return self._open(part).read(columns=IDENTITY).to_pandas()
        except (pa.ArrowException, OSError) as problem:
            raise UnreadableTileError(self._broken(part, problem)) from None

    def read(self, part: str, row: int) -> Tile:
        """Read the ten bands and the cloud mask of one row at native resolution.

        Args:
            part: file name in images/, such as `part_00001.parquet`.
            row: row group in the part, from 0.

        Raises:
            UnreadableTileError: the part is missing, truncated or lacks columns, the row does not exist, or a band is
                not a single-band uint16 GeoTIFF of the right size; names file, row, band and the fix.
        """
        file = self._open(part)
        if not 0 <= row < file.num_row_groups:
            raise UnreadableTileError(
                f"{self._path(part)} has rows 0..{file.num_row_groups - 1}, but row {row} was asked for; "
                "metadata.parquet and the images are of different versions: fetch both again"
            )
        try:
            values = file.read_row_group(row, columns=COLUMNS).to_pylist()[0]
        except (pa.ArrowException, OSError) as problem:
            raise UnreadableTileError(self._broken(f"{part} row {row}", problem)) from None
        where = f"{self._path(part)} row {row} ({values['grid_cell']})"
        bands = {name: _decode(values[name], f"{where} band {name}") for name in (*BANDS, "cloud_mask")}
        _check_sizes({name: band.pixels for name, band in bands.items()}, where)
        reference = bands["B02"]
        if reference.epsg is None:
            raise UnreadableTileError(f"{where} band B02 has no coordinate system; fetch the part again")
        return Tile(
            values["grid_cell"],
            values["product_id"],
            np.stack([bands[name].pixels for name in BANDS_10M]),
            np.stack([bands[name].pixels for name in BANDS_20M]),
            bands["cloud_mask"].pixels.astype(np.uint8),
            reference.transform,
            reference.epsg,
        )

    def _path(self, part: str) -> Path:
        return self.archive / "images" / part

    def _broken(self, where: str, problem: Exception) -> str:
        return (
            f"{self.archive}/images/{where} cannot be read ({problem}); the file is damaged: fetch it again"
        )

    def _open(self, part: str) -> pq.ParquetFile:
        if part in self._parts:
            return self._parts[part]
        if not self._path(part).is_file():
            raise UnreadableTileError(
                f"metadata.parquet lists {self._path(part)}, which does not exist; fetch it, or remove its rows"
            )
        try:
            file = pq.ParquetFile(self._path(part))
        except (pa.ArrowException, OSError) as problem:
            raise UnreadableTileError(self._broken(part, problem)) from None
        missing = sorted(set(COLUMNS) - set(file.schema_arrow.names))
        if missing:
            raise UnreadableTileError(
                f"{self._path(part)} lacks the column(s) {', '.join(missing)}; geoladder reads MajorTOM Core-S2L2A"
            )
        if file.num_row_groups != file.metadata.num_rows:
            raise UnreadableTileError(
                f"{self._path(part)} has {file.metadata.num_rows} rows in {file.num_row_groups} row groups; MajorTOM "
                "keeps one row per group: fetch the original file, or write it with row_group_size=1"
            )
        if len(self._parts) >= OPEN_PARTS:
            self._parts.pop(next(iter(self._parts))).close()
        self._parts[part] = file
        return file


class _Band(NamedTuple):
    pixels: np.ndarray
    transform: Affine
    epsg: int | None


def _decode(data: bytes | None, where: str) -> _Band:
    if not data:
        raise UnreadableTileError(f"{where} is empty; fetch the part again")
    try:
        with rasterio.MemoryFile(data) as memory, memory.open(driver="GTiff") as raster:
            if raster.count != 1:
                raise UnreadableTileError(f"{where} has {raster.count} bands in its GeoTIFF; 1 is expected")
            return _Band(raster.read(1), raster.transform, raster.crs.to_epsg() if raster.crs else None)
    except rasterio.errors.RasterioError as problem:
        raise UnreadableTileError(
            f"{where} is no readable GeoTIFF ({problem}); fetch the part again"
        ) from None


def _check_sizes(pixels: dict[str, np.ndarray], where: str) -> None:
    height, width = pixels["B02"].shape
    for name, band in pixels.items():
        step = 2 if name in BANDS_20M else 1
        if (band.shape[0] * step, band.shape[1] * step) != (height, width):
            raise UnreadableTileError(
                f"{where} band {name} has {band.shape[0]} x {band.shape[1]} pixels beside {height} x {width} of B02; "
                f"{'half as many a side' if step == 2 else 'as many'} are expected"
            )
        if name != "cloud_mask" and band.dtype != np.uint16:
            raise UnreadableTileError(f"{where} band {name} is {band.dtype}; uint16 DN are expected")
