"""Files of a run: a reader, or a killed job, never meets half of one, and one job at a time works on them.

That job holds a lease on a file, which it renews while it lives and which names it. The lease is a plain file
(filelock), since shared file systems of clusters often lack locks of the operating system. A dead owner on this
machine loses it at once, one on another machine once it has not been renewed for `LEASE_S`.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoladder.errors import GeoladderError
from geoladder.runs.digest import Seal
from geoladder.runs.temporary import temporary

if TYPE_CHECKING:
    from filelock import SoftFileLease

LEASE_S = 120.0
"""A lease that nobody renewed for so long belongs to nobody. A thread of the owner renews it three times as often."""
PATIENCE = 1.25
"""A second job waits for so many `LEASE_S`: longer than a killed job needs to save and go."""


@contextmanager
def atomic_path(path: Path | str, made_from: str | None = None, sealed: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it, seal it and rename it to `path`.

    The temporary name keeps the suffix. When the block raises, the temporary file is removed and `path` is left as it
    was. `made_from` is the fingerprint of the spec behind an output of the workflow; files that nobody keeps need no
    seal (see `runs.digest`).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = temporary(path)
    try:
        yield unfinished
        with unfinished.open("rb+") as handle:
            os.fsync(handle.fileno())
        if sealed:
            Seal.of(unfinished, made_from).put(unfinished, path)
        else:
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: Path, content: Any, sealed: bool = True) -> None:  # noqa: ANN401 - whatever JSON holds
    """Write JSON at once or not at all; numbers JSON has no word for (infinity, not a number) become null.

    The seal names the `fingerprint` in the content, if there is one.
    """
    finite = json.loads(json.dumps(content), parse_constant=lambda _: None)
    made_from = finite.get("fingerprint") if isinstance(finite, dict) else None
    with atomic_path(path, made_from, sealed) as unfinished:
        unfinished.write_text(json.dumps(finite, indent=1) + "\n")


@contextmanager
def only_job(folder: Path) -> Iterator["SoftFileLease"]:
    """Hold the lease `folder`/lock while the block runs.

    Raises GeoladderError if another living job holds it, and still does after `PATIENCE` times `LEASE_S` seconds.
    """
    from filelock import SoftFileLease, Timeout

    path = folder / "lock"
    lease = SoftFileLease(path, lease_duration=LEASE_S, timeout=PATIENCE * LEASE_S, poll_interval=0.2)
    seen = _last_renewal(path)
    try:
        _acquire(lease)
    except Timeout:
        # filelock takes no lease over on file systems that cannot exchange two names (NFS), nor an empty file.
        if seen is None or _last_renewal(path) != seen:
            owner = f"process {lease.owner.pid} on {lease.owner.hostname}" if lease.owner else "unnamed"
            raise GeoladderError(
                f"another job works on this run: {owner}; wait for it, or stop it, or, if it is gone, delete {path}"
            ) from None
        path.unlink(missing_ok=True)
        _acquire(lease)
    try:
        yield lease
    finally:
        lease.release()


def check_held(lease: "SoftFileLease") -> None:
    """Make sure that the lease is still this job's; costs nothing.

    Raises GeoladderError if another job took it over while this one was silent, or it can no longer be renewed.
    """
    if lease.compromise is not None:
        raise GeoladderError(
            f"this job lost {lease.lock_file} ({lease.compromise.reason}): if another job took over while this one "
            "was silent, leave the run to it; otherwise look after the disk and run again"
        )


def _acquire(lease: "SoftFileLease") -> None:
    while not lease.is_locked:
        with suppress(FileNotFoundError):  # the job before removed the folder after filelock made sure of it
            lease.acquire()


def _last_renewal(path: Path) -> int | None:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    return None
