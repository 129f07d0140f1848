"""Shards of chips on their way to the disk, each sealed by its piece of the manifest, and what was left out.

Nothing keeps a list of what was done: a piece is written after its shard and says where cutting goes on, so the
newest piece is the whole state, and the manifest is the pieces in a row. Unusual: a shard may end within a tile. Its
piece then says how many of the tile's chips are safe, and a later job reads the tile again and skips those.
"""

import errno
import json
import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from geoladder.data.batches.chip_store import ChipCodec, chip_bytes, import_blosc2, shard_files
from geoladder.data.labels.bands import BANDS_10M, BANDS_20M
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path
from geoladder.runs.digest import discard
from geoladder.study.specs import ChipsSpec

log = logging.getLogger(__name__)

SHARD_BYTES = 256 * 2**20
"""Of one shard on the disk: few files for a cluster's metadata servers, and little to lose when a job is killed."""
GROUP_SHARDS = 100_000
"""Shard numbers each group of parts has to itself, so that groups never wait for one another."""


@dataclass(frozen=True)
class Group:
    """Which share of an archive's parts one job cuts: group `number` (from 0) of `groups`."""

    number: int = 0
    groups: int = 1

    @classmethod
    def parse(cls, text: str) -> "Group":
        """From `3/16` or Snakemake's `3-of-16`, counted from 1.

        Raises:
            GeoladderError: it is neither, or out of range.
        """
        first, _, last = text.replace("-of-", "/").partition("/")
        if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
            raise GeoladderError(f"'{text}' is no group of parts; write 3/16 for the third of sixteen groups")
        return cls(int(first) - 1, int(last))

    def tiles(self, index: pd.DataFrame) -> pd.DataFrame:
        """The group's tiles of an index sorted by part: consecutive parts, each in one group only."""
        parts = index["part"].unique()
        start, end = (len(parts) * edge // self.groups for edge in (self.number, self.number + 1))
        return index[index["part"].isin(parts[start:end])]

    @property
    def shards(self) -> range:
        """Numbers of the group's shards."""
        return range(self.number * GROUP_SHARDS, (self.number + 1) * GROUP_SHARDS)

    def pieces(self, out: Path) -> list[Path]:
        """Pieces of the manifest of the group's shards that are safe in `out`, ascending."""
        pieces = {int(path.stem): path for path in (out / "pieces").glob("[0-9]*.parquet")}
        return [pieces[shard] for shard in sorted(pieces) if shard in self.shards]


@dataclass(frozen=True)
class State:
    """Where cutting goes on, as of one finished shard."""

    key: str
    """Names what is cut and how; another key, another folder of chips."""
    next_tile: int = 0
    """Position in the group of the tile to read next."""
    skip: int = 0
    """Chips of that tile that are safe already."""
    done: bool = False
    """Whether this was the group's last shard."""

    @classmethod
    def of(cls, pieces: list[Path], key: str) -> "State | None":
        """The state that the newest of a group's pieces carries; None where there is none, or one of another key."""
        if not pieces:
            return None
        state = cls(**json.loads(pq.read_schema(pieces[-1]).metadata[b"geoladder"]))
        return state if state.key == key else None


class Dropped:
    """What was left out, counted by unit (tile or chip) and reason, with the first case of each.

    A single unreadable tile is counted and passed over, but more than a share of them stops the run, since then the
    archive is broken and not the tile.
    """

    def __init__(self, tiles: int, max_corrupt_share: float, archive: Path) -> None:
        """Begin with nothing dropped of `tiles` tiles of `archive`."""
        self._tiles, self._limit, self._archive = tiles, max_corrupt_share, archive
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: dict[tuple[str, str], str] = {}
        self._first_problem = ""

    def drop(self, unit: str, reason: str, count: int, where: str) -> None:
        """Count tiles or chips; `where` names the first of them."""
        if count:
            self._counts[unit, reason] += count
            self._first.setdefault((unit, reason), where)

    def drop_unreadable(self, where: str, problem: str) -> None:
        """Count one tile that could not be read, for the reason `problem` states; raises as `check`."""
        log.warning("dropped %s", problem)
        self._first_problem = self._first_problem or problem
        self.drop("tile", "unreadable", 1, where)
        self.check()

    def check(self) -> None:
        """Raise GeoladderError where unreadable tiles are more than `max_corrupt_share` of all; names the first."""
        bad = self._counts["tile", "unreadable"]
        if bad > self._limit * self._tiles:
            first = self._first_problem or self._first["tile", "unreadable"]
            raise GeoladderError(
                f"{bad} of the {self._tiles} tiles of {self._archive} cannot be read so far, more than "
                f"cleaning.max_corrupt_share = {self._limit}; the first: {first}. The logs name all of them"
            )

    def __str__(self) -> str:
        """Counts in words, for a log line."""
        counts = (f"{count} {unit}s {reason}" for (unit, reason), count in self._counts.items())
        return ", ".join(counts) or "nothing"

    def write(self, path: Path) -> None:
        """Write a CSV of unit, reason, count and first."""
        rows = [(*key, count, self._first[key]) for key, count in sorted(self._counts.items())]
        with atomic_path(path) as temporary:
            pd.DataFrame(rows, columns=["unit", "reason", "count", "first"]).to_csv(temporary, index=False)

    def add(self, path: Path) -> None:
        """Count what such a CSV holds too."""
        for row in pd.read_csv(path).itertuples(index=False, name=None):
            self.drop(*row)


class NpyShard:
    """An uncompressed shard being filled, in memory."""

    def __init__(self, chip_px: int) -> None:
        """Begin an empty shard of at most `SHARD_BYTES`."""
        capacity, half = max(1, SHARD_BYTES // chip_bytes(chip_px)), chip_px // 2
        # Not rows of whole chips: numpy writes arrays with gaps number by number.
        self._dn10 = np.empty((capacity, len(BANDS_10M), chip_px, chip_px), np.uint16)
        self._dn20 = np.empty((capacity, len(BANDS_20M), half, half), np.uint16)
        self._chips = 0

    @property
    def full(self) -> bool:
        """Whether no further chip fits."""
        return self._chips == len(self._dn10)

    def add(self, dn10: np.ndarray, dn20: np.ndarray) -> None:
        """Take one chip, (4, P, P) and (6, P/2, P/2)."""
        self._dn10[self._chips], self._dn20[self._chips] = dn10, dn20
        self._chips += 1

    def write(self, files: list[Path]) -> None:
        """Write the two files of `shard_files`, each whole or not at all."""
        for path, chips in zip(files, (self._dn10, self._dn20), strict=True):
            with atomic_path(path) as temporary:
                np.save(temporary, chips[: self._chips])


class Blosc2Shard:
    """A compressed shard being filled, in memory: zstd level 1 after bitshuffle.

    One block a chip, its byte streams compressed apart (split), was both the smallest and the fastest of the block
    sizes and split modes tried on real crops: 114.5 KiB a chip of 128 px, against 116.7 KiB unsplit.
    """

    def __init__(self, chip_px: int) -> None:
        """Begin an empty shard."""
        codec = import_blosc2()
        size = chip_bytes(chip_px)
        self._frame = codec.SChunk(
            chunksize=size,
            contiguous=True,
            cparams={
                "codec": codec.Codec.ZSTD,
                "clevel": 1,
                "filters": [codec.Filter.BITSHUFFLE],
                "splitmode": codec.SplitMode.ALWAYS_SPLIT,
                "typesize": 2,
                "blocksize": size,
                "nthreads": 1,
            },
            dparams={"nthreads": 1},
            meta={"geoladder": {"chip_px": chip_px}},
        )

    @property
    def full(self) -> bool:
        """Whether the compressed chips reach `SHARD_BYTES`."""
        return bool(self._frame.cbytes >= SHARD_BYTES)

    def add(self, dn10: np.ndarray, dn20: np.ndarray) -> None:
        """Compress one chip, (4, P, P) and (6, P/2, P/2)."""
        self._frame.append_data(np.concatenate([dn10.ravel(), dn20.ravel()]))

    def write(self, files: list[Path]) -> None:
        """Write the one file of `shard_files`, whole or not at all."""
        with atomic_path(files[0]) as temporary:
            temporary.write_bytes(self._frame.to_cframe())


class ShardWriter:
    """Takes the chips of a group's tiles in order, and goes on where an earlier one of the same key was stopped.

    Attributes:
        state: where cutting goes on.
    """

    def __init__(self, out: Path, spec: ChipsSpec, group: Group, key: str, dropped: Dropped) -> None:
        """Look for safe shards in `out`, remove what is not, and count again into `dropped` what was dropped.

        Raises:
            GeoladderError: the folder cannot be written to.
        """
        self._out, self._spec, self._group, self._dropped = out, spec, group, dropped
        try:
            self.state = self._go_on(key)
        except OSError as problem:
            raise GeoladderError(
                f"{out} cannot be prepared for chips ({problem}); give the right to write there, or another folder"
            ) from None
        self._begin()

    def _go_on(self, key: str) -> State:
        """The state to go on from. The manifest goes first: without it the rest counts for nothing."""
        self._out.mkdir(parents=True, exist_ok=True)
        for name in ("manifest.parquet", "dropped.csv"):
            discard(self._out / name)
        pieces = self._group.pieces(self._out)
        state = State.of(pieces, key)
        if state is None:
            # The newest first: what a kill leaves are the first pieces of that attempt, without a gap.
            for path in reversed(pieces):
                discard(path)
                discard(path.with_suffix(".csv"))
            pieces = []
        else:
            log.info("%s: %d shards are safe; going on after them", self._out, len(pieces))
            self._dropped.add(pieces[-1].with_suffix(".csv"))
        self._number = int(pieces[-1].stem) + 1 if pieces else self._group.shards.start
        remove_other_shards(self._out, pieces, self._spec.chip_codec, self._group)
        return state or State(key)

    def _begin(self) -> None:
        self._rows: list[pd.DataFrame] = []
        self._shard = (Blosc2Shard if self._spec.chip_codec == "blosc2" else NpyShard)(self._spec.chip_px)

    def add(self, tile: int, dn10: np.ndarray, dn20: np.ndarray, rows: pd.DataFrame) -> None:
        """Store the chips (K, 4, P, P), (K, 6, P/2, P/2) of tile number `tile` of the group, and their K rows."""
        start = self.state.skip if tile == self.state.next_tile else 0
        for end in range(start + 1, len(rows) + 1):
            self._shard.add(dn10[end - 1], dn20[end - 1])
            if self._shard.full or end == len(rows):
                self._rows.append(rows[start:end])
                start = end
            if self._shard.full:
                self.seal(tile, end)

    def seal(self, next_tile: int, skip: int = 0, done: bool = False) -> None:
        """Write the shard and then its piece, which has this `State`, and begin the next one.

        Raises:
            GeoladderError: a file cannot be written; nothing of this shard is left behind.
        """
        self.state = State(self.state.key, next_tile, skip, done)
        files = shard_files(self._out, self._number, self._spec.chip_codec) if self._rows else []
        try:
            if files:
                self._shard.write(files)
            self._write_piece()
        except OSError as problem:
            for path in files:
                discard(path)
            full = problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise GeoladderError(
                f"shard {self._number} in {self._out} cannot be written ({problem}); nothing of it was kept, the "
                f"{len(self._group.pieces(self._out))} shards before it are safe: "
                f"{'free some disk space' if full else 'give the right to write there'} and run again to go on "
                "from there"
            ) from problem
        self._number += 1
        self._begin()

    def _write_piece(self) -> None:
        """Write the manifest rows of the shard, but for their numbers, and what was dropped so far in the group."""
        rows = pd.concat(self._rows, ignore_index=True) if self._rows else pd.DataFrame()
        if len(rows):
            rows.insert(0, "shard", self._number)
            rows.insert(1, "slot", np.arange(len(rows)))
        table = pa.Table.from_pandas(rows, preserve_index=False)
        table = table.replace_schema_metadata({"geoladder": json.dumps(asdict(self.state))})
        piece = self._out / "pieces" / f"{self._number:05d}.parquet"
        self._dropped.write(piece.with_suffix(".csv"))
        with atomic_path(piece) as temporary:
            pq.write_table(table, temporary)


def remove_other_shards(out: Path, pieces: list[Path], codec: ChipCodec, group: Group | None = None) -> None:
    """Remove shards, of one group or of any, that are sealed by none of `pieces`."""
    safe = {path for piece in pieces for path in shard_files(out, int(piece.stem), codec)}
    for path in [*out.glob("[12]0m-*.npy"), *out.glob("chips-*.b2frame")]:
        if path not in safe and (group is None or int(path.stem.rpartition("-")[2]) in group.shards):
            discard(path)
