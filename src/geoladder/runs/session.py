"""One run of the workflow on one machine: its warm worker, and who owns the project's folder.

Snakemake locks the folder, and leaves the lock when it is killed. The owner is written beside it, so that the next
run can tell a dead owner from a living one and just go on.
"""

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from geoladder.runs.worker import SOCKET_VARIABLE


def claim(owner: Path) -> None:
    """Write down that this process owns the folder."""
    owner.parent.mkdir(parents=True, exist_ok=True)
    owner.write_text(f"{platform.node()} {os.getpid()}")


def forget_dead_owner(owner: Path, locks: Path) -> None:
    """Remove the locks in `locks` if `owner` was a process of this machine that is gone; else leave them alone."""
    if not owner.exists():
        return
    host, process = owner.read_text().split()
    if host == platform.node() and not _alive(int(process)):
        for lock in locks.glob("*.lock"):
            lock.unlink()
        owner.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as problem:
        return isinstance(problem, PermissionError)  # somebody else's process is alive, too
    return True


def start_worker(folder: Path) -> subprocess.Popen:
    """Start a warm worker that lives as long as this process, and point jobs to it.

    Its standard input is a pipe that ends with this process; its output goes to `folder`/worker.log, so that it keeps
    none of our own files open.
    """
    socket = str(Path(tempfile.mkdtemp(prefix="geoladder-")) / "worker")
    command = [sys.executable, "-m", "geoladder", "serve-jobs", socket]
    with (folder / "worker.log").open("w") as log:
        worker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    os.environ[SOCKET_VARIABLE] = socket
    return worker
