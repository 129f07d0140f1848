"""Who works in a project's folder: one run of the workflow at a time.

Snakemake locks the files that a run makes, and leaves the lock when it is killed. The run is written beside it by the
number and the start of its process, so that the next one can tell a dead owner from a living one, even where its
number went to another process.
"""

import atexit
import json
import os
import platform
from pathlib import Path
from typing import NamedTuple

import psutil

from geoladder.errors import GeoladderError
from geoladder.runs.atomic import write_json
from geoladder.runs.temporary import process_exists

CLOCK_S = 2.0
"""By so much two readings of one process's start may differ."""


class Owner(NamedTuple):
    """A process, as the folder names it."""

    host: str
    pid: int
    started_s: float
    """Since 1970."""

    @classmethod
    def this_process(cls) -> "Owner":
        """The one that calls."""
        return cls(platform.node(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def read(cls, file: Path) -> "Owner | None":
        """The owner that `file` names; None where it names none that anybody can look for: no file, or garbage."""
        try:
            owner = cls(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        kinds = (str, int, float)
        return owner if all(map(isinstance, owner, kinds)) and 0 < owner.pid < 2**31 else None

    @property
    def lives(self) -> bool | None:
        """Whether its process runs; None where nobody can tell, as of another machine, or of a user who is hidden."""
        if self.host != platform.node():
            return None
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_s) < CLOCK_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None if process_exists(self.pid) else False
        except psutil.AccessDenied:
            return None


def claim(file: Path) -> None:
    """Write down in `file` that this process owns the folder, until it ends.

    Raises GeoladderError where another process of this machine does.
    """
    owner, here = Owner.read(file), Owner.this_process()
    if owner is not None and owner.lives and owner.pid != here.pid:
        raise GeoladderError(
            f"process {owner.pid} runs a study in this folder; wait for it, or run yours in a folder of its own: "
            "--directory FOLDER"
        )
    write_json(file, here._asdict(), sealed=False)
    atexit.register(_leave, file.absolute(), here)


def is_left_behind(file: Path) -> bool:
    """Whether `file` names a process of this machine that is gone."""
    owner = Owner.read(file)
    return owner is not None and owner.lives is False


def forget_owner(file: Path, locks: Path) -> None:
    """Remove Snakemake's locks in the folder `locks`, which a dead owner left, and the owner."""
    for lock in locks.glob("*.lock"):
        lock.unlink(missing_ok=True)
    file.unlink(missing_ok=True)


def _leave(file: Path, owner: Owner) -> None:
    if os.getpid() == owner.pid and Owner.read(file) == owner:
        file.unlink(missing_ok=True)
