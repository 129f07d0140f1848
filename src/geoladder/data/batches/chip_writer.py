"""Chips of one group into shards, each sealed by its piece of the manifest: shard first, then piece.

Unusual: a shard may end within a tile. Its piece then says how many of the tile's chips are safe, and a later job
reads the tile again and skips those.
"""

import errno
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from geoladder.data.batches.pieces import Dropped, Group, Pieces, State
from geoladder.data.batches.shards import all_shard_files, new_shard, shard_files
from geoladder.data.batches.squares import CutTile
from geoladder.errors import GeoladderError
from geoladder.study.specs import ChipsSpec

log = logging.getLogger(__name__)

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


class ChipWriter:
    """Takes the chips of a group's tiles in order, and goes on where an earlier one of the same key was stopped.

    Attributes:
        state: where cutting goes on.
    """

    def __init__(self, out: Path, spec: ChipsSpec, group: Group, key: str, dropped: Dropped) -> None:
        """Look for safe shards in `out`, remove what is not, and count again into `dropped` what was dropped.

        Raises:
            GeoladderError: the folder cannot be written to.
        """
        self._out, self._spec, self._dropped = out, spec, dropped
        self._pieces = Pieces(out, group)
        self._number = group.shards.start
        self._rows: list[pd.DataFrame] = []
        try:
            self.state = self._go_on(group, key)
        except OSError as problem:
            raise GeoladderError(
                f"{out} cannot be prepared for chips ({problem}); give the right to write there, or another folder"
            ) from None
        self._shard = new_shard(spec.chip_codec, spec.chip_px)

    def add(self, tile: int, rows: pd.DataFrame, chips: CutTile) -> None:
        """Store the chips of tile number `tile` of the group with their manifest rows (without shard and slot)."""
        start = self.state.skip if tile == self.state.next_tile else 0
        while start < len(chips.dn10):
            slot = self._shard.chips
            taken = self._shard.add(chips.dn10[start:], chips.dn20[start:])
            stored = rows.iloc[start : start + taken]
            stored = stored.assign(shard=self._number, slot=np.arange(slot, slot + taken))
            self._rows.append(stored[MANIFEST_COLUMNS[1:]])
            start += taken
            if self._shard.full:
                self.seal(tile, start)

    def seal(self, next_tile: int, skip: int, done: bool = False) -> None:
        """Write the shard and its piece, and begin the next one.

        Args:
            next_tile: tile to read next.
            skip: chips of that tile that are now safe.
            done: whether this was the last shard.

        Raises:
            GeoladderError: a file cannot be written; nothing of this shard is left behind.
        """
        self.state = State(self.state.key, next_tile, skip, done)
        files = shard_files(self._out, self._number, self._spec.chip_codec) if self._shard.chips else []
        rows = pd.concat(self._rows, ignore_index=True) if self._rows else pd.DataFrame()
        try:
            if files:
                self._shard.write(files)
            self._pieces.write(self._number, rows, self._dropped, self.state)
        except OSError as problem:
            for path in files:
                path.unlink(missing_ok=True)
            raise GeoladderError(self._failure(problem)) from problem
        self._number, self._rows = self._number + 1, []
        self._shard = new_shard(self._spec.chip_codec, self._spec.chip_px)

    def _go_on(self, group: Group, key: str) -> State:
        """The state to go on from. The manifest goes first: without it the rest counts for nothing."""
        self._out.mkdir(parents=True, exist_ok=True)
        for name in ("manifest.parquet", "dropped.csv"):
            (self._out / name).unlink(missing_ok=True)
        newest = self._pieces.newest()
        if newest is None or newest[1].key != key:
            self._pieces.remove()
            newest = None
        if newest is not None:
            self._number = newest[0] + 1
        safe = {
            path for n in self._pieces.shards() for path in shard_files(self._out, n, self._spec.chip_codec)
        }
        for path in all_shard_files(self._out):
            if path not in safe and int(path.stem.rpartition("-")[2]) in group.shards:
                path.unlink()
        if newest is None:
            return State(key)
        log.info("%s: %d shards are safe; going on after them", self._out, len(self._pieces.shards()))
        self._pieces.replay(self._dropped)
        return newest[1]

    def _failure(self, problem: OSError) -> str:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "free some disk space" if full else "give the right to write there"
        return (
            f"shard {self._number} in {self._out} cannot be written ({problem}); nothing of it was kept, the "
            f"{len(self._pieces.shards())} shards before it are safe: {remedy} and run again to go on from there"
        )
