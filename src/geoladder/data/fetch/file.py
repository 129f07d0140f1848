"""A file, or ranges of it, from a server to a disk: resumable at every byte, kept only when complete and verified.

Nothing is buffered, so a killed job leaves each byte it received in `.<name>.fetching`, at its place in the file on
the server: between ranges are holes that take no room, and its size says how far it came. The next try asks for the
rest on the condition that the file has not changed (If-Range with the tag in `.<name>.fetching.json`).
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from geoladder.data.fetch.http import Server, StoppedError, TransientError, no_ranges, other_size
from geoladder.data.fetch.plan import RemoteFile
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import write_json

log = logging.getLogger(__name__)
T = TypeVar("T")

BLOCK_BYTES = 1 << 20
"""Most bytes between two looks at the stop signal."""
Range = tuple[int, int]
"""First byte, and the byte behind the last."""

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "files may not be so large",
}


class DiskError(GeoladderError):
    """The disk refuses; other files would fare no better."""


class DamagedError(TransientError):
    """What came is not what was asked for; it is thrown away, and fetched again."""


def fetch_file(server: Server, file: RemoteFile, path: Path) -> str:
    """Fetch one file, from where an earlier try ended, unless `path` has its size and, where known, checksum.

    Returns the SHA-256 of the file on disk, 64 hexadecimal digits; raises as `fetch_ranges`.
    """
    if path.is_file() and path.stat().st_size == file.size_bytes:
        digest = sha256(path)
        if file.sha256 in (None, digest):
            server.advance(file.size_bytes)
            return digest

    def verify(complete: Path) -> str:
        digest = sha256(complete)
        if file.sha256 not in (None, digest):
            raise DamagedError(f"checksum {digest} instead of {file.sha256}; thrown away")
        complete.replace(path)
        return digest

    return fetch_ranges(server, file, [(0, file.size_bytes)], path, verify)


def fetch_ranges(
    server: Server, file: RemoteFile, ranges: Sequence[Range], path: Path, finish: Callable[[Path], T]
) -> T:
    """Fetch ranges of a file, ascending and none empty, from where an earlier try for the same ranges ended.

    `finish` makes `path` of a file in which the ranges lie where they lie on the server. It may move that file, which
    is removed afterwards. A `DamagedError` throws it away and fetches it anew, any other exception leaves it for the
    next call.

    Raises:
        GeoladderError: the server refuses, gives up, sends no ranges, or has another file than the plan says; or the
            disk refuses.
        StoppedError: the server's `stop` was set.
    """

    def attempt() -> T:
        with cast(BinaryIO, unfinished(path).open("ab", buffering=0)) as handle:
            _lock(handle, path)
            download = _Download(server, file, ranges, note, handle)
            server.persist(download.complete, file.name, lambda: download.furthest)
            os.fsync(handle.fileno())
            try:
                result = finish(unfinished(path))
            except DamagedError:
                download.begin_again()
                raise
            unfinished(path).unlink(missing_ok=True)
            note.unlink(missing_ok=True)
            return result

    note = path.with_name(f".{path.name}.fetching.json")
    with readable_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return server.persist(attempt, file.name)


def unfinished(path: Path) -> Path:
    """Where a file lies until it is complete."""
    return path.with_name(f".{path.name}.fetching")


def _lock(handle: BinaryIO, path: Path) -> None:
    """Keep the unfinished file from other jobs; two that append to it would mix their bytes."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another job may have finished and renamed it between opening and locking.
        locked = os.path.samestat(os.fstat(handle.fileno()), unfinished(path).stat())
    except (BlockingIOError, FileNotFoundError):
        locked = False
    except OSError as problem:
        log.debug("%s: this file system has no locks (%s)", path, problem)
        return
    if not locked:
        raise GeoladderError(f"{path}: another job is fetching it; wait for that one, or stop it")


@dataclass
class _Download:
    """Ranges of a file as far as they came, and the tag of the version they are of."""

    server: Server
    file: RemoteFile
    ranges: Sequence[Range]
    note: Path
    handle: BinaryIO

    def __post_init__(self) -> None:
        """Go on where an earlier try for the same ranges ended."""
        self.facts = {"size_bytes": self.file.size_bytes, "ranges": [list(limits) for limits in self.ranges]}
        self.position = os.fstat(self.handle.fileno()).st_size
        self.server.advance(self.received_bytes())
        try:
            facts = json.loads(self.note.read_text())
            self.tag = facts.pop("tag")
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            facts = None
        if facts != self.facts or self.position > self.ranges[-1][1]:
            self.begin_again()
        self.furthest = self.position

    def received_bytes(self) -> int:
        """Of those asked for."""
        return sum(max(0, min(self.position, behind) - first) for first, behind in self.ranges)

    def begin_again(self) -> None:
        """Throw away what is there."""
        self.server.advance(-self.received_bytes())
        self.note.unlink(missing_ok=True)
        self.handle.truncate(0)
        self.position, self.tag = 0, ""

    def complete(self) -> None:
        """Append what is missing."""
        for first, behind in self.ranges:
            if self.position < behind:
                self._append(max(first, self.position), behind)

    def _append(self, first: int, behind: int) -> None:
        with self.server.read(self.file, first, behind, self.tag) as (start, tag, body):
            if self.position and (start != first or tag not in ("", self.tag)):
                log.info("%s: changed on the server, or it sends no ranges; begun again", self.file.name)
                self.begin_again()
                first = self.ranges[0][0]
                if start != first:
                    raise TransientError(f"the answer does not continue byte {first}; begun again")
            if start != first:
                raise no_ranges(self.file)
            if not self.position:
                self.tag = tag
                write_json(self.note, self.facts | {"tag": tag})
            if self.position < first:
                self.handle.truncate(first)
                self.position = first
            while block := body.read1(BLOCK_BYTES):
                if self.position + len(block) > behind:
                    raise other_size(self.file, f"more than {behind} bytes")
                write_all(self.handle.fileno(), block)
                self.position += len(block)
                self.furthest = max(self.furthest, self.position)
                self.server.advance(len(block))
                if self.server.stop.is_set():
                    raise StoppedError(self.file.name)
        if self.position < behind:
            raise TransientError("the connection ended")


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
