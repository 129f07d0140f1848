"""A file, or ranges of it, from a server to a disk: resumable at every byte, kept only when complete and verified.

Nothing is buffered, so a killed job leaves each byte it received in `.<name>.fetching`, at its place in the file on
the server: between ranges are holes that take no room, and its size says how far it came. The next try asks for the
rest on the condition that the file has not changed, by the version in `.<name>.fetching.json`: its strong tag
(If-Range), else when it was modified (If-Unmodified-Since). Where the server names neither, it begins again.
"""

import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from urllib3 import BaseHTTPResponse

from geoladder.data.fetch.answers import UNKNOWN, StaleError, Version, no_ranges, other_size
from geoladder.data.fetch.http import Server
from geoladder.data.fetch.patience import Patience, StoppedError, TransientError
from geoladder.data.fetch.plan import RemoteFile
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import write_json
from geoladder.runs.digest import Seal, sha256

log = logging.getLogger(__name__)
T = TypeVar("T")

BLOCK_BYTES = 1 << 20
"""Most bytes between two looks at the stop signal."""
Range = tuple[int, int]
"""First byte, and the byte behind the last."""
LAYOUT = 3
"""Of an unfinished file and its note: before 2, ranges lay one after another, without holes; before 3, a weak tag was
believed."""

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "files may not be so large",
}


class DiskError(GeoladderError):
    """The disk refuses; other files would fare no better."""


class DamagedError(TransientError):
    """What came is not what was asked for; it is thrown away, and fetched again."""


class SlowError(TransientError):
    """So few bytes come that no end is in sight."""


def fetch_file(server: Server, file: RemoteFile, path: Path, check: Callable[[Path], None]) -> str:
    """Fetch one file, from where an earlier try ended, unless `path` has its size and, where known, checksum.

    `check` opens what came and raises `DamagedError` where it cannot be read: then it is fetched again, but once
    only, as a server that sends the same bytes twice has no others. Returns the SHA-256 of the file on disk, 64
    hexadecimal digits; raises as `fetch_ranges`.
    """
    if path.is_file() and path.stat().st_size == file.size_bytes:
        digest = sha256(path)
        if file.sha256 in (None, digest) and _passes(check, path):
            server.advance(file.size_bytes)
            return digest
    damaged = set[str]()

    def verify(complete: Path) -> str:
        digest = sha256(complete)
        if file.sha256 not in (None, digest):
            raise DamagedError(f"checksum {digest} instead of {file.sha256}; thrown away")
        try:
            check(complete)
        except DamagedError as problem:
            if digest in damaged or digest == file.sha256:
                raise GeoladderError(
                    f"{file.name} is damaged on the server ({problem}); tell its owner, or leave its tiles out"
                ) from None
            damaged.add(digest)
            raise
        Seal(file.size_bytes, digest).put(complete, path)
        return digest

    return fetch_ranges(server, file, [(0, file.size_bytes)], path, verify)


def fetch_ranges(
    server: Server, file: RemoteFile, ranges: Sequence[Range], path: Path, finish: Callable[[Path], T]
) -> T:
    """Fetch ranges of a file, ascending and none empty, from where an earlier try for the same ranges ended.

    `finish` makes `path` of a file in which the ranges lie where they lie on the server, and its result is returned.
    It may move that file, which is removed afterwards. Where it raises `DamagedError`, the file is thrown away and
    fetched again; any other exception leaves it for the next call.

    Raises:
        GeoladderError: the server refuses, gives up, sends no ranges, or has another file than the plan says; or the
            disk refuses.
        StoppedError: the server's `stop` was set.
    """

    def attempt() -> T:
        with cast(BinaryIO, unfinished(path).open("ab", buffering=0)) as handle:
            _lock(handle, path)
            download = _Download(server, file, ranges, path, handle)
            download.complete()
            os.fsync(handle.fileno())
            try:
                result = finish(unfinished(path))
            except DamagedError:
                download.begin_again()
                raise
            download.remove()
            return result

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


def _passes(check: Callable[[Path], None], path: Path) -> bool:
    try:
        check(path)
    except DamagedError as problem:
        log.warning("%s: %s; it is fetched again", path, problem)
        return False
    return True


class _Download:
    """Ranges of a file as far as they came, each at its place, and the version they are of."""

    def __init__(
        self, server: Server, file: RemoteFile, ranges: Sequence[Range], path: Path, handle: BinaryIO
    ) -> None:
        """Go on in `handle`, the unfinished file, where an earlier try for the same ranges ended."""
        self._server, self._file, self._ranges, self._handle = server, file, ranges, handle
        self._path, self._note = unfinished(path), path.with_name(f".{path.name}.fetching.json")
        limits = [[first, behind] for first, behind in ranges]
        self._facts = {"layout": LAYOUT, "size_bytes": file.size_bytes, "ranges": limits}
        self._position = os.fstat(handle.fileno()).st_size
        server.advance(self._received_bytes())
        version = self._read_version()
        self._version = version or UNKNOWN
        if version is None or self._position > ranges[-1][1]:
            self.begin_again()
        self._furthest = self._position
        self._interrupted = self._position > 0

    def complete(self) -> None:
        """Append what is missing; raises as `Server.persist`, which counts only tries that bring no new byte."""
        while self._position < self._ranges[-1][1]:
            self._server.persist(self._fetch_more, self._file.name)

    def begin_again(self) -> None:
        """Throw away what is there."""
        self._server.advance(-self._received_bytes())
        self._note.unlink(missing_ok=True)
        self._handle.truncate(0)
        self._position, self._version, self._interrupted = 0, UNKNOWN, False

    def remove(self) -> None:
        """Remove what nobody needs once the file is finished."""
        self._path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _received_bytes(self) -> int:
        """Bytes of the ranges that are here; holes between ranges do not count."""
        return sum(max(0, min(self._position, behind) - first) for first, behind in self._ranges)

    def _read_version(self) -> Version | None:
        """Version of what is here; None where there is nothing, or it is of other ranges or another layout."""
        try:
            note = json.loads(self._note.read_text())
            version = Version(str(note.pop("tag")), str(note.pop("modified")))
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return version if note == self._facts else None

    def _fetch_more(self) -> None:
        """Append what one request for the rest of a range brings; where new bytes came, a break is no failure."""
        if self._interrupted and not self._version.known:
            log.info("%s: begun again, since the server does not name its version", self._file.name)
            self.begin_again()
        furthest = self._furthest
        first, behind = next(limits for limits in self._ranges if self._position < limits[1])
        try:
            self._append(max(first, self._position), behind)
        except TransientError as problem:
            self._interrupted = self._position > 0
            if self._furthest == furthest or isinstance(problem, SlowError):
                raise
            received = self._received_bytes()
            log.info("%s: %s after %d bytes; the rest follows", self._file.name, problem, received)

    def _append(self, first: int, behind: int) -> None:
        with self._reading(first, behind) as (start, version, body):
            if self._position and (start != first or not self._version.continues_in(version)):
                log.info("%s: changed on the server, or it sends no ranges; begun again", self._file.name)
                self.begin_again()
                first = self._ranges[0][0]
                if start != first:
                    raise TransientError(f"the answer does not continue byte {first}; begun again")
            if start != first:
                raise no_ranges(self._file)
            if not self._position:
                self._version = version
                write_json(self._note, self._facts | version._asdict(), sealed=False)
            if self._position < first:
                self._handle.truncate(first)  # makes a hole from the last range to this one
                self._position = first
            pace = _Pace(self._server.patience)
            while block := body.read1(BLOCK_BYTES):
                pace.check(len(block))
                if self._position + len(block) > behind:
                    raise other_size(self._file, f"more than {behind} bytes")
                write_all(self._handle.fileno(), block)
                self._position += len(block)
                self._furthest = max(self._furthest, self._position)
                self._server.advance(len(block))
                if self._server.stop.is_set():
                    raise StoppedError(self._file.name)
        if self._position < behind:
            raise TransientError("the connection ended")

    @contextmanager
    def _reading(self, first: int, behind: int) -> Iterator[tuple[int, Version, BaseHTTPResponse]]:
        """As `Server.read`; where the server refuses since its version is another, what is here is thrown away."""
        try:
            with self._server.read(self._file, first, behind, self._version) as answer:
                yield answer
        except StaleError:
            self.begin_again()
            raise


class _Pace:
    """Watches that a connection brings at least `least_bytes` in each `timeout_s` of a patience."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._begin()

    def _begin(self) -> None:
        self._start_s, self._received = time.monotonic(), 0

    def check(self, received: int) -> None:
        """Count bytes that came; raises `SlowError` where they are too few."""
        self._received += received
        seconds = time.monotonic() - self._start_s
        if seconds >= self._patience.timeout_s:
            if self._received < self._patience.least_bytes:
                raise SlowError(f"only {self._received} bytes came in {seconds:.0f} s")
            self._begin()


def write_all(handle: int, block: bytes) -> None:
    """Write a block to a file descriptor, which may take several calls where a disk fills up."""
    view = memoryview(block)
    while view:
        view = view[os.write(handle, view) :]


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
