"""A file, or ranges of it, from a server to a disk: resumable at every byte, kept only when complete and verified.

Unusual: nothing is buffered, so a killed job leaves each byte it received in `.<name>.fetching`. The next try asks
for the rest on the condition that the file has not changed (If-Range with the tag in `.<name>.fetching.json`).
"""

import fcntl
import json
import logging
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from threading import Event
from typing import BinaryIO, cast

import urllib3

from geoladder.data.fetch.disk import readable_disk_errors, sha256, write_all
from geoladder.data.fetch.http import Server, no_ranges, other_size, sent_range
from geoladder.data.fetch.plan import RemoteFile
from geoladder.data.fetch.retry import StoppedError, TransientError, persist
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path

log = logging.getLogger(__name__)


BLOCK_BYTES = 1 << 20
"""Most bytes between two looks at the stop signal."""
Range = tuple[int, int]
"""First byte, and the byte behind the last."""


class DamagedError(TransientError):
    """What came is not what was asked for; it is thrown away, and fetched again."""


def fetch_file(
    server: Server, file: RemoteFile, path: Path, stop: Event, advance: Callable[[int], None] = lambda _: None
) -> str:
    """Fetch one file, from where an earlier try ended.

    Args:
        server: where from.
        file: its name, size and, where known, checksum.
        path: where to; written last, by renaming.
        stop: set by another thread to end between two blocks.
        advance: told the bytes written, also those of earlier tries, and negative where they are thrown away.

    Returns:
        SHA-256 of the file on disk, 64 hexadecimal digits.

    Raises:
        GeoladderError: the server refuses, gives up, or has another file than the plan says; or the disk refuses.
        StoppedError: `stop` was set.
    """

    def keep(complete: Path) -> str:
        digest = sha256(complete)
        if file.sha256 not in (None, digest):
            raise DamagedError(f"checksum {digest} instead of {file.sha256}; thrown away")
        complete.replace(path)
        return digest

    return fetch_ranges(server, file, [(0, file.size_bytes)], path, keep, stop, advance)


def fetch_ranges(
    server: Server,
    file: RemoteFile,
    ranges: Sequence[Range],
    path: Path,
    keep: Callable[[Path], str],
    stop: Event,
    advance: Callable[[int], None] = lambda _: None,
) -> str:
    """Fetch some ranges of a file, from where an earlier try for the same ranges ended.

    Args:
        server: where from.
        file: its name, size and, where known, checksum.
        ranges: first byte and the byte behind the last of each, ascending, none empty.
        path: what the ranges become; until then they lie one after another in `unfinished(path)`.
        keep: given that file when it is complete; makes `path` of it and returns the SHA-256 of that. It may move
            the file, which is removed otherwise, and raises `DamagedError` where its content cannot be right.
        stop: set by another thread to end between two blocks.
        advance: told the bytes written, also those of earlier tries, and negative where they are thrown away.

    Returns:
        What `keep` does.

    Raises:
        GeoladderError: the server refuses, gives up, sends no ranges, or has another file than the plan says; or the
            disk refuses.
        StoppedError: `stop` was set.
    """
    with readable_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        download = _Download(server, file, ranges, path, keep, stop, advance)
        return persist(download.attempt, file.name, server.patience, stop, download.size_bytes)


class _Download:
    """The unfinished file beside `path`, with the tag the server gave it."""

    def __init__(
        self,
        server: Server,
        file: RemoteFile,
        ranges: Sequence[Range],
        path: Path,
        keep: Callable[[Path], str],
        stop: Event,
        advance: Callable[[int], None],
    ) -> None:
        self._server, self._file, self._path, self._keep = server, file, path, keep
        self._ranges = [tuple(range_) for range_ in ranges]
        self._whole = self._ranges == [(0, file.size_bytes)]
        self._ends = list(accumulate(behind - first for first, behind in ranges))
        self._stop, self._advance = stop, advance
        self._unfinished = unfinished(path)
        self._note = path.with_name(f".{path.name}.fetching.json")
        advance(self.size_bytes())

    def size_bytes(self) -> int:
        """Bytes there so far."""
        return self._unfinished.stat().st_size if self._unfinished.exists() else 0

    def attempt(self) -> str:
        """Fetch what is missing, verify, keep; return the checksum."""
        with cast(BinaryIO, self._unfinished.open("ab", buffering=0)) as handle:
            self._own(handle)
            tag = self._tag()
            if tag is None or self.size_bytes() > self._ends[-1]:
                self._throw_away(handle)
                tag = None
            while self.size_bytes() < self._ends[-1]:
                tag = self._fetch_range(handle, tag)
            os.fsync(handle.fileno())
            try:
                digest = self._keep(self._unfinished)
            except DamagedError:
                self._throw_away(handle)
                raise
            self._unfinished.unlink(missing_ok=True)
            self._note.unlink()
        return digest

    def _own(self, handle: BinaryIO) -> None:
        """Two jobs appending to one file would mix their bytes."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        except OSError as problem:
            log.debug("%s: this file system has no locks (%s)", self._unfinished, problem)
            return
        else:
            # Another job may have finished and renamed it between opening and locking.
            free = self._unfinished.exists() and os.path.samestat(
                os.fstat(handle.fileno()), self._unfinished.stat()
            )
        if not free:
            raise GeoladderError(f"{self._path}: another job is fetching it; wait for that one, or stop it")

    def _fetch_range(self, handle: BinaryIO, tag: str | None) -> str:
        """Fetch the first range that is not complete, or what it lacks; return the file's tag."""
        offset = self.size_bytes()
        number = bisect_right(self._ends, offset)
        end, (_, behind) = self._ends[number], self._ranges[number]
        first = behind - (end - offset)
        headers = {}
        if offset or not self._whole:
            headers["Range"] = f"bytes={first}-{behind - 1}"
            if tag and not tag.startswith("W/"):
                headers["If-Range"] = tag  # weak tags are not allowed there
        with self._server.open(self._server.url(self._file), headers=headers) as response:
            offset, tag = self._accept(response, handle, offset, first, tag)
            while block := response.read1(BLOCK_BYTES):
                if offset + len(block) > end:
                    raise other_size(self._file, f"more than {end} bytes")
                write_all(handle.fileno(), block)
                offset += len(block)
                self._advance(len(block))
                if self._stop.is_set():
                    raise StoppedError(self._file.name)
        if offset < end:
            raise TransientError(f"the connection ended after {offset} of {self._ends[-1]} bytes")
        return tag

    def _accept(
        self, response: urllib3.BaseHTTPResponse, handle: BinaryIO, offset: int, first: int, tag: str | None
    ) -> tuple[int, str]:
        """Check that the answer continues what is there.

        Returns:
            Offset in the unfinished file at which the answer's body begins, and the file's tag.
        """
        found, sent = response.headers.get("ETag", ""), sent_range(response)
        if response.status == 206 and sent:
            if sent[2] != self._file.size_bytes:
                raise other_size(self._file, f"{sent[2]} bytes")
            if sent[0] == first and offset and found in ("", tag):
                return offset, tag or ""
            if sent[0] == first and not offset:
                return 0, self._remember(found)
        if offset:
            log.info("%s: changed on the server, or it sends no ranges; begun again", self._file.name)
            self._throw_away(handle)
        if response.status != 200 or (offset and not self._whole):
            raise TransientError(f"status {response.status} does not continue byte {offset}; begun again")
        if not self._whole:
            raise no_ranges(self._file)
        length = response.headers.get("Content-Length")
        if length is not None and int(length) != self._file.size_bytes:
            raise other_size(self._file, f"{length} bytes")
        return 0, self._remember(found)

    def _remember(self, tag: str) -> str:
        """Note what the unfinished file is of; return the tag."""
        note = {"tag": tag, "size_bytes": self._file.size_bytes, "ranges": self._ranges}
        with atomic_path(self._note) as path:
            path.write_text(json.dumps(note))
        return tag

    def _tag(self) -> str | None:
        """Tag of the unfinished file; None where there is none, or it was begun for other bytes."""
        try:
            note = json.loads(self._note.read_text())
            same = note["size_bytes"] == self._file.size_bytes
            return (
                note["tag"] if same and [tuple(range_) for range_ in note["ranges"]] == self._ranges else None
            )
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def _throw_away(self, handle: BinaryIO) -> None:
        self._advance(-self.size_bytes())
        self._note.unlink(missing_ok=True)
        handle.truncate(0)


def unfinished(path: Path) -> Path:
    """Where a file lies until it is complete."""
    return path.with_name(f".{path.name}.fetching")
