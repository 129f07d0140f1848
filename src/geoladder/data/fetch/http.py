"""HTTP for fetching archives: where files are, how large they are, and their bytes.

The server is expected to fail: `Server.persist` repeats what may pass, and `answers` says what that is.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Event
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from tenacity import RetryCallState, Retrying, retry_if_exception_type, sleep_using_event, stop_after_attempt

from geoladder.data.fetch.answers import (
    UNKNOWN,
    FileMissingError,
    StaleError,
    Version,
    check_status,
    failure,
    next_address,
    no_ranges,
    other_size,
    size_of,
)
from geoladder.data.fetch.patience import Patience, StoppedError, TransientError
from geoladder.data.fetch.plan import RemoteFile
from geoladder.errors import GeoladderError
from geoladder.study.address import hub_listing

log = logging.getLogger(__name__)
T = TypeVar("T")
_CONTENT_RANGE = re.compile(r"^bytes ([0-9]{1,15})-[0-9]+/([0-9]{1,15})$")
MOST_REDIRECTS = 5
LISTING_BYTES = 2**26
"""Most of one page of a listing of the hub."""
FOOTER_BYTES = 2**26
"""Most of the end of a file that is read into memory; footers of parts have 1 MB."""


class Server:
    """An archive behind HTTP. May be used from several threads at once; `stop` ends what they do."""

    def __init__(self, folder_url: str, patience: Patience, connections: int) -> None:
        """Open no connection yet; raises GeoladderError where none is allowed.

        `folder_url` is a result of `resolve`, `connections` the most at one time.
        """
        if connections < 1:
            raise GeoladderError(f"connections {connections} must be at least 1")
        self.folder_url, self.connections = folder_url, connections
        self.stop = Event()
        self.advance: Callable[[int], None] = lambda _: None
        """Receives the bytes written, those of earlier tries too, and negative numbers for bytes thrown away."""
        self.patience = patience
        parts = urlsplit(folder_url)
        proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
        options: dict[str, Any] = {
            "maxsize": connections,
            "timeout": urllib3.Timeout(patience.timeout_s),
            "retries": False,
        }
        self._pool = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)

    def persist(self, action: Callable[[], T], name: str) -> T:
        """Repeat `action`, with pauses, until it raises no `TransientError`.

        `name` is of what is fetched, for messages and jitter. GeoladderError, which says the last failure, after as
        many as this server's patience allows; StoppedError where `stop` was set.
        """

        def attempt() -> T:
            if self.stop.is_set():
                raise StoppedError(name)
            return action()

        def pause_s(state: RetryCallState) -> float:
            problem = state.outcome and state.outcome.exception()
            least_s = problem.retry_after_s if isinstance(problem, TransientError) else 0.0
            seconds = self.patience.pause_s(name, state.attempt_number, least_s)
            log.warning("%s: %s; again in %.1f s", name, problem, seconds)
            return seconds

        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(self.patience.attempts),
            wait=pause_s,
            sleep=sleep_using_event(self.stop),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except TransientError as problem:
            raise GeoladderError(
                f"{name}: given up after {self.patience.attempts} failures in a row ({problem}); what came so far "
                "is kept, so the same command continues from there: try later, or with fewer --connections"
            ) from None

    def list_files(self, names: Sequence[str]) -> dict[str, RemoteFile]:
        """Ask for the sizes of files; files the server does not have are left out.

        On the hub, one request per 1000 files of a folder, with checksums; elsewhere one HEAD request per file.
        """
        hub = hub_listing(self.folder_url)
        if hub:
            folders = sorted({name.rpartition("/")[0] for name in names})
            listed = {file.name: file for folder in folders for file in self._hub_folder(f"{hub}/{folder}")}
            return {name: listed[name] for name in names if name in listed}
        with ThreadPoolExecutor(self.connections) as threads:
            files = threads.map(lambda name: self.persist(partial(self._head, name), name), names)
            return {file.name: file for file in files if file}

    @contextmanager
    def read(
        self, file: RemoteFile, first: int, behind: int, version: Version = UNKNOWN
    ) -> Iterator[tuple[int, Version, urllib3.BaseHTTPResponse]]:
        """Ask for bytes `first` to `behind` (exclusive) of a file.

        Where the file has another version than a known one that is given, the server sends the whole file, or
        nothing (`StaleError`).

        Yields:
            Byte of the file with which the body begins, 0 where the server sends the whole file and no range; the
            file's version; the body, to be read inside the block.

        Raises:
            TransientError: a failure that may pass, also inside the block.
            GeoladderError: the server refuses, or (`ChangedError`) has a file of another size.
        """
        headers = {"Range": f"bytes={first}-{behind - 1}"} | version.condition
        with self._open(f"{self.folder_url}/{file.name}", headers=headers) as response:
            if response.status == 412:
                raise StaleError("changed on the server")
            if response.status == 416:
                raise other_size(file, f"at most {first} bytes")
            sent = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            if response.status == 206 and not sent:
                raise TransientError("a range came that does not say which it is")
            size = size_of(sent[2] if sent else response.headers.get("Content-Length"))
            if size is not None and size != file.size_bytes:
                raise other_size(file, f"{size} bytes")
            yield int(sent[1]) if sent else 0, Version.of(response.headers), response

    def read_end(self, file: RemoteFile, size_bytes: int) -> bytes:
        """The last bytes of a file, in memory; raises as `persist`, `read` and `no_ranges`."""
        if size_bytes > FOOTER_BYTES:
            raise GeoladderError(f"{file.name} claims a footer of {size_bytes} bytes; add --whole-parts")
        first = file.size_bytes - size_bytes

        def attempt() -> bytes:
            with self.read(file, first, file.size_bytes) as (start, _, body):
                if start != first:
                    raise no_ranges(file)
                data = body.read()
            if len(data) != size_bytes:
                raise TransientError(f"{len(data)} bytes came where {size_bytes} are expected")
            return data

        return self.persist(attempt, file.name)

    @contextmanager
    def _open(
        self, url: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        # Compressed transfer would make byte offsets meaningless.
        headers = {"Accept-Encoding": "identity", "User-Agent": "geoladder", **(headers or {})}
        try:
            response = self._follow(method, url, headers)
            try:
                check_status(response, url)
                yield response
            finally:
                response.close()  # a body not read to its end must not go back to the pool
        except urllib3.exceptions.HTTPError as problem:
            raise failure(problem, url) from None

    def _follow(self, method: str, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """The first answer that redirects no further; GeoladderError where a redirection may not be followed."""
        address = url
        for _ in range(MOST_REDIRECTS + 1):
            response = self._pool.request(
                method, address, headers=headers, preload_content=False, redirect=False
            )
            location = response.get_redirect_location()
            if not location:
                return response
            response.close()
            address = next_address(url, urljoin(address, location))
        raise GeoladderError(f"{url} is redirected more than {MOST_REDIRECTS} times; check the address")

    def _head(self, name: str) -> RemoteFile | None:
        url = f"{self.folder_url}/{name}"
        try:
            with self._open(url, "HEAD") as response:
                size_bytes = size_of(response.headers.get("Content-Length"))
        except FileMissingError:
            return None
        if size_bytes is None:
            raise GeoladderError(
                f"{url}: the server does not say how large the file is, so it cannot be verified"
            )
        return RemoteFile(name, size_bytes)

    def _hub_folder(self, listing: str) -> Iterator[RemoteFile]:
        url, asked_for = listing.rstrip("/"), set[str]()
        while url and url not in asked_for:
            asked_for.add(url)
            files, url = self.persist(partial(self._hub_page, url), listing)
            yield from files

    def _hub_page(self, url: str) -> tuple[list[RemoteFile], str]:
        """Files of one page of a listing, and the address of the next page; empty after the last."""
        with self._open(url) as response:
            text, link = response.read(LISTING_BYTES), response.headers.get("Link", "")
        following = re.search(r'<([^>]+)>;\s*rel="next"', link)
        try:
            files = [
                RemoteFile(entry["path"], entry["size"], (entry.get("lfs") or {}).get("oid"))
                for entry in json.loads(text)
                if entry.get("type") == "file"
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise TransientError(f"{url} answered something that is no listing of files") from None
        return files, next_address(url, following[1]) if following else ""
