"""What is safe of an unfinished cutting: one piece of the manifest beside each finished shard.

Unusual: nothing keeps a list of what was done. A piece is written after its shard and says where cutting goes on,
so the newest piece is the whole state, and the manifest is the pieces in a row.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from geoladder.data.batches.dropped import Dropped
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path

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


class Pieces:
    """The folder of pieces of one group."""

    def __init__(self, out: Path, group: Group) -> None:
        """Look into `out`/pieces."""
        self._folder, self._group = out / "pieces", group

    def newest(self) -> tuple[int, State] | None:
        """Shard number and state of the newest piece, None before the first."""
        found = self.found()
        if not found:
            return None
        return found[-1], read_state(self._path(found[-1]))

    def found(self) -> list[int]:
        """Shard numbers of all pieces of the group, ascending."""
        numbers = (int(path.stem) for path in self._folder.glob("*.parquet"))
        return sorted(number for number in numbers if number in self._group.shards)

    def paths(self) -> list[Path]:
        """Files of all pieces of the group, ascending."""
        return [self._path(shard) for shard in self.found()]

    def write(self, shard: int, rows: pd.DataFrame, dropped: Dropped, state: State) -> None:
        """Write the piece of a shard, after what was dropped so far in the group."""
        dropped.write(self._path(shard).with_suffix(".csv"))
        table = pa.Table.from_pandas(rows, preserve_index=False)
        table = table.replace_schema_metadata({"geoladder": json.dumps(asdict(state))})
        with atomic_path(self._path(shard)) as temporary:
            pq.write_table(table, temporary)

    def replay(self, dropped: Dropped) -> None:
        """Count again what the newest piece says was dropped."""
        found = self.found()
        if not found:
            return
        for row in pd.read_csv(self._path(found[-1]).with_suffix(".csv")).to_dict("records"):
            if row["unit"] == "chip":
                dropped.drop_chips(Counter({row["reason"]: row["count"]}), row["first"])
            else:
                for _ in range(row["count"]):
                    dropped.drop_tile(row["reason"], row["first"])

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
