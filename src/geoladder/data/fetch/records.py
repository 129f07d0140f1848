"""What the folder of a fetched archive remembers in `source/`: its plan, and what finished parts are.

A part's record is a small file of its own, written when the part is complete, so jobs on several machines fill one
folder without a lock, and a killed job loses no record.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from geoladder.data.fetch.plan import FetchPlan, Part, RemoteFile
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import write_json

T = TypeVar("T")
SOURCE = "source"
"""Folder beside images/ for the server's own metadata, the plan and the records."""


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


def write_plan(folder: Path, plan: FetchPlan) -> None:
    """Remember the plan of a folder."""
    write_json(_plan_path(folder), _PLAN.dump_python(plan, mode="json"))


def read_plan(folder: Path) -> FetchPlan | None:
    """The plan of a folder; None where there is none.

    Raises:
        GeoladderError: the file is damaged.
    """
    return _read(_plan_path(folder), _PLAN)


def write_record(folder: Path, file: RemoteFile, record: Record) -> None:
    """Remember that a part is complete."""
    write_json(_record_path(folder, file), _RECORD.dump_python(record))


def read_record(folder: Path, file: RemoteFile) -> Record | None:
    """What is remembered of a finished part; None where it is missing, or has another size than it had.

    Raises:
        GeoladderError: the record is damaged.
    """
    path, record = folder / file.name, _read(_record_path(folder, file), _RECORD)
    return record if record and path.is_file() and path.stat().st_size == record.size_bytes else None


def footer_path(folder: Path, file: RemoteFile) -> Path:
    """Where the footer of a part on the server is kept; of each size it had, one."""
    return folder / SOURCE / "footers" / f"{Path(file.name).name}.{file.size_bytes}"


def write_manifest(path: Path, plan: FetchPlan, records: Mapping[Part, Record]) -> None:
    """Write what lies where: source, selection, and each file with its size, checksum, wanted tiles, and rows."""
    manifest = {
        "source": plan.source,
        "select": plan.select.model_dump(mode="json"),
        "tiles": sum(part.tiles for part in records),
        "size_bytes": sum(record.size_bytes for record in records.values()),
        "files": {
            part.file.name: {"tiles": part.tiles, **_RECORD.dump_python(record)}
            for part, record in records.items()
        },
    }
    write_json(path, manifest)


def _plan_path(folder: Path) -> Path:
    return folder / SOURCE / "plan.json"


def _record_path(folder: Path, file: RemoteFile) -> Path:
    return folder / SOURCE / "done" / f"{Path(file.name).name}.json"


def _read(path: Path, content: TypeAdapter[T]) -> T | None:
    try:
        return content.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise GeoladderError(f"{path} is damaged; delete it, and the same command writes it anew") from None
