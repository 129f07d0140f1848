"""What the folder of a fetched archive remembers in `source/`: its plan, and size and checksum of finished parts.

Unusual: one small file a part, written when the part is complete, so that jobs on several machines fill one folder
without a lock, and a killed job loses no record.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geoladder.atomic import write_json
from geoladder.data.fetch.plan import FetchPlan, Part, RemoteFile, Selection
from geoladder.errors import GeoladderError

SOURCE = "source"
"""Folder beside images/ for the server's own metadata, the plan and the records."""


def write_plan(folder: Path, plan: FetchPlan) -> None:
    """Remember the plan of a folder."""
    parts = [[part.file.name, part.file.size_bytes, part.file.sha256, part.tiles] for part in plan.parts]
    facts = {
        "source": plan.source,
        "selection": plan.selection.as_json(),
        "archive_tiles": plan.archive_tiles,
    }
    write_json(_plan_path(folder), facts | {"parts": parts})


def read_plan(folder: Path) -> FetchPlan | None:
    """The plan of a folder; None where there is none.

    Raises:
        GeoladderError: the file is damaged.
    """
    found = _read_json(_plan_path(folder))
    if found is None:
        return None
    try:
        parts = (Part(RemoteFile(name, size, digest), tiles) for name, size, digest, tiles in found["parts"])
        selection = Selection.from_json(found["selection"])
        return FetchPlan(found["source"], selection, tuple(parts), found["archive_tiles"])
    except (KeyError, TypeError, ValueError):
        raise _damaged(_plan_path(folder)) from None


def write_record(folder: Path, file: RemoteFile, digest: str) -> None:
    """Remember that a file is complete."""
    write_json(_record_path(folder, file), {"size_bytes": file.size_bytes, "sha256": digest})


def read_record(folder: Path, file: RemoteFile) -> dict[str, Any] | None:
    """Size and checksum of a finished file; None where it is missing or another one than the plan asks for."""
    path, record = folder / file.name, _read_json(_record_path(folder, file))
    if record is None or not path.is_file() or path.stat().st_size != file.size_bytes:
        return None
    same = record["size_bytes"] == file.size_bytes and file.sha256 in (None, record["sha256"])
    return record if same else None


def write_manifest(path: Path, plan: FetchPlan, parts: Sequence[Part], folder: Path) -> None:
    """Write what lies where: source, selection, and each file with its size, checksum and number of wanted tiles."""
    files = {
        part.file.name: {"tiles": part.tiles, **(read_record(folder, part.file) or {})} for part in parts
    }
    facts = {
        "source": plan.source,
        "selection": plan.selection.as_json(),
        "tiles": sum(part.tiles for part in parts),
        "size_bytes": sum(part.file.size_bytes for part in parts),
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
