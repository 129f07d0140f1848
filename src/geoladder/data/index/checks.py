"""What an index needs to look into an archive for: identities of rows, and DN offsets that no name states.

Nothing stops at the first bad row. It gets its reason in the ledger, and the message goes to whoever judges whether
too many are bad. Rows that have a reason already are not opened.
"""

import logging
import math

import numpy as np
import pandas as pd

from geoladder.data.archives.grid import FOOTPRINT_M, centre_of
from geoladder.data.archives.tile import TileSource, UnreadableTileError, UnwantedTileError
from geoladder.data.labels.bands import baseline, boa_offset_dn, offset_from_pixels
from geoladder.data.labels.targets import great_circle_km
from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)

FARTHEST_KM = math.hypot(FOOTPRINT_M, FOOTPRINT_M) / 2000
"""From a cell's centre to a corner of its image: the place of any part of a tile is nearer."""


def warn_off_grid(rows: pd.DataFrame) -> None:
    """Warn of rows whose place, by the metadata, is not in their grid cell by the official grid.

    They are not dropped: places of chips follow from each tile's own georeference, and not from the metadata. Rows
    without a cell or a place do not count.
    """
    centres = {}
    for cell in rows["grid_cell"].unique():
        try:
            centres[cell] = centre_of(cell)
        except GeoladderError:
            centres[cell] = (math.nan, math.nan)
    expected = np.array([centres[cell] for cell in rows["grid_cell"]]).reshape(-1, 2)
    lat_deg, lon_deg = rows["lat_deg"].to_numpy(float), rows["lon_deg"].to_numpy(float)
    away_km = great_circle_km(lat_deg, lon_deg, expected[:, 0], expected[:, 1])
    off = rows[away_km > FARTHEST_KM]
    if len(off):
        log.warning(
            "%d of %d rows lie outside their grid cell by the metadata, the first %s at %.4f north, %.4f east",
            len(off),
            len(rows),
            *off.iloc[0][["grid_cell", "lat_deg", "lon_deg"]],
        )


def check_identities(reader: TileSource, rows: pd.DataFrame, reason: pd.Series) -> list[str]:
    """Compare cell and product of each row in the images with the metadata.

    Rows that fail get their `reason` in place: `unreadable` or `metadata mismatch`.

    Returns:
        What could not be read, in words.
    """
    problems = []
    for part, of_part in rows[reason == ""].groupby("part", sort=True):
        try:
            images = reader.identities(str(part)).reindex(of_part["row"]).set_index(of_part.index)
        except UnreadableTileError as problem:
            problems.append(str(problem))
            log.warning("%d rows dropped: %s", len(of_part), problem)
            reason[of_part.index] = "unreadable"
            continue
        names = ["grid_cell", "product_id"]
        reason[of_part.index[(images[names] != of_part[names]).any(axis=1)]] = "metadata mismatch"
    return problems


def set_offsets(reader: TileSource, rows: pd.DataFrame, reason: pd.Series, harmonise: str) -> list[str]:
    """Add `baseline` and `offset_dn` (0 or 1000, to subtract) to rows; without harmonising (`none`), offsets are 0.

    Where the baseline is unknown, the tile is read. One that cannot be read, or that the corpus does not take, gets
    its `reason`, in place.

    Returns:
        What could not be read, in words.
    """
    rows["baseline"] = rows["product_id"].map(baseline)
    rows["offset_dn"] = 0
    if harmonise == "none":
        return []
    offsets = rows["product_id"].map(boa_offset_dn)
    rows["offset_dn"] = offsets.fillna(0).astype(int)
    problems = []
    unknown = rows.loc[offsets.isna() & (reason == ""), ["part", "row"]]
    for position, part, row in unknown.itertuples(name=None):
        try:
            tile = reader.read(part, row)
        except UnwantedTileError as problem:
            reason[position] = problem.reason
        except UnreadableTileError as problem:
            problems.append(str(problem))
            reason[position] = "unreadable"
        else:
            rows.loc[position, "offset_dn"] = offset_from_pixels([*tile.dn10, *tile.dn20])
    return problems
