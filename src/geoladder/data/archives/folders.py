"""Walking through a folder that may be large, and may not be ours.

A folder that may not be looked into is an error. What Python offers passes over it in silence, and an archive would
be smaller than it is.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from geoladder.errors import GeoladderError


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Every folder from `root` down, links followed, as (folder, names of folders in it, names of files in it).

    Removing names from the list of folders keeps the walk out of them.

    Raises:
        GeoladderError: a folder cannot be listed.
    """
    for folder, folders, files in os.walk(root, onerror=_refuse, followlinks=True):
        yield Path(folder), folders, files


def _refuse(problem: OSError) -> None:
    raise GeoladderError(
        f"{problem.filename} cannot be listed ({problem}); give the right to read and enter it (chmod u+rx), or "
        "remove it"
    ) from None
