"""One job per run: a lock file that names its owner, and can be taken over once the owner is dead.

Unusual: no advisory lock of the operating system, which shared cluster file systems often lack. On the owner's own
machine its process is looked up; from another machine only the lock's time stamp tells, so a long job renews it.
"""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geoladder.errors import GeoladderError

PATIENCE_S = 90.0
"""How long a second job waits for the first one: a killed job needs a moment to save and go."""
SILENT_S = 1800.0
"""On another machine, an owner that did not renew its lock for so long counts as dead."""
RENEW_S = 60.0


class Lock:
    """A lock this process holds."""

    def __init__(self, path: Path, owner: str) -> None:
        """Of a file just written with the text `owner`."""
        self._path, self._owner = path, owner
        self._renewed = time.monotonic()

    def renew(self) -> None:
        """Show that the owner lives; costs nothing when called more than once a minute.

        Raises:
            GeoladderError: another job took the lock over, having found this one silent for too long.
        """
        if time.monotonic() - self._renewed < RENEW_S:
            return
        if _read(self._path) != self._owner:
            raise GeoladderError(
                f"another job took over {self._path.parent} while this one was silent; leave the run to it"
            )
        self._path.touch()
        self._renewed = time.monotonic()

    def release(self) -> None:
        """Remove the lock, unless it is another's by now."""
        if _read(self._path) == self._owner:
            self._path.unlink(missing_ok=True)


@contextmanager
def only_job(folder: Path) -> Iterator[Lock]:
    """Hold `folder`/lock while the block runs.

    Raises:
        GeoladderError: another living job holds it, and still does after `PATIENCE_S` seconds.
    """
    lock = _acquire(folder / "lock")
    try:
        yield lock
    finally:
        lock.release()


def _acquire(path: Path) -> Lock:
    deadline = time.monotonic() + PATIENCE_S
    process = os.getpid()
    owner = json.dumps({"host": platform.node(), "process": process, "started": _started(process)})
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)  # a job that ends removes it
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileNotFoundError:
            continue  # the folder went between the two lines above
        except FileExistsError:
            found = _read(path)
            if not _is_alive(path, found):
                _remove(path, found)
            elif time.monotonic() > deadline:
                raise GeoladderError(
                    f"another job works on this run: {found}; wait for it, or stop it, or, if it is gone, "
                    f"delete {path}"
                ) from None
            else:
                time.sleep(0.2)
            continue
        with os.fdopen(handle, "w") as file:
            file.write(owner)
        return Lock(path, owner)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def _is_alive(path: Path, found: str | None) -> bool:
    try:
        silent = time.time() - path.stat().st_mtime > SILENT_S
        owner = json.loads(found or "")
    except FileNotFoundError:
        return False
    except ValueError:
        return not silent  # created this very moment and not yet filled, or left empty by a crash
    if owner["host"] != platform.node():
        return not silent
    return _runs(owner["process"]) and _started(owner["process"]) == owner["started"]


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it exists, under another user
    return True


def _started(process: int) -> str | None:
    """Start time of a process in clock ticks since boot, which tells it from a later one of the same number.

    None where the system has no /proc, and for a process that has ended but that nobody has waited for.
    """
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    state, *numbers = stat.rpartition(")")[2].split()
    return None if state == "Z" else numbers[18]


def _remove(path: Path, found: str | None) -> None:
    """Remove a dead owner's lock, and no other's: two jobs may find the same dead lock at once."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if aside.read_text() != found:
        with suppress(OSError):
            os.link(aside, path)
    aside.unlink()
