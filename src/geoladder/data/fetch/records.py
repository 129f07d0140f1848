"""What the folder of a fetched archive remembers in `source/`: its plan, and what finished parts are.

Unusual: one small file a part, written when the part is complete, so that jobs on several machines fill one folder
without a lock, and a killed job loses no record.
"""

import json
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple

from geoladder.data.fetch.plan import FetchPlan, Part, RemoteFile
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import write_json
from geoladder.study.corpora import Select

SOURCE = "source"
"""Folder beside images/ for the server's own metadata, the plan and the records."""


class Record(NamedTuple):
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


def write_plan(folder: Path, plan: FetchPlan) -> None:
    """Remember the plan of a folder."""
    facts = {
        "source": plan.source,
        "select": plan.select.model_dump(mode="json"),
        "whole_parts": plan.whole_parts,
        "archive_tiles": plan.archive_tiles,
        "parts": [[*astuple(part.file), part.tiles, part.listed, part.rows] for part in plan.parts],
    }
    write_json(_plan_path(folder), facts)


def read_plan(folder: Path) -> FetchPlan | None:
    """The plan of a folder; None where there is none.

    Raises:
        GeoladderError: the file is damaged.
    """
    found = _read_json(_plan_path(folder))
    if found is None:
        return None
    try:
        parts = (
            Part(RemoteFile(*file), tiles, listed, rows and tuple(rows))
            for *file, tiles, listed, rows in found["parts"]
        )
        select = Select.model_validate(found["select"])
        return FetchPlan(found["source"], select, found["whole_parts"], tuple(parts), found["archive_tiles"])
    except (KeyError, TypeError, ValueError):
        raise _damaged(_plan_path(folder)) from None


def write_record(folder: Path, file: RemoteFile, record: Record) -> None:
    """Remember that a part is complete."""
    write_json(_record_path(folder, file), record._asdict())


def read_record(folder: Path, file: RemoteFile) -> Record | None:
    """What is remembered of a finished part; None where it is missing, or has another size than it had.

    Raises:
        GeoladderError: the record is damaged.
    """
    path, found = folder / file.name, _read_json(_record_path(folder, file))
    if found is None or not path.is_file():
        return None
    try:
        record = Record(**found | {"rows": found["rows"] and tuple(found["rows"])})
    except (KeyError, TypeError):
        raise _damaged(_record_path(folder, file)) from None
    return record if path.stat().st_size == record.size_bytes else None


def footer_path(folder: Path, file: RemoteFile) -> Path:
    """Where the footer of a part on the server is kept; of each size it had, one."""
    return folder / SOURCE / "footers" / f"{Path(file.name).name}.{file.size_bytes}"


def write_manifest(path: Path, plan: FetchPlan, parts: Sequence[Part], folder: Path) -> None:
    """Write what lies where: source, selection, and each file with its size, checksum, wanted tiles, and rows."""
    records = {part: read_record(folder, part.file) for part in parts}
    files = {
        part.file.name: {"tiles": part.tiles, **(record._asdict() if record else {})}
        for part, record in records.items()
    }
    facts = {
        "source": plan.source,
        "select": plan.select.model_dump(mode="json"),
        "tiles": sum(part.tiles for part in parts),
        "size_bytes": sum(record.size_bytes for record in records.values() if record),
    }
    write_json(path, facts | {"files": files})


def _plan_path(folder: Path) -> Path:
    return folder / SOURCE / "plan.json"


def _record_path(folder: Path, file: RemoteFile) -> Path:
    return folder / SOURCE / "done" / f"{Path(file.name).name}.json"


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise _damaged(path) from None


def _damaged(path: Path) -> GeoladderError:
    return GeoladderError(f"{path} is damaged; delete it, and the same command writes it anew")
