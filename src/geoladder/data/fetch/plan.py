"""What to fetch of a remote archive, part by part; what that costs, before a byte of imagery comes; and what came.

Of a part only the rows that are wanted come, unless most of them are; then it comes whole, as one stream whose
checksum can be verified. What single rows will cost is estimated from the mean row of their part, since exact sizes
stand in the footers of the parts.

The folder of a fetched archive remembers its plan, and what finished parts are, in `source/`. A part's record is a
small file of its own, written when the part is complete, so jobs on several machines fill one folder without a lock,
and a killed job loses no record.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pandas as pd
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from geoladder.data.index.select import selected
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import write_json
from geoladder.study.corpora import Select

T = TypeVar("T")
SOURCE = "source"
"""Folder beside images/ for the server's metadata, the plan, the records, and a footer per size a part there had."""
CHIPS_PER_TILE = (1068 // 128) ** 2
"""Of 128 px in a tile of MajorTOM Core."""
WHOLE_SHARE = 0.75
"""Of a part's tiles; where more are wanted, the whole part is fetched."""
_PART_NAME = r"[A-Za-z0-9][\w.-]*\.parquet"


@dataclass(frozen=True)
class RemoteFile:
    """One file on the server, as the server lists it."""

    name: str
    """Path below the archive's folder, such as `images/part_00001.parquet`."""
    size_bytes: int
    sha256: str | None = None
    """Where the server publishes it."""


@dataclass(frozen=True)
class Part:
    """One image part of which tiles are wanted."""

    file: RemoteFile
    tiles: int
    """Wanted."""
    listed: int
    """Tiles of the part by the archive's metadata."""
    rows: tuple[int, ...] | None = None
    """Those to fetch, ascending; None: the whole part."""
    least_rows: int = 0
    """How many the part has at least, as the metadata list one of that number less 1."""

    @property
    def size_bytes(self) -> int:
        """Bytes to fetch; of rows an estimate."""
        size = self.file.size_bytes
        return size if self.rows is None else round(size * len(self.rows) / self.listed)


@dataclass(frozen=True)
class FetchPlan:
    """What a selection means: parts in order of their names."""

    source: str
    """Folder of the archive as an http(s) URL."""
    select: Select
    whole_parts: bool
    """Whether no part may be fetched by rows."""
    parts: tuple[Part, ...]
    archive_tiles: int
    """Tiles the whole archive lists."""

    @property
    def tiles(self) -> int:
        """Tiles selected."""
        return sum(part.tiles for part in self.parts)

    @property
    def size_bytes(self) -> int:
        """Bytes to fetch."""
        return sum(part.size_bytes for part in self.parts)

    def is_of(self, select: Select, whole_parts: bool) -> bool:
        """Whether it was made for this selection."""
        return (self.select, self.whole_parts) == (select, whole_parts)


@dataclass(frozen=True)
class Record:
    """A finished part."""

    size_bytes: int
    """Of the local file."""
    sha256: str
    remote_bytes: int
    """Size of the whole part on the server when it was fetched."""
    rows: tuple[int, ...] | None = None
    """Rows of the server's part that it has, in this order; None: all."""

    def has(self, part: Part) -> bool:
        """Whether it has what a plan asks for, of the same version as far as that can be told."""
        if self.remote_bytes != part.file.size_bytes:
            return False
        if self.rows is None:
            return part.file.sha256 in (None, self.sha256)
        return part.rows is not None and set(part.rows) <= set(self.rows)


_PLAN, _RECORD = TypeAdapter(FetchPlan), TypeAdapter(Record)


def plan_fetch(
    source: str,
    metadata: pd.DataFrame,
    select: Select,
    list_files: Callable[[list[str]], Mapping[str, RemoteFile]],
    whole_parts: bool = False,
) -> FetchPlan:
    """Work out tiles, parts and bytes of a selection from the table of `MajorTom.metadata`.

    `list_files` gives size (and checksum) of files by name; it is called once, for the parts the selection needs.
    GeoladderError where no tile is selected, metadata names a part that is no file name, or the server lacks a part.
    """
    chosen = metadata[selected(metadata, select)]
    if chosen.empty:
        raise GeoladderError(f"the selection takes none of the {len(metadata)} tiles; loosen its limits")
    strange = chosen.loc[~chosen["part"].str.fullmatch(_PART_NAME), "part"]
    if len(strange):
        raise GeoladderError(
            f"metadata.parquet names the part '{strange.iloc[0]}' for {chosen['grid_cell'][strange.index[0]]}; "
            "a file name like part_00001.parquet is expected: the metadata is damaged"
        )
    rows_of = {f"images/{part}": rows.to_list() for part, rows in chosen.groupby("part")["row"]}
    listed_of = ("images/" + metadata["part"]).value_counts()
    files = list_files([*rows_of])
    missing = [name for name in rows_of if name not in files]
    if missing:
        raise GeoladderError(
            f"metadata.parquet lists {len(missing)} part(s) the server does not have, the first {missing[0]}; "
            "metadata and images are of different versions: use another revision"
        )
    parts = []
    for name, rows in rows_of.items():
        listed = int(listed_of[name])
        whole = whole_parts or len(rows) > WHOLE_SHARE * listed
        taken = None if whole else tuple(sorted(set(rows)))
        parts.append(Part(files[name], len(rows), listed, taken, max(rows) + 1))
    return FetchPlan(source, select, whole_parts, tuple(parts), len(metadata))


def describe(plan: FetchPlan) -> str:
    """Tiles, chips, parts and bytes of a plan, in a few lines for a terminal."""
    whole = sum(part.rows is None for part in plan.parts)
    about = "" if whole == len(plan.parts) else "about "
    share = 100 * plan.tiles / plan.archive_tiles
    digits = max(0, 1 - math.floor(math.log10(share))) if share < 100 else 0
    return "\n".join(
        (
            f"tiles  {plan.tiles} of {plan.archive_tiles} ({share:.{digits}f} %)",
            f"chips  up to {plan.tiles * CHIPS_PER_TILE} of 128 px, before clouds",
            f"parts  {len(plan.parts)}, {plan.tiles / len(plan.parts):.1f} wanted tiles in each on average; "
            f"{whole} of them are fetched whole",
            f"bytes  {about}{plan.size_bytes} ({human(plan.size_bytes)})",
        )
    )


def human(size_bytes: float) -> str:
    """Bytes in decimal units: 4300000000 -> `4.3 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} TB"


def write_plan(folder: Path, plan: FetchPlan) -> None:
    """Remember the plan of a folder."""
    write_json(folder / SOURCE / "plan.json", _PLAN.dump_python(plan, mode="json"))


def forget_plan(folder: Path) -> None:
    """Let the next command plan anew, and ask the server for everything again."""
    (folder / SOURCE / "plan.json").unlink(missing_ok=True)


def read_plan(folder: Path) -> FetchPlan | None:
    """The plan of a folder; None where there is none. Raises GeoladderError where the file is damaged."""
    return _read(folder / SOURCE / "plan.json", _PLAN)


def write_record(folder: Path, file: RemoteFile, record: Record) -> None:
    """Remember that a part is complete."""
    write_json(_record_path(folder, file), _RECORD.dump_python(record))


def read_record(folder: Path, file: RemoteFile) -> Record | None:
    """What is remembered of a finished part; None where it is missing or has another size. Raises as `read_plan`."""
    path, record = folder / file.name, _read(_record_path(folder, file), _RECORD)
    return record if record and path.is_file() and path.stat().st_size == record.size_bytes else None


def write_manifest(path: Path, plan: FetchPlan, records: Mapping[Part, Record]) -> None:
    """Write what lies where: source, selection, and each file with its size, checksum, wanted tiles, and rows."""
    files = {part.file.name: {"tiles": part.tiles, **_RECORD.dump_python(records[part])} for part in records}
    manifest = {
        "source": plan.source,
        "select": plan.select.model_dump(mode="json"),
        "tiles": sum(part.tiles for part in records),
        "size_bytes": sum(record.size_bytes for record in records.values()),
        "files": files,
    }
    write_json(path, manifest)


def _record_path(folder: Path, file: RemoteFile) -> Path:
    return folder / SOURCE / "done" / f"{Path(file.name).name}.json"


def _read(path: Path, content: TypeAdapter[T]) -> T | None:
    try:
        return content.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise GeoladderError(f"{path} cannot be read ({problem}); choose another --out") from None
    except ValidationError:
        raise GeoladderError(f"{path} is damaged; delete it, and the same command writes it anew") from None
