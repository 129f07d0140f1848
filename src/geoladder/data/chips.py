"""Chips: tiles cut into squares once, kept as DN at native resolution, read back by memory map.

Unusual: nothing is resampled or converted, so chips are bit-exact copies of the archive. Shards are written first and
the manifest last, so a manifest means that all its chips are there.
"""

import logging
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from rasterio.warp import transform as reproject

from geoladder.atomic import atomic_path
from geoladder.data.bands import BANDS_10M, BANDS_20M
from geoladder.data.climate import koppen
from geoladder.data.cutting import CutTile, cut
from geoladder.data.dropped import Dropped
from geoladder.data.majortom import MajorTom, Tile, UnreadableTileError
from geoladder.errors import GeoladderError
from geoladder.specs import ChipsSpec

log = logging.getLogger(__name__)

SHARD_BYTES = 256 * 2**20
MANIFEST_COLUMNS = [
    "chip",
    "shard",
    "slot",
    "grid_cell",
    "product_id",
    "split",
    "lat_deg",
    "lon_deg",
    "day_of_year",
    "koppen",
    "offset_dn",
    "cloud_share",
]


def write_chips(spec: ChipsSpec, archive: Path, index: Path, out: Path) -> None:
    """Cut every tile of an index into chips.

    Writes `out`/10m-00000.npy (n, 4, P, P) and 20m-00000.npy (n, 6, P/2, P/2), uint16 DN, ... of at most 256 MB
    together, dropped.csv (unit, reason, count, first), and last manifest.parquet: chip, shard, slot, grid_cell,
    product_id, split, lat_deg, lon_deg (chip centre), day_of_year, koppen, offset_dn, cloud_share.

    Args:
        spec: chip side and limits.
        archive: MajorTOM folder.
        index: the archive's index.parquet.
        out: folder; chips of an earlier attempt in it are removed.

    Raises:
        GeoladderError: more unreadable tiles than `max_corrupt_share`, or no chip left.
    """
    tiles = _read_index(index).sort_values(["part", "row"])
    reader = MajorTom(archive)
    _remove_earlier(out)
    shards = _ShardWriter(out, spec.chip_px)
    dropped = Dropped(len(tiles), spec.max_corrupt_share, archive)
    columns: list[pd.DataFrame] = []
    for row in tiles.to_dict("records"):
        where = f"{row['part']} row {row['row']} ({row['grid_cell']})"
        tile = _read_tile(reader, row, where, dropped)
        if tile is None:
            continue
        chips = cut(tile, spec.chip_px, spec.chip_max_cloud_share)
        dropped.drop_chips(chips.dropped, where)
        columns.append(_describe(row, tile, chips, shards.add(chips.dn10, chips.dn20)))
    shards.flush()
    manifest = pd.concat(columns, ignore_index=True) if columns else pd.DataFrame()
    dropped.write(out / "dropped.csv")
    if manifest.empty:
        raise GeoladderError(
            f"no chip of {spec.chip_px} px left of the {len(tiles)} tiles of {index} ({dropped.summary()}); "
            "loosen cleaning.chip_max_cloud_share or lower cleaning.chip_px"
        )
    with atomic_path(out / "manifest.parquet") as path:
        _locate(manifest).to_parquet(path, index=False)
    log.info("%s: %d tiles, %d chips; dropped: %s", out, len(tiles), len(manifest), dropped.summary())


def _read_index(index: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(index)
    except (OSError, ValueError) as problem:
        raise GeoladderError(
            f"{index} is no index of tiles ({problem}); write it with `geoladder index`"
        ) from None


def _remove_earlier(out: Path) -> None:
    """Remove an earlier attempt, the manifest first: without it the rest counts for nothing."""
    out.mkdir(parents=True, exist_ok=True)
    for path in [out / "manifest.parquet", out / "dropped.csv", *out.glob("[12]0m-*.npy")]:
        path.unlink(missing_ok=True)


def _read_tile(reader: MajorTom, row: dict[Hashable, Any], where: str, dropped: Dropped) -> Tile | None:
    try:
        tile = reader.read(row["part"], row["row"])
    except UnreadableTileError as problem:
        dropped.drop_unreadable(where, str(problem))
        return None
    if (tile.grid_cell, tile.product_id, tile.epsg) != (row["grid_cell"], row["product_id"], row["epsg"]):
        dropped.drop_tile("metadata mismatch", where)
        return None
    return tile


def _describe(row: dict[Hashable, Any], tile: Tile, chips: CutTile, places: pd.DataFrame) -> pd.DataFrame:
    return places.assign(
        grid_cell=tile.grid_cell,
        product_id=tile.product_id,
        split=row["split"],
        epsg=tile.epsg,
        easting_m=chips.easting_m,
        northing_m=chips.northing_m,
        day_of_year=row["timestamp"].day_of_year,
        offset_dn=row["offset_dn"],
        cloud_share=chips.cloud_share,
    )


def _locate(manifest: pd.DataFrame) -> pd.DataFrame:
    """Replace projected coordinates by latitude, longitude and climate, one projection at a time."""
    lat_deg, lon_deg = np.empty(len(manifest)), np.empty(len(manifest))
    for epsg, places in manifest.groupby("epsg").indices.items():
        east, north = (manifest[name].to_numpy()[places] for name in ("easting_m", "northing_m"))
        lon_deg[places], lat_deg[places] = reproject(f"EPSG:{epsg}", "EPSG:4326", east, north)
    located = manifest.assign(
        chip=np.arange(len(manifest)), lat_deg=lat_deg, lon_deg=lon_deg, koppen=koppen(lat_deg, lon_deg)
    )
    return located[MANIFEST_COLUMNS]


class _ShardWriter:
    """Collects chips and writes them in shards of at most `SHARD_BYTES`."""

    def __init__(self, out: Path, chip_px: int) -> None:
        half = chip_px // 2
        bytes_each = 2 * (len(BANDS_10M) * chip_px**2 + len(BANDS_20M) * half**2)
        capacity = max(1, SHARD_BYTES // bytes_each)
        self._out, self._shard, self._filled = out, 0, 0
        self._dn10 = np.empty((capacity, len(BANDS_10M), chip_px, chip_px), np.uint16)
        self._dn20 = np.empty((capacity, len(BANDS_20M), half, half), np.uint16)

    def add(self, dn10: np.ndarray, dn20: np.ndarray) -> pd.DataFrame:
        """Store chips; return the shard and slot of each."""
        shard: list[int] = []
        slot: list[int] = []
        start = 0
        while start < len(dn10):
            end = min(len(dn10), start + len(self._dn10) - self._filled)
            free = slice(self._filled, self._filled + end - start)
            self._dn10[free], self._dn20[free] = dn10[start:end], dn20[start:end]
            shard += [self._shard] * (end - start)
            slot += range(free.start, free.stop)
            self._filled, start = free.stop, end
            if self._filled == len(self._dn10):
                self.flush()
        return pd.DataFrame({"shard": np.array(shard, np.int64), "slot": np.array(slot, np.int64)})

    def flush(self) -> None:
        """Write the chips collected so far, if any, and begin the next shard."""
        if not self._filled:
            return
        for name, chips in (("10m", self._dn10), ("20m", self._dn20)):
            with atomic_path(self._out / f"{name}-{self._shard:05d}.npy") as path:
                np.save(path, chips[: self._filled])
        self._shard, self._filled = self._shard + 1, 0


class DNBatch(NamedTuple):
    """Chips as stored; goes straight into `geoladder.data.bands.to_reflectance`."""

    dn10: np.ndarray
    """(N, 4, P, P) uint16."""
    dn20: np.ndarray
    """(N, 6, P/2, P/2) uint16."""
    offset_dn: np.ndarray
    """(N,) int64, to subtract from valid pixels."""


class ChipStore:
    """A folder written by `write_chips`, read by memory map."""

    def __init__(self, folder: Path) -> None:
        """Open a folder, which costs reading its manifest.

        Raises:
            GeoladderError: the folder has no manifest.
        """
        self.folder = Path(folder)
        path = self.folder / "manifest.parquet"
        if not path.is_file():
            raise GeoladderError(
                f"no chips in {self.folder} (manifest.parquet is missing); run `geoladder chips`"
            )
        self.manifest = pd.read_parquet(path)
        self._shard, self._slot, self._offset_dn = (
            self.manifest[name].to_numpy() for name in ("shard", "slot", "offset_dn")
        )
        self._maps: dict[str, np.ndarray] = {}

    def read(self, chips: np.ndarray) -> DNBatch:
        """Read chips by number.

        Args:
            chips: (N,) int64 values of the manifest's `chip`, any order, repeats allowed.

        Raises:
            GeoladderError: a shard is missing or damaged.
        """
        shard, slot = self._shard[chips], self._slot[chips]
        # Ascending within a shard, so that a cold read moves over the disk in one direction.
        order = np.lexsort((slot, shard))
        pieces = np.split(order, np.flatnonzero(np.diff(shard[order])) + 1)
        return DNBatch(
            self._gather("10m", pieces, shard, slot),
            self._gather("20m", pieces, shard, slot),
            self._offset_dn[chips].astype(np.int64),
        )

    def _gather(self, name: str, pieces: list[np.ndarray], shard: np.ndarray, slot: np.ndarray) -> np.ndarray:
        first = self._map(f"{name}-{0:05d}.npy")
        gathered = np.empty((len(slot), *first.shape[1:]), np.uint16)
        for piece in pieces:
            if piece.size:
                gathered[piece] = self._map(f"{name}-{shard[piece[0]]:05d}.npy")[slot[piece]]
        return gathered

    def _map(self, name: str) -> np.ndarray:
        if name not in self._maps:
            try:
                self._maps[name] = np.load(self.folder / name, mmap_mode="r")
            except (OSError, ValueError, EOFError) as problem:
                raise GeoladderError(
                    f"shard {self.folder / name} cannot be read ({problem}); delete {self.folder} and run again"
                ) from None
        return self._maps[name]
