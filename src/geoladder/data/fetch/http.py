"""HTTP for fetching archives: where files are, how large they are, and what a server's answers mean.

Unusual: the server is expected to fail. What may pass (429, 5xx, timeouts, broken connections) is raised as
`TransientError`, which `geoladder.data.fetch.retry` repeats; everything else is a message for the user, at once.
"""

import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Event
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from geoladder.data.fetch.plan import RemoteFile
from geoladder.data.fetch.retry import Patience, TransientError, persist, retry_after_s
from geoladder.errors import GeoladderError
from geoladder.study.address import hub_listing

PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Statuses that may be gone the next time."""
_CONTENT_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+)$")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


class Server:
    """An archive behind HTTP. May be used from several threads at once."""

    def __init__(self, folder_url: str, patience: Patience, connections: int) -> None:
        """Open no connection yet.

        Args:
            folder_url: result of `resolve`.
            patience: timeouts and retries.
            connections: most at one time.
        """
        self.folder_url, self.patience, self.connections = folder_url, patience, connections
        parts = urlsplit(folder_url)
        proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
        timeout = urllib3.Timeout(patience.timeout_s)
        self._pool = (
            urllib3.ProxyManager(proxy, maxsize=connections, timeout=timeout, retries=_ONLY_REDIRECTS)
            if proxy
            else urllib3.PoolManager(maxsize=connections, timeout=timeout, retries=_ONLY_REDIRECTS)
        )

    @contextmanager
    def open(
        self, url: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send one request; the body is read inside the block.

        Raises:
            TransientError: a failure that may pass, also inside the block.
            GeoladderError: the server refuses; says the status and what it means.
        """
        # Compressed transfer would make byte offsets meaningless.
        asked = {"Accept-Encoding": "identity", "User-Agent": "geoladder"} | dict(headers or {})
        try:
            response = self._pool.request(method, url, headers=asked, preload_content=False)
            try:
                _check_status(response, url)
                yield response
            finally:
                response.close()  # a body not read to its end must not go back to the pool
        except urllib3.exceptions.HTTPError as problem:
            raise TransientError(_short(problem)) from None

    def list_files(self, names: list[str]) -> dict[str, RemoteFile]:
        """Ask for the sizes of files; files the server does not have are left out.

        On the hub, one request per 1000 files of a folder, with checksums; elsewhere one HEAD request per file.
        """
        stop, wanted = Event(), set(names)
        hub = hub_listing(self.folder_url)
        if hub:
            folders = sorted({name.rpartition("/")[0] for name in names})
            found = (file for folder in folders for file in self._hub_folder(f"{hub}/{folder}", stop))
            return {file.name: file for file in found if file.name in wanted}
        with ThreadPoolExecutor(self.connections) as threads:
            files = threads.map(
                lambda name: persist(partial(self._head, name), name, self.patience, stop), names
            )
            return {file.name: file for file in files if file}

    def read_range(self, file: RemoteFile, first: int, behind: int, stop: Event) -> bytes:
        """Bytes `first` to `behind` (exclusive) of a file, in memory.

        Raises:
            GeoladderError: the server gives up, refuses, sends no ranges, or has a file of another size.
            StoppedError: `stop` was set.
        """
        return persist(partial(self._range, file, first, behind), file.name, self.patience, stop)

    def _range(self, file: RemoteFile, first: int, behind: int) -> bytes:
        with self.open(self.url(file), headers={"Range": f"bytes={first}-{behind - 1}"}) as response:
            if response.status != 206:
                raise no_ranges(file)
            sent = sent_range(response)
            if sent and sent[2] != file.size_bytes:
                raise other_size(file, f"{sent[2]} bytes")
            data = response.read()
        if len(data) != behind - first:
            raise TransientError(f"{len(data)} bytes came where {behind - first} were asked for")
        return data

    def url(self, file: RemoteFile) -> str:
        """Address of a file."""
        return f"{self.folder_url}/{file.name}"

    def _head(self, name: str) -> RemoteFile | None:
        url = f"{self.folder_url}/{name}"
        try:
            with self.open(url, "HEAD") as response:
                length = response.headers.get("Content-Length")
        except FileMissingError:
            return None
        if length is None:
            raise GeoladderError(
                f"{url}: the server does not say how large the file is, so it cannot be verified"
            )
        return RemoteFile(name, int(length))

    def _hub_folder(self, listing: str, stop: Event) -> Iterator[RemoteFile]:
        url = listing.rstrip("/")
        while url:
            page = partial(self._hub_page, url)
            entries, url = persist(page, listing, self.patience, stop)
            for entry in entries:
                if entry.get("type") == "file":
                    digest = (entry.get("lfs") or {}).get("oid", "")
                    yield RemoteFile(entry["path"], entry["size"], digest if _SHA256.match(digest) else None)

    def _hub_page(self, url: str) -> tuple[list[dict], str]:
        with self.open(url) as response:
            text, link = response.read(), response.headers.get("Link", "")
        following = re.search(r'<([^>]+)>;\s*rel="next"', link)
        try:
            return json.loads(text), following[1] if following else ""
        except ValueError:
            raise TransientError(f"{url} answered something that is no JSON") from None


def sent_range(response: urllib3.BaseHTTPResponse) -> tuple[int, int, int] | None:
    """First and last byte of an answer's body in the file, and the file's size; None where it does not say."""
    match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def other_size(file: RemoteFile, found: str) -> GeoladderError:
    """The file is another one than was planned for."""
    return GeoladderError(
        f"{file.name}: the server sends {found} where the plan says {file.size_bytes}; the archive changed since it "
        "was planned: repeat the command with --plan, then without"
    )


def no_ranges(file: RemoteFile) -> GeoladderError:
    """The server cannot send a part of a file."""
    return GeoladderError(
        f"{file.name}: the server sends whole files only, so single rows cannot be fetched; add --whole-parts"
    )


class FileMissingError(GeoladderError):
    """The server has no such file."""


_ONLY_REDIRECTS = urllib3.Retry(
    total=None, connect=0, read=0, status=0, other=0, redirect=5, respect_retry_after_header=False
)


def _check_status(response: urllib3.BaseHTTPResponse, url: str) -> None:
    status = response.status
    if status in (200, 206, 416):
        return
    if status in PASSING:
        raise TransientError(f"status {status}", retry_after_s(response.headers.get("Retry-After")))
    if status in (404, 410):
        raise FileMissingError(f"{url} does not exist (status {status}); check the address and the revision")
    if status in (401, 403):
        raise GeoladderError(f"{url}: the server refuses access (status {status}); is the archive public?")
    raise GeoladderError(f"{url}: the server answers status {status}; 200 or 206 is expected")


def _short(problem: Exception) -> str:
    """The innermost reason; the library wraps it several times."""
    reason = getattr(problem, "reason", None)
    return _short(reason) if isinstance(reason, Exception) else f"{type(problem).__name__}: {problem}"
