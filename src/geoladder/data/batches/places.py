"""Chips with the places they are from, whatever they are read from: a scene, the tiles of an archive, or cut chips.

Unusual: chips with a pixel of nodata are left out, as everywhere; so are the last rows and columns of a scene or tile
that fill no chip.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from rasterio.crs import CRS
from rasterio.warp import transform as reproject
from rasterio.windows import Window

from geoladder.data.archives.grid import cell_of, utm_epsg
from geoladder.data.archives.scene import PIXEL_M, Scene
from geoladder.data.archives.sources import open_archive
from geoladder.data.archives.tile import UnreadableTileError, ground_m
from geoladder.data.batches.chip_store import ChipStore
from geoladder.data.batches.chips import cut, read_tiles
from geoladder.study.specs import Layout

log = logging.getLogger(__name__)

CHIPS_AT_ONCE = 64
ANY_CLOUD = 1.0
PLACE_COLUMNS = [
    "grid_cell",
    "product_id",
    "timestamp",
    "crs",
    "lat_deg",
    "lon_deg",
    "x_m",
    "y_m",
    "column_px",
    "row_px",
]


class PlacedChips(NamedTuple):
    """Some chips of P x P pixels and where they are from."""

    dn10: np.ndarray
    """(N, 4, P, P) DN; or all ten bands at 10 m, (N, 10, P, P)."""
    dn20: np.ndarray | None
    """(N, 6, P/2, P/2) DN; or None."""
    offset_dn: np.ndarray
    """(N,) to subtract."""
    places: pd.DataFrame
    """`PLACE_COLUMNS` of N rows: crs as text, degrees of the centre and metres in the crs, and upper left pixel in
    the image the chip is from (-1 where unknown); timestamp is NaT where unknown."""


def chips_of_scene(scene: Scene, chip_px: int) -> Iterator[PlacedChips]:
    """Chips of a scene, a row of them after another."""
    height, width = scene.shape
    stamp = _sensing_time(scene.product_id)
    for top in range(0, height - chip_px + 1, chip_px):
        strip = scene.read(Window(0, top, width, chip_px))
        lefts = np.arange(0, width - chip_px + 1, chip_px)
        lefts = lefts[[bool(strip.valid[:, left : left + chip_px].all()) for left in lefts]]
        if not lefts.size:
            continue
        x_m, y_m = ground_m(scene.transform, lefts + chip_px / 2, np.full(lefts.size, top + chip_px / 2))
        places = _places(
            scene.crs, x_m, y_m, column_px=lefts, row_px=top, product_id=scene.product_id, timestamp=stamp
        )
        dn = np.stack([strip.dn[:, :, left : left + chip_px] for left in lefts])
        yield PlacedChips(dn, None, np.full(lefts.size, scene.offset_dn), places)


def chips_of_archive(archive: Path, index: Path, chip_px: int) -> Iterator[PlacedChips]:
    """Chips of every tile of an index, whatever its clouds; unreadable tiles are left out and logged.

    GeoladderError where the index or the archive is none.
    """
    rows = read_tiles(index, ["part", "row", "timestamp", "offset_dn"]).to_dict("records")
    reader = open_archive(archive, Layout(source="auto"))
    for row in rows:
        try:
            tile = reader.read(row["part"], row["row"])
        except UnreadableTileError as problem:
            log.warning("left out: %s", problem)
            continue
        chips = cut(tile, chip_px, ANY_CLOUD)
        if not len(chips.dn10):
            continue
        corner = [tile.transform.c + chip_px / 2 * PIXEL_M, tile.transform.f - chip_px / 2 * PIXEL_M]
        places = _places(
            CRS.from_epsg(tile.epsg), chips.easting_m, chips.northing_m,
            column_px=np.rint((chips.easting_m - corner[0]) / PIXEL_M).astype(int),
            row_px=np.rint((corner[1] - chips.northing_m) / PIXEL_M).astype(int),
            grid_cell=tile.grid_cell, product_id=tile.product_id, timestamp=row["timestamp"],
        )  # fmt: skip
        yield PlacedChips(chips.dn10, chips.dn20, np.full(len(places), row["offset_dn"]), places)


def chips_of_folder(folder: Path) -> Iterator[PlacedChips]:
    """Cut chips, in the order of their manifest."""
    store = ChipStore(folder)
    manifest = pq.read_table(store.manifest).to_pandas()
    for first in range(0, len(manifest), CHIPS_AT_ONCE):
        rows = manifest.iloc[first : first + CHIPS_AT_ONCE]
        batch = store.read(rows.index.to_numpy())
        crs = rows["grid_cell"].map(lambda cell: f"EPSG:{utm_epsg(cell)}")
        parts = []
        for name, group in rows.groupby(crs, sort=False):
            x_m, y_m = reproject("EPSG:4326", name, group["lon_deg"].to_numpy(), group["lat_deg"].to_numpy())
            parts.append(pd.DataFrame({"crs": name, "x_m": x_m, "y_m": y_m}, index=group.index))
        known = rows[["grid_cell", "product_id", "lat_deg", "lon_deg"]].join(pd.concat(parts))
        stamps = pd.to_datetime(rows["product_id"].map(_sensing_time))
        yield PlacedChips(*batch, known.assign(timestamp=stamps, column_px=-1, row_px=-1)[PLACE_COLUMNS])


def _places(crs: CRS, x_m: np.ndarray, y_m: np.ndarray, **known: object) -> pd.DataFrame:
    lon_deg, lat_deg = reproject(crs, "EPSG:4326", x_m, y_m)
    cells = list(map(cell_of, lat_deg, lon_deg))
    centres = {"crs": crs.to_string(), "lat_deg": lat_deg, "lon_deg": lon_deg, "x_m": x_m, "y_m": y_m}
    return pd.DataFrame({"grid_cell": cells} | centres | known)[PLACE_COLUMNS]


def _sensing_time(product_id: str) -> pd.Timestamp:
    """When a product was taken: the first time in its name."""
    match = re.search(r"_(\d{8}T\d{6})(?=_|$)", product_id)
    return pd.Timestamp(match[1]) if match else pd.NaT  # type: ignore[return-value]
