"""Reader of a local MajorTOM Core-S2L2A archive, one row at a time.

A row is a whole tile of about 9 MB, its columns are GeoTIFF files as bytes, and each row is its own parquet row
group, so one tile is read without touching its neighbours. Sizes come from the GeoTIFFs: real tiles have 1068 pixels
of 10 m a side, other archives need not. Layout: `metadata.parquet`, `images/part_00001.parquet`, ...

Editions of the metadata differ: the time column has two names, coordinate systems are sometimes misspelt
(`EPSG:EPSG:32701`), and any value may be missing: such rows are kept here, and dropped later with their reason.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from geoladder.bounds import MAX_ROW_BYTES, MAX_TABLE_BYTES, check_columns, plain_file
from geoladder.data.archives import tile
from geoladder.data.archives.columns import (
    ROUNDING,
    epsg_codes,
    longitudes,
    row_numbers,
    shares,
    timestamps,
    within,
)
from geoladder.data.archives.folders import remedy
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)

IDENTITY = ["grid_cell", "product_id"]
COLUMNS = [*IDENTITY, *BANDS, "cloud_mask"]
OPEN_PARTS = 4
"""Footers of real parts hold 500 row groups and take about 1 MB each, so only a few are kept."""
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
OTHER_TIME = "product_datetime"
"""What some editions call `timestamp`."""
TEXTS = (*IDENTITY, "parquet_url")
POSITION = ("parquet_url", "parquet_row")
"""Where a row lies among the parts; only an archive of parts needs to say so."""


class MajorTom:
    """A folder in the layout of MajorTOM Core-S2L2A. Never writes to it."""

    files = "metadata.parquet and images/part_*.parquet"

    def __init__(self, archive: Path) -> None:
        """Open an archive; raises GeoladderError where the folder has no metadata.parquet."""
        self.archive = Path(archive)
        self._parts: dict[str, pq.ParquetFile] = {}
        if not (self.archive / "metadata.parquet").is_file():
            raise GeoladderError(
                f"no metadata.parquet in {self.archive}; a MajorTOM archive is a folder with {self.files} (check the "
                "corpus' `path`)"
            )

    def metadata(self) -> pd.DataFrame:
        """All rows the archive lists; `part` is a file in images/, `row` its row group. Raises as `read_metadata`."""
        return read_metadata(self.archive / "metadata.parquet")

    def identities(self, part: str) -> pd.DataFrame:
        """Read grid_cell and product_id of every row of one part, without its images; raises as `read`."""
        with self._reading(part):
            file = self._open(part)
            check_columns(file.metadata, IDENTITY, None, MAX_TABLE_BYTES)
            return decoded(file.read(columns=IDENTITY)).to_pandas()

    def read(self, part: str, row: int) -> tile.Tile:
        """Read a row (group, from 0) of images/`part`, such as `part_00001.parquet`; raises as `TileSource.read`."""
        file = self._open(part)
        if not 0 <= row < file.num_row_groups:
            raise tile.UnreadableTileError(
                f"{self._path(part)} has rows 0..{file.num_row_groups - 1}, but row {row} was asked for; "
                "metadata.parquet and the images are of different versions: fetch both again"
            )
        with self._reading(part, f" row {row}"):
            check_columns(file.metadata, COLUMNS, [row], MAX_ROW_BYTES)
            table = decoded(file.read_row_group(row, columns=COLUMNS, use_threads=False))
        grid_cell, product_id = (table.column(name)[0].as_py() for name in IDENTITY)
        where = f"{self._path(part)} row {row} ({grid_cell})"

        def band(name: str, into: np.ndarray | None) -> tile.Band:
            data = table.column(name)[0]
            bytes_ = data.as_buffer() if data.is_valid else None
            if not bytes_:
                raise tile.UnreadableTileError(f"{where} band {name} is empty; fetch the part again")
            return tile.read_bands(memoryview(bytes_), f"{where} band {name}", (name,), into)[0]

        return tile.assemble(grid_cell, product_id, band, where)

    def _path(self, part: str) -> Path:
        return self.archive / "images" / part

    @contextmanager
    def _reading(self, part: str, row: str = "") -> Iterator[None]:
        """Turn what pyarrow and the disk raise in the block into a message that names the part."""
        path = self._path(part)
        try:
            yield
        except FileNotFoundError:
            raise tile.UnreadableTileError(
                f"metadata.parquet lists {path}, which does not exist; fetch it, or remove its rows"
            ) from None
        except (pa.ArrowException, OSError) as problem:
            raise tile.UnreadableTileError(
                f"{path}{row} cannot be read ({problem}); {remedy(path, problem)}"
            ) from None

    def _open(self, part: str) -> pq.ParquetFile:
        if part in self._parts:
            return self._parts[part]
        with self._reading(part):
            file = pq.ParquetFile(plain_file(self._path(part)), memory_map=True)
        if fault := _column_fault(file.schema_arrow.names, COLUMNS):
            raise tile.UnreadableTileError(f"{self._path(part)} {fault}; geoladder reads MajorTOM Core-S2L2A")
        for name in (*BANDS, "cloud_mask"):
            kind = value_type(file.schema_arrow.field(name).type)
            if not (pa.types.is_null(kind) or hasattr(pa.scalar(None, kind), "as_buffer")):
                raise tile.UnreadableTileError(
                    f"{self._path(part)} holds {kind} in column {name}; the bytes of a GeoTIFF are expected"
                )
        if file.num_row_groups != file.metadata.num_rows:
            raise tile.UnreadableTileError(
                f"{self._path(part)} has {file.metadata.num_rows} rows in {file.num_row_groups} row groups; MajorTOM "
                "keeps one row per group: fetch the original file, or write it with row_group_size=1"
            )
        if len(self._parts) >= OPEN_PARTS:
            self._parts.pop(next(iter(self._parts))).close()
        self._parts[part] = file
        return file


def decoded(table: pa.Table) -> pa.Table:
    """The same table with dictionaries, as pandas writes of categories, replaced by their values."""
    fields = [pa.field(field.name, value_type(field.type)) for field in table.schema]
    return table.cast(pa.schema(fields, table.schema.metadata))


def value_type(kind: pa.DataType) -> pa.DataType:
    """Type of the values in a column, which may be a dictionary."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def read_metadata(path: Path, with_position: bool = True) -> pd.DataFrame:
    """Table of a metadata.parquet, as `TileSource.metadata`; nothing is unusable yet.

    Without `with_position`, the file need not say part and row, and they are empty and -1. GeoladderError where it is
    no parquet or may not be read, or a column is missing, there twice or of a type that tells no names.
    """
    columns = [name for name in METADATA if with_position or name not in POSITION]
    rows = _table(path, columns).to_pandas().rename(columns=METADATA)
    if not with_position:
        rows = rows.assign(part="", row=-1)
    stamps, times = timestamps(rows["timestamp"])
    epsg, strange_crs = epsg_codes(rows["epsg"])
    nodata_share, nodata_unit = shares(rows["nodata_share"])
    if strange_crs:
        log.warning("%s: no EPSG code is told by %s", path, strange_crs)
    known = rows.assign(
        timestamp=stamps,
        epsg=epsg,
        lat_deg=within(rows["lat_deg"], -90, 90),
        lon_deg=longitudes(rows["lon_deg"]),
        cloud_percent=within(rows["cloud_percent"], 0, 100, 100 * ROUNDING),
        nodata_share=nodata_share,
        part=rows["part"].fillna("").astype(str).str.rsplit("/", n=1).str[-1],
        row=row_numbers(rows["row"]),
        grid_cell=rows["grid_cell"].fillna(""),
        product_id=rows["product_id"].fillna(""),
        unusable="",
    )[tile.TILE_COLUMNS]
    known.attrs["units"] = {
        "timestamp": times,
        "nodata": nodata_unit,
        "crs without a code": strange_crs or "none",
    }
    return known


def _table(path: Path, columns: list[str]) -> pa.Table:
    """Columns of a metadata.parquet, names as text; raises as `read_metadata`."""
    try:
        file = pq.ParquetFile(plain_file(path))
        wanted = [name for name in file.schema_arrow.names if name in (*METADATA, OTHER_TIME)]
        check_columns(file.metadata, wanted, None, MAX_TABLE_BYTES)
        table = file.read(columns=wanted)
    except (pa.ArrowException, OSError) as problem:
        raise GeoladderError(f"{path} cannot be read ({problem}); {remedy(path, problem)}") from None
    if OTHER_TIME in table.column_names and "timestamp" in table.column_names:
        table = table.drop_columns(OTHER_TIME)
    names = ["timestamp" if name == OTHER_TIME else name for name in table.column_names]
    if fault := _column_fault(names, columns):
        raise GeoladderError(
            f"{path} {fault}; it has {', '.join(file.schema_arrow.names)}. Is it the metadata of MajorTOM Core-S2L2A?"
        )
    table = decoded(table.rename_columns(names).select(columns))
    for place, name in enumerate(columns):
        if name in TEXTS:
            kind = table.schema.field(name).type
            try:
                table = table.set_column(place, name, table[name].cast(pa.string()))
            except pa.ArrowException:
                raise GeoladderError(f"{path} holds {kind} in column {name}; texts are expected") from None
    return table


def _column_fault(names: list[str], wanted: list[str]) -> str:
    """Which of the columns `wanted` a file lacks or has twice, in words; empty where none."""
    if missing := sorted(set(wanted) - set(names)):
        return f"lacks the column(s) {', '.join(missing)}"
    repeated = sorted(name for name in wanted if names.count(name) > 1)
    return f"has the column(s) {', '.join(repeated)} several times" if repeated else ""
