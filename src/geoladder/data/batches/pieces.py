"""What is safe of an unfinished cutting, one piece of the manifest beside each finished shard, and what was left out.

Unusual: nothing keeps a list of what was done. A piece is written after its shard and says where cutting goes on,
so the newest piece is the whole state, and the manifest is the pieces in a row.
"""

import json
import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path

log = logging.getLogger(__name__)

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

    def drop(self, unit: str, reason: str, where: str, count: int = 1) -> None:
        """Count tiles or chips; `where` names the first of them."""
        if count:
            self._counts[unit, reason] += count
            self._first.setdefault((unit, reason), where)

    def drop_unreadable(self, where: str, problem: str) -> None:
        """Count one tile that could not be read, for the reason `problem` states.

        Raises:
            GeoladderError: unreadable tiles are more than `max_corrupt_share` of all; names the first.
        """
        log.warning("dropped %s", problem)
        self._first_problem = self._first_problem or problem
        self.drop("tile", "unreadable", where)
        bad = self._counts["tile", "unreadable"]
        if bad > self._limit * self._tiles:
            raise GeoladderError(
                f"{bad} of the {self._tiles} tiles of {self._archive} cannot be read so far, more than "
                f"cleaning.max_corrupt_share = {self._limit}; the first: {self._first_problem}"
            )

    def summary(self) -> str:
        """Counts in words, for a log line."""
        counts = (f"{count} {unit}s {reason}" for (unit, reason), count in self._counts.items())
        return ", ".join(counts) or "nothing"

    def write(self, path: Path) -> None:
        """Write a CSV of unit, reason, count and first."""
        rows = [(*key, count, self._first[key]) for key, count in sorted(self._counts.items())]
        with atomic_path(path) as temporary:
            pd.DataFrame(rows, columns=["unit", "reason", "count", "first"]).to_csv(temporary, index=False)


class Pieces:
    """The folder of pieces of one group."""

    def __init__(self, out: Path, group: Group) -> None:
        """Look into `out`/pieces."""
        self._folder, self._group = out / "pieces", group

    def newest(self) -> tuple[int, State] | None:
        """Shard number and state of the newest piece, None before the first."""
        shards = self.shards()
        return (shards[-1], read_state(self._path(shards[-1]))) if shards else None

    def shards(self) -> list[int]:
        """Shard numbers of all pieces of the group, ascending."""
        numbers = (int(path.stem) for path in self._folder.glob("*.parquet"))
        return sorted(number for number in numbers if number in self._group.shards)

    def paths(self) -> list[Path]:
        """Files of all pieces of the group, ascending."""
        return [self._path(shard) for shard in self.shards()]

    def write(self, shard: int, rows: pd.DataFrame, dropped: Dropped, state: State) -> None:
        """Write the piece of a shard, after what was dropped so far in the group."""
        dropped.write(self._path(shard).with_suffix(".csv"))
        table = pa.Table.from_pandas(rows, preserve_index=False)
        table = table.replace_schema_metadata({"geoladder": json.dumps(asdict(state))})
        with atomic_path(self._path(shard)) as temporary:
            pq.write_table(table, temporary)

    def replay(self, dropped: Dropped) -> None:
        """Count again what the newest piece says was dropped."""
        shards = self.shards()
        if not shards:
            return
        for row in pd.read_csv(self._path(shards[-1]).with_suffix(".csv")).to_dict("records"):
            dropped.drop(row["unit"], row["reason"], row["first"], row["count"])

    def remove(self) -> None:
        """Remove all pieces of the group."""
        for path in self.paths():
            path.unlink()
            path.with_suffix(".csv").unlink(missing_ok=True)

    def _path(self, shard: int) -> Path:
        return self._folder / f"{shard:05d}.parquet"


def read_state(piece: Path) -> State:
    """The state a piece carries."""
    return State(**json.loads(pq.read_schema(piece).metadata[b"geoladder"]))
