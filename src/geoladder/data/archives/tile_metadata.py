"""metadata.parquet of a MajorTOM archive, in one form.

Real editions differ. The time column has two names, coordinate systems are sometimes misspelt (`EPSG:EPSG:32701`),
and any value may be missing: such rows are kept here, and dropped later with their reason.
"""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from geoladder.data.archives.tile import TILE_COLUMNS, remedy
from geoladder.errors import GeoladderError

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
POSITION = ("parquet_url", "parquet_row")
"""Where a row lies among the parts; only an archive of parts needs to say so."""


def read_metadata(path: Path, with_position: bool = True) -> pd.DataFrame:
    """Read metadata.parquet.

    Args:
        path: the file.
        with_position: whether part and row are needed; they are empty and -1 without.

    Returns:
        `TileSource.metadata`'s columns; nothing is unusable yet.

    Raises:
        GeoladderError: the file is no parquet or may not be read, or a column is missing.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as problem:
        raise GeoladderError(f"{path} cannot be read ({problem}); {remedy(path, problem)}") from None
    columns = [name for name in METADATA if with_position or name not in POSITION]
    names = ["timestamp" if name == "product_datetime" else name for name in table.column_names]
    missing = sorted(set(columns) - set(names))
    if missing:
        raise GeoladderError(
            f"{path} lacks the column(s) {', '.join(missing)}; it has {', '.join(names)}. "
            "Is it the metadata of MajorTOM Core-S2L2A?"
        )
    rows = table.rename_columns(names).select(columns).to_pandas().rename(columns=METADATA)
    if not with_position:
        rows = rows.assign(part="", row=-1)
    stamps = pd.to_datetime(rows["timestamp"], format="mixed", utc=True, errors="coerce")
    return rows.assign(
        timestamp=stamps.dt.tz_localize(None),
        # Some archives say 'EPSG:EPSG:32701', so only the number at the end counts.
        epsg=rows["epsg"].astype(str).str.extract(r"(\d{4,5})$")[0].fillna("0").astype(int),
        part=rows["part"].astype(str).str.rsplit("/", n=1).str[-1],
        row=pd.to_numeric(rows["row"], errors="coerce").fillna(-1).astype(int),
        grid_cell=rows["grid_cell"].fillna(""),
        product_id=rows["product_id"].fillna(""),
        unusable="",
    )[TILE_COLUMNS]
