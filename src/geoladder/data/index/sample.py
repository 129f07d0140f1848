"""A sample of an archive's rows: what pixels and tags say, to be held against names and metadata."""

import logging
import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from geoladder.data.archives.tile import UNKNOWN_CLOUD, Tile, TileSource, UnreadableTileError
from geoladder.data.archives.tile_tree import CLOUD
from geoladder.data.labels.bands import boa_offset_dn, darkest_dn

log = logging.getLogger(__name__)

ROWS = 32
"""Of a sample, of products that should carry the DN offset and of the others each."""
BRIGHT_DN = 30_000
"""Reflectance 3 or 2.9; more than single pixels above it are a fill."""


class Sample(NamedTuple):
    """Rows that were read.

    `facts` has the index of the archive's table: darkest_dn, bright_share, filled_share, nodata_share, cloud_percent
    (not a number where the mask says nothing), strange_share (pixels with data where the mask has no class), epsg,
    driver, nodata_tag, masked, tag_offset_dn (the largest of the bands) and tag_unit_dn (the one farthest from 1);
    both are None without tags.
    """

    facts: pd.DataFrame
    unread: int


def sample_rows(rows: pd.DataFrame, usable: pd.Series) -> pd.Index:
    """Evenly spaced usable rows, `ROWS` of products with the DN offset by their names and as many of the others."""
    shifted = rows["product_id"].map(boa_offset_dn).fillna(0) > 0
    chosen = [spread(rows.index[usable & shifted]), spread(rows.index[usable & ~shifted])]
    return chosen[0].union(chosen[1])


def read_sample(reader: TileSource, rows: pd.DataFrame, chosen: pd.Index) -> Sample:
    """Read rows; those that cannot be read, or that the corpus does not take, are counted: chips drop them later."""
    facts, unread = {}, 0
    for position, part, row in rows.loc[chosen, ["part", "row"]].itertuples(name=None):
        try:
            tile = reader.read(part, row)
        except UnreadableTileError as problem:
            log.info("not in the sample of rows: %s", problem)
            unread += 1
        else:
            facts[position] = _facts(tile)
    return Sample(pd.DataFrame.from_dict(facts, orient="index", columns=COLUMNS), unread)


COLUMNS = [
    *("darkest_dn", "bright_share", "filled_share", "nodata_share", "cloud_percent", "strange_share"),
    *("epsg", "driver", "nodata_tag", "masked", "tag_offset_dn", "tag_unit_dn"),
]


def _facts(tile: Tile) -> list[object]:
    bands = [*tile.dn10, *tile.dn20]
    known = tile.cloud_mask < UNKNOWN_CLOUD
    bright = [float((band > BRIGHT_DN).mean()) for band in bands]
    of_bands = tile.stored[: len(bands)]
    offsets = [stored.offset_dn for stored in of_bands if stored.offset_dn is not None]
    units = [stored.unit_dn for stored in of_bands if stored.unit_dn is not None]
    nodata = {stored.nodata for stored in of_bands} - {None}
    return [
        darkest_dn(bands),
        max(bright),
        max((stored.filled for stored in tile.stored), default=0.0),
        float((tile.dn10[0] == 0).mean()),
        100 * float(np.isin(tile.cloud_mask[known], CLOUD).mean()) if known.any() else math.nan,
        float(((tile.cloud_mask > UNKNOWN_CLOUD) & (tile.dn10[0] > 0)).mean()),
        tile.epsg,
        tile.stored[0].driver if tile.stored else "npy",
        "several" if len(nodata) > 1 else f"{nodata.pop():g}" if nodata else "none",
        any(stored.masked for stored in tile.stored),
        max(offsets, default=None),
        max(units, key=lambda unit: abs(unit - 1), default=None),
    ]


def spread(index: pd.Index) -> pd.Index:
    """At most `ROWS` of an index, evenly spaced."""
    places = np.linspace(0, len(index) - 1, min(ROWS, len(index))).round().astype(int)
    return index[np.unique(places)]
