"""The warm worker of one run of the workflow on one machine: started with the run, and gone with it."""

import atexit
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from geoladder.runs.worker import SOCKET_VARIABLE, remove_socket

LONGEST_ADDRESS = 100
"""Bytes of a socket's path; systems allow 103 or 107."""


def start_worker(folder: Path) -> bool:
    """Start a warm worker that lives as long as this process, and point jobs to it; False where no socket can be.

    Its standard input is a pipe that ends with this process; its output goes to `folder`/worker.log, so that it keeps
    none of our own files open. `folder`/worker names its socket: the next run removes what two killed processes left.
    """
    address = folder / "worker"
    with suppress(OSError, ValueError):  # none, or garbage
        remove_socket(Path(address.read_text()))
    place = _short_folder()
    if place is None:
        return False
    socket = place / "worker"
    address.write_text(str(socket))
    command = [sys.executable, "-m", "geoladder", "serve-jobs", str(socket)]
    with (folder / "worker.log").open("w") as log:
        worker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    os.environ[SOCKET_VARIABLE] = str(socket)
    atexit.register(_end, worker, socket)
    return True


def _short_folder() -> Path | None:
    """A new temporary folder that only this user can enter, under a path that a socket's may begin with."""
    for base in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):
        if len(os.fsencode(f"{base}/geoladder-12345678/worker.new")) <= LONGEST_ADDRESS:
            with suppress(OSError):
                return Path(tempfile.mkdtemp(prefix="geoladder-", dir=base))
    return None


def _end(worker: subprocess.Popen, socket: Path) -> None:
    if worker.stdin:
        worker.stdin.close()
    remove_socket(socket)
