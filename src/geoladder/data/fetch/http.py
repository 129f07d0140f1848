"""HTTP for fetching archives: where files are, how large they are, and what a server's answers mean.

The server is expected to fail. What may pass (429, 5xx, timeouts, broken connections) is raised as `TransientError`,
which `Server.persist` repeats; everything else is a message for the user, at once.
"""

import json
import logging
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from tenacity import RetryCallState, Retrying, retry_if_exception_type, sleep_using_event, stop_after_attempt

from geoladder.data.fetch.plan import RemoteFile
from geoladder.errors import GeoladderError
from geoladder.study.address import hub_listing

log = logging.getLogger(__name__)
T = TypeVar("T")
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Statuses that may be gone the next time."""
_CONTENT_RANGE = re.compile(r"^bytes (\d+)-\d+/(\d+)$")
_ONLY_REDIRECTS = urllib3.Retry(
    total=None, connect=0, read=0, status=0, other=0, redirect=5, respect_retry_after_header=False
)


class TransientError(Exception):
    """A failure that may pass; `retry_after_s` is the pause the server asks for, if it does."""

    def __init__(self, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class StoppedError(Exception):
    """Another download failed for good, or the user interrupted; what was written stays for the next run."""


class FileMissingError(GeoladderError):
    """The server has no such file."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to ask again."""

    attempts: int = 8
    """Failures in a row without a new byte after which a file is given up."""
    base_s: float = 1.0
    """First pause; each further one is twice as long."""
    ceiling_s: float = 120.0
    """Longest pause, unless the server asks for a longer one."""
    timeout_s: float = 60.0
    """Silence after which a connection counts as broken."""
    seed: int = 0
    """Draws the jitter."""

    def pause_s(self, name: str, failures: int, least_s: float) -> float:
        """Pause after the `failures`-th failure in a row: 50-100 % of the exponential one, at least `least_s`."""
        share = random.Random(f"{self.seed} {name} {failures}").uniform(0.5, 1.0)
        return max(share * min(self.base_s * 2.0 ** (failures - 1), self.ceiling_s), least_s)


DEFAULT = Patience()


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
        self._patience = patience
        parts = urlsplit(folder_url)
        proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
        options: dict[str, Any] = {
            "maxsize": connections,
            "timeout": urllib3.Timeout(patience.timeout_s),
            "retries": _ONLY_REDIRECTS,
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
            seconds = self._patience.pause_s(name, state.attempt_number, least_s)
            log.warning("%s: %s; again in %.1f s", name, problem, seconds)
            return seconds

        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(self._patience.attempts),
            wait=pause_s,
            sleep=sleep_using_event(self.stop),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except TransientError as problem:
            raise GeoladderError(
                f"{name}: given up after {self._patience.attempts} failures in a row ({problem}); what came so far "
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
        self, file: RemoteFile, first: int, behind: int, tag: str = ""
    ) -> Iterator[tuple[int, str, urllib3.BaseHTTPResponse]]:
        """Ask for bytes `first` to `behind` (exclusive) of a file.

        Where `tag` is given and the file has another version by now, the server sends the whole file.

        Yields:
            Byte of the file with which the body begins, 0 where the server sends the whole file and no range; tag of
            the file's version, empty where the server gives none; the body, to be read inside the block.

        Raises:
            TransientError: a failure that may pass, also inside the block.
            GeoladderError: the server refuses, or has a file of another size.
        """
        headers = {"Range": f"bytes={first}-{behind - 1}"}
        if tag and not tag.startswith("W/"):  # weak tags are not allowed there
            headers["If-Range"] = tag
        with self._open(f"{self.folder_url}/{file.name}", headers=headers) as response:
            if response.status == 416:
                raise other_size(file, f"at most {first} bytes")
            sent = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            if response.status == 206 and not sent:
                raise TransientError("a range came that does not say which it is")
            size = sent[2] if sent else response.headers.get("Content-Length")
            if size is not None and int(size) != file.size_bytes:
                raise other_size(file, f"{size} bytes")
            yield int(sent[1]) if sent else 0, response.headers.get("ETag", ""), response

    def read_end(self, file: RemoteFile, size_bytes: int) -> bytes:
        """The last bytes of a file, in memory; raises as `persist`, `read` and `no_ranges`."""
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
            response = self._pool.request(method, url, headers=headers, preload_content=False)
            try:
                _check_status(response, url)
                yield response
            finally:
                response.close()  # a body not read to its end must not go back to the pool
        except urllib3.exceptions.HTTPError as problem:
            raise TransientError(_innermost(problem)) from None

    def _head(self, name: str) -> RemoteFile | None:
        url = f"{self.folder_url}/{name}"
        try:
            with self._open(url, "HEAD") as response:
                length = response.headers.get("Content-Length")
        except FileMissingError:
            return None
        if length is None:
            raise GeoladderError(
                f"{url}: the server does not say how large the file is, so it cannot be verified"
            )
        return RemoteFile(name, int(length))

    def _hub_folder(self, listing: str) -> Iterator[RemoteFile]:
        url = listing.rstrip("/")
        while url:
            entries, url = self.persist(partial(self._hub_page, url), listing)
            for entry in entries:
                if entry.get("type") == "file":
                    yield RemoteFile(entry["path"], entry["size"], (entry.get("lfs") or {}).get("oid"))

    def _hub_page(self, url: str) -> tuple[list[dict], str]:
        """Entries of one page of a listing, and the address of the next page; empty after the last."""
        with self._open(url) as response:
            text, link = response.read(), response.headers.get("Link", "")
        following = re.search(r'<([^>]+)>;\s*rel="next"', link)
        try:
            return json.loads(text), following[1] if following else ""
        except ValueError:
            raise TransientError(f"{url} answered something that is no JSON") from None


def other_size(file: RemoteFile, sent: str) -> GeoladderError:
    """The file is another one than was planned for."""
    return GeoladderError(
        f"{file.name}: the server sends {sent} where the plan says {file.size_bytes}; the archive changed since it "
        "was planned: repeat the command with --plan, then without"
    )


def no_ranges(file: RemoteFile) -> GeoladderError:
    """The server cannot send a part of a file."""
    return GeoladderError(
        f"{file.name}: the server sends whole files only, so single rows cannot be fetched; add --whole-parts"
    )


def retry_after_s(header: str | None) -> float:
    """Pause a Retry-After header asks for, given as seconds or as a date; 0 where it says nothing readable."""
    try:
        return urllib3.Retry().parse_retry_after(header) if header else 0.0
    except urllib3.exceptions.InvalidHeader:
        return 0.0


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


def _innermost(problem: Exception) -> str:
    """The reason the library wraps several times."""
    reason = getattr(problem, "reason", None)
    return _innermost(reason) if isinstance(reason, Exception) else f"{type(problem).__name__}: {problem}"
