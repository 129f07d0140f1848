"""Looking into a folder that may be large, may not be ours, and may not be unpacked yet.

A folder that may not be looked into is an error. What Python offers passes over it in silence, and an archive would
be smaller than it is. PhilEO's archives are published as zips of several parts, `name.z01`, `name.z02`, ...,
`name.zip`, which most tools cannot unpack as they are: they must be joined first.
"""

import logging
import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)

_PART = re.compile(r"\.(z\d+|zip)$", re.IGNORECASE)
SHOWN = 3


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Every folder from `root` down, as (folder, names of folders in it, names of files in it).

    Links to folders are followed last, and each folder is visited once, however many links lead there: one that leads
    back up would multiply the archive. Removing names from the list of folders keeps the walk out of them. Raises as
    `refuse`.
    """
    visited: set[tuple[int, int]] = set()
    starts = deque([str(root)])
    while starts:
        for folder, folders, files in os.walk(starts.popleft(), onerror=refuse):
            status = os.stat(folder)  # noqa: PTH116 - one call less in trees of millions
            if (status.st_dev, status.st_ino) in visited:
                log.warning("%s is passed over: it leads to a folder that was visited already", folder)
                folders.clear()
                continue
            visited.add((status.st_dev, status.st_ino))
            yield Path(folder), folders, files
            starts += (path for name in folders if os.path.islink(path := os.path.join(folder, name)))  # noqa: PTH114, PTH118


def refuse(problem: OSError) -> NoReturn:
    """Raise that a folder cannot be listed, as GeoladderError."""
    if isinstance(problem, FileNotFoundError | NotADirectoryError):
        raise GeoladderError(f"there is no folder {problem.filename}; check the path") from None
    raise GeoladderError(
        f"{problem.filename} cannot be listed ({problem}); give the right to read and enter it (chmod u+rx), or "
        "remove it"
    ) from None


def unpacking(folder: Path) -> str:
    """How to unpack the zips of a folder (itself or one level below), for an error message; empty without a zip."""
    parts = sorted(
        path for pattern in ("*", "*/*") for path in folder.glob(pattern) if _PART.search(path.name)
    )
    if not parts:
        return ""
    whole = next((path for path in parts if path.suffix.lower() == ".zip"), None)
    size_gb = sum(path.stat().st_size for path in parts) / 1e9
    shown = ", ".join(path.name for path in parts[:SHOWN]) + (", ..." if len(parts) > SHOWN else "")
    if whole is None:
        return f"it holds parts of a zip ({shown}), but not the last one, *.zip: fetch that, too"
    how = f"unzip {whole.name}"
    if len(parts) > 1:
        how = f"zip -s 0 {whole.name} --out one.zip && unzip one.zip"
    return (
        f"it holds {len(parts)} file(s) of a zip ({shown}; {size_gb:.3g} GB), which must be unpacked first: "
        f"`cd {whole.parent} && {how}`. Joining and unpacking need at least {2 * size_gb:.3g} GB beside them; "
        "then point `path` at the folder that was unpacked"
    )


def remedy(source: Path | memoryview, problem: Exception) -> str:
    """What to do about a file that cannot be read."""
    if isinstance(problem, PermissionError) or "Permission denied" in str(problem):
        return f"give the right to read it (chmod u+r {source if isinstance(source, Path) else ''})"
    return "fetch the part again" if isinstance(source, memoryview) else "unpack or fetch it again"
