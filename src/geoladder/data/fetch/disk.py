"""The disk a download goes to, and what is said where it refuses."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geoladder.errors import GeoladderError

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "files may not be so large",
}


class DiskError(GeoladderError):
    """The disk refuses; other files would fare no better."""


def write_all(handle: int, block: bytes) -> None:
    """Write a block to a file descriptor, which may take several calls where a disk fills up."""
    view = memoryview(block)
    while view:
        view = view[os.write(handle, view) :]


def sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def readable_disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing `path` into messages."""
    try:
        yield
    except OSError as problem:
        where = problem.filename or path
        if problem.errno in _FULL:
            why = f"{_FULL[problem.errno]}; make room, or fetch to another folder"
        elif isinstance(problem, PermissionError):
            why = "this user may not write there; choose another --out, or change its permissions"
        else:
            why = problem.strerror or str(problem)
        raise DiskError(
            f"{where} cannot be written: {why}. What came so far is kept; the same command continues from there"
        ) from None
