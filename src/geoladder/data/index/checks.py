"""What an index needs to look into an archive for: identities of rows, and DN offsets that no name states.

Nothing stops at the first bad row. It gets its reason in the ledger, and the message goes to whoever judges whether
too many are bad. Rows that have a reason already are not opened.
"""

import logging
import math

import numpy as np
import pandas as pd
from rich.progress import track

from geoladder.data.archives.columns import seem_shares
from geoladder.data.archives.grid import FOOTPRINT_M, centre_of
from geoladder.data.archives.tile import TileSource, UnreadableTileError, UnwantedTileError
from geoladder.data.index.evidence import MANY, MOST, Finding
from geoladder.data.index.findings import Harmonise
from geoladder.data.index.sample import read_sample, spread
from geoladder.data.labels.bands import BOA_OFFSET_DN, DARKEST_OFFSET_DN, baseline, boa_offset_dn, darkest_dn
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


def set_offsets(reader: TileSource, rows: pd.DataFrame, reason: pd.Series, harmonise: Harmonise) -> list[str]:
    """Add `baseline` and `offset_dn` (0 or 1000, to subtract) to rows; without harmonising (`none`), offsets are 0.

    With `baseline`, names decide, and pixels where the baseline is unknown. With `pixels`, every usable tile is read:
    one with dark pixels has no offset, any other has it if most of its baseline have no dark pixels. A tile that
    cannot be read, or that the corpus does not take, gets its `reason`, in place.

    Returns:
        What could not be read, in words.
    """
    rows["baseline"] = rows["product_id"].map(baseline)
    rows["offset_dn"] = 0
    if harmonise == "none":
        return []
    usable = reason == ""
    if harmonise == "baseline":
        by_name = rows["product_id"].map(boa_offset_dn)
        rows["offset_dn"] = by_name.fillna(0).astype(int)
        usable &= by_name.isna()
    darkest, problems = _read_darkest(reader, rows[usable], reason)
    bright = darkest > DARKEST_OFFSET_DN
    if harmonise == "pixels":
        bright &= bright.groupby(rows.loc[bright.index, "baseline"]).transform("mean") > MOST
    rows.loc[bright.index, "offset_dn"] = np.where(bright, BOA_OFFSET_DN, 0)
    return problems


def _read_darkest(reader: TileSource, rows: pd.DataFrame, reason: pd.Series) -> tuple[pd.Series, list[str]]:
    """`darkest_dn` of each row that can be read, and what could not be read."""
    darkest, problems = {}, []
    for position, part, row in track(
        rows[["part", "row"]].itertuples(name=None),
        "DN offsets",
        len(rows),
        transient=True,
        disable=len(rows) < MANY,
    ):
        try:
            tile = reader.read(part, row)
        except UnwantedTileError as problem:
            reason[position] = problem.reason
        except UnreadableTileError as problem:
            problems.append(str(problem))
            reason[position] = "unreadable"
        else:
            darkest[position] = darkest_dn([*tile.dn10, *tile.dn20])
    return pd.Series(darkest, dtype="float64"), problems


def settle_clouds(reader: TileSource, rows: pd.DataFrame, usable: np.ndarray) -> Finding | None:
    """Turn `cloud_percent` into percents, in place, where it holds shares; None where the numbers tell by themselves.

    Numbers that are at most 1, but for strays, may be shares of any tiles, or percents of clear ones: cloud masks of
    some of the `usable` rows (N,) bool say which. Without a mask they count as percents, with a warning. A stray
    among shares is not a number.
    """
    stated = rows["cloud_percent"]
    if not stated.max() > 0 or not seem_shares(stated):
        return None
    cloudy = rows.index[usable & (stated > 0) & (stated <= 1)]
    seen = read_sample(reader, rows, spread(cloudy)).facts["cloud_percent"].dropna()
    off_percent = {
        unit: float((factor * stated.loc[seen.index] - seen).abs().mean())
        for unit, factor in (("percents", 1), ("shares", 100))
    }
    if seen.empty:
        log.warning(
            "hardly a cloud_cover is above 1, and no cloud mask tells whether these are shares: taken as percents"
        )
    is_share = off_percent["shares"] < off_percent["percents"]
    if is_share:
        rows["cloud_percent"] = 100 * stated.where(stated <= 1)
    says = {
        "metadata": {"at most 1": int((stated <= 1).sum()), "more": int((stated > 1).sum())},
        "pixels": {f"off by {off:.3g} points as {unit}": len(seen) for unit, off in off_percent.items()},
    }
    return Finding("unit of cloud_cover", "shares" if is_share else "percents", says, len(seen), 0)
