"""A file, or ranges of it, from a server to a disk: resumable at every byte, kept only when complete and verified.

Nothing is buffered, so a killed job leaves each byte it received in `.<name>.fetching`. The next try asks for the
rest on the condition that the file has not changed (If-Range with the tag in `.<name>.fetching.json`).
"""

import bisect
import errno
import fcntl
import hashlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from geoladder.data.fetch.http import Server, no_ranges, other_size
from geoladder.data.fetch.plan import RemoteFile
from geoladder.data.fetch.retry import StoppedError, TransientError
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import write_json

log = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 20
"""Most bytes between two looks at the stop signal."""
Range = tuple[int, int]
"""First byte, and the byte behind the last."""
Advance = Callable[[int], None]
"""Receives the bytes written, also those of earlier tries, and negative numbers where bytes are thrown away."""

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "files may not be so large",
}


class DiskError(GeoladderError):
    """The disk refuses; other files would fare no better."""


class DamagedError(TransientError):
    """What came is not what was asked for; it is thrown away, and fetched again."""


def fetch_file(server: Server, file: RemoteFile, path: Path, advance: Advance = lambda _: None) -> str:
    """Fetch one file, from where an earlier try ended.

    Args:
        server: where from.
        file: its name, size and, where known, checksum.
        path: where to; written last, by renaming.
        advance: moves a progress bar.

    Returns:
        SHA-256 of the file on disk, 64 hexadecimal digits.

    Raises:
        GeoladderError: the server refuses, gives up, or has another file than the plan says; or the disk refuses.
        StoppedError: the server's `stop` was set.
    """

    def attempt() -> str:
        with fetched(server, file, [(0, file.size_bytes)], path, advance) as complete:
            digest = sha256(complete)
            if file.sha256 not in (None, digest):
                raise DamagedError(f"checksum {digest} instead of {file.sha256}; thrown away")
            complete.replace(path)
        return digest

    return server.persist(attempt, file.name)


@contextmanager
def fetched(
    server: Server, file: RemoteFile, ranges: Sequence[Range], path: Path, advance: Advance
) -> Iterator[Path]:
    """Fetch ranges of a file, from where an earlier try for the same ranges ended, and yield a file of them.

    The block makes `path` of it, and may move it; it is removed behind the block. A `DamagedError` raised in the
    block throws it away, any other exception leaves it for the next try.

    Args:
        server: where from.
        file: its name and size.
        ranges: ascending, none empty; they lie one after another in the file that is yielded.
        path: what the ranges will become.
        advance: moves a progress bar.

    Raises:
        GeoladderError: the server refuses, gives up, sends no ranges, or has another file than the plan says; or the
            disk refuses.
        StoppedError: the server's `stop` was set.
    """
    with readable_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with cast(BinaryIO, unfinished(path).open("ab", buffering=0)) as handle:
            _lock(handle, path)
            download = _Unfinished(handle, path, file, ranges, advance)
            while download.size_bytes < download.ends[-1]:
                server.persist(partial(_fetch_more, server, file, download), file.name)
            os.fsync(handle.fileno())
            try:
                yield unfinished(path)
            except DamagedError:
                download.begin_again()
                raise
            download.remove()


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


class _Unfinished:
    """Ranges of a file as far as they came, one after another, and the tag of the version they are of."""

    def __init__(
        self, handle: BinaryIO, path: Path, file: RemoteFile, ranges: Sequence[Range], advance: Advance
    ) -> None:
        self.ranges = ranges
        self.ends = list(itertools.accumulate(behind - first for first, behind in ranges))
        self.size_bytes = os.fstat(handle.fileno()).st_size
        self._handle, self._advance = handle, advance
        self._path, self._note = unfinished(path), path.with_name(f".{path.name}.fetching.json")
        self._facts = {"size_bytes": file.size_bytes, "ranges": [list(limits) for limits in ranges]}
        advance(self.size_bytes)
        tag = self._read_tag()
        self.tag = tag or ""
        if tag is None or self.size_bytes > self.ends[-1]:
            self.begin_again()
        self.longest_bytes = self.size_bytes

    def begin_again(self) -> None:
        """Throw away what is there."""
        self._advance(-self.size_bytes)
        self._note.unlink(missing_ok=True)
        self._handle.truncate(0)
        self.size_bytes, self.tag = 0, ""

    def remember(self, tag: str) -> None:
        """Note the tag of the version that is being fetched."""
        self.tag = tag
        write_json(self._note, self._facts | {"tag": tag})

    def append(self, block: bytes) -> None:
        """Write the next bytes."""
        write_all(self._handle.fileno(), block)
        self.size_bytes += len(block)
        self.longest_bytes = max(self.longest_bytes, self.size_bytes)
        self._advance(len(block))

    def remove(self) -> None:
        """Remove what the finished file needs no more."""
        self._path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _read_tag(self) -> str | None:
        """Tag of the version; None where there is nothing, or it was begun for other bytes."""
        try:
            note = json.loads(self._note.read_text())
            return note["tag"] if note == self._facts | {"tag": note["tag"]} else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None


def _fetch_more(server: Server, file: RemoteFile, download: _Unfinished) -> None:
    """Append what one request for the rest of a range brings; where it brings any, a break is no failure."""
    longest_bytes = download.longest_bytes
    try:
        _append_range(server, file, download)
    except TransientError as problem:
        if download.longest_bytes == longest_bytes:
            raise
        log.info("%s: %s after %d bytes; the rest follows", file.name, problem, download.size_bytes)


def _append_range(server: Server, file: RemoteFile, download: _Unfinished) -> None:
    number = bisect.bisect_right(download.ends, download.size_bytes)
    end, (_, behind) = download.ends[number], download.ranges[number]
    first = behind - (end - download.size_bytes)
    with server.read(file, first, behind, download.tag) as answer:
        if download.size_bytes and (answer.first != first or answer.tag not in ("", download.tag)):
            log.info("%s: changed on the server, or it sends no ranges; begun again", file.name)
            download.begin_again()
            first = download.ranges[0][0]
            if answer.first != first:
                raise TransientError(f"the answer does not continue byte {first}; begun again")
        if answer.first != first:
            raise no_ranges(file)
        if not download.size_bytes:
            download.remember(answer.tag)
        while block := answer.body.read1(BLOCK_BYTES):
            if download.size_bytes + len(block) > end:
                raise other_size(file, f"more than {behind} bytes")
            download.append(block)
            if server.stop.is_set():
                raise StoppedError(file.name)
    if download.size_bytes < end:
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
