"""One file from a server to a disk: resumable at every byte, and under its own name only when complete and verified.

Unusual: nothing is buffered, so a killed job leaves each byte it received in `.<name>.fetching`. The next try asks
for the rest on the condition that the file has not changed (If-Range with the tag in `.<name>.fetching.json`).
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import BinaryIO, cast

import urllib3

from geoladder.atomic import atomic_path
from geoladder.data.fetch.http import Server
from geoladder.data.fetch.plan import RemoteFile
from geoladder.data.fetch.retry import StoppedError, TransientError, persist
from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)


class DiskError(GeoladderError):
    """The disk refuses; other files would fare no better."""


BLOCK_BYTES = 1 << 20
"""Most bytes between two looks at the stop signal."""
_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+)$")
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "files may not be so large",
}


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
    with readable_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        download = _Download(server, file, path, stop, advance)
        return persist(download.attempt, file.name, server.patience, stop, download.size_bytes)


class _Download:
    """The unfinished file beside `path`, with the tag the server gave it."""

    def __init__(
        self, server: Server, file: RemoteFile, path: Path, stop: Event, advance: Callable[[int], None]
    ) -> None:
        self._server, self._file, self._path = server, file, path
        self._stop, self._advance = stop, advance
        self._unfinished = unfinished(path)
        self._note = path.with_name(f".{path.name}.fetching.json")
        advance(self.size_bytes())

    def size_bytes(self) -> int:
        """Bytes there so far."""
        return self._unfinished.stat().st_size if self._unfinished.exists() else 0

    def attempt(self) -> str:
        """Fetch what is missing, verify, rename; return the checksum."""
        with cast(BinaryIO, self._unfinished.open("ab", buffering=0)) as handle:
            self._own(handle)
            tag = self._tag()
            if tag is None or self.size_bytes() > self._file.size_bytes:
                self._throw_away(handle)
                tag = None
            if tag is None or self.size_bytes() < self._file.size_bytes:
                self._fetch_rest(handle, tag)
            digest = sha256(self._unfinished)
            if self._file.sha256 not in (None, digest):
                self._throw_away(handle)
                raise TransientError(f"checksum {digest} instead of {self._file.sha256}; thrown away")
            os.fsync(handle.fileno())
            self._unfinished.replace(self._path)
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

    def _fetch_rest(self, handle: BinaryIO, tag: str | None) -> None:
        offset = self.size_bytes()
        headers = {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if tag and not tag.startswith("W/"):
                headers["If-Range"] = tag  # weak tags are not allowed there
        with self._server.open(f"{self._server.folder_url}/{self._file.name}", headers=headers) as response:
            offset = self._accept(response, handle, offset, tag)
            while block := response.read1(BLOCK_BYTES):
                if offset + len(block) > self._file.size_bytes:
                    raise self._other_size(f"more than {self._file.size_bytes} bytes")
                write_all(handle.fileno(), block)
                offset += len(block)
                self._advance(len(block))
                if self._stop.is_set():
                    raise StoppedError(self._file.name)
        if offset < self._file.size_bytes:
            raise TransientError(f"the connection ended after {offset} of {self._file.size_bytes} bytes")

    def _accept(
        self, response: urllib3.BaseHTTPResponse, handle: BinaryIO, offset: int, tag: str | None
    ) -> int:
        """Check that the answer continues what is there; return the offset at which its body begins."""
        found = response.headers.get("ETag", "")
        if response.status == 206:
            match = _RANGE.match(response.headers.get("Content-Range", ""))
            if match and int(match[3]) != self._file.size_bytes:
                raise self._other_size(f"{match[3]} bytes")
            if match and int(match[1]) == offset and found in ("", tag):
                return offset
        if offset:
            log.info("%s: changed on the server, or it sends no ranges; begun again", self._file.name)
            self._throw_away(handle)
        if response.status != 200:
            raise TransientError(f"status {response.status} does not continue byte {offset}; begun again")
        length = response.headers.get("Content-Length")
        if length is not None and int(length) != self._file.size_bytes:
            raise self._other_size(f"{length} bytes")
        with atomic_path(self._note) as path:
            path.write_text(json.dumps({"tag": found, "size_bytes": self._file.size_bytes}))
        return 0

    def _tag(self) -> str | None:
        """Tag of the unfinished file; None where there is none, or it was begun for a file of another size."""
        try:
            note = json.loads(self._note.read_text())
            return note["tag"] if note["size_bytes"] == self._file.size_bytes else None
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def _throw_away(self, handle: BinaryIO) -> None:
        self._advance(-self.size_bytes())
        self._note.unlink(missing_ok=True)
        handle.truncate(0)

    def _other_size(self, found: str) -> GeoladderError:
        return GeoladderError(
            f"{self._file.name}: the server sends {found} where the plan says {self._file.size_bytes}; the archive "
            "changed since it was planned: repeat the command with --plan, then without"
        )


def unfinished(path: Path) -> Path:
    """Where a file lies until it is complete."""
    return path.with_name(f".{path.name}.fetching")


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
