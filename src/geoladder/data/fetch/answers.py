"""What a server's answers mean: versions and sizes of files, redirections, refusals.

What may pass (429, 5xx, timeouts, broken connections, answers that make no sense) is raised as `TransientError`;
everything else is a message for the user, at once.
"""

import re
import ssl
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import urllib3

from geoladder.data.fetch.patience import TransientError, retry_after_s
from geoladder.data.fetch.plan import RemoteFile
from geoladder.errors import GeoladderError
from geoladder.study.address import without_secrets

PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Statuses that may be gone the next time."""
LARGEST_BYTES = 10**13
"""Of one file; a larger size is a mistake of the server."""


class FileMissingError(GeoladderError):
    """The server has no such file."""


class StaleError(TransientError):
    """The file is of another version than what is here."""


class ChangedError(GeoladderError):
    """The server has another file than the plan says: it changed, or the server was wrong when it was asked."""


class Version(NamedTuple):
    """What tells one version of a remote file from another; empty where the server does not say."""

    tag: str = ""
    """Strong entity tag. Files of one weak tag may differ in their bytes."""
    modified: str = ""
    """Last-Modified."""

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "Version":
        """The version an answer's headers name."""
        tag = headers.get("ETag", "")
        return cls("" if tag.startswith("W/") else tag, headers.get("Last-Modified", ""))

    @property
    def known(self) -> bool:
        """Whether the server named it, so that a download may be resumed."""
        return any(self)

    def continues_in(self, answer: "Version") -> bool:
        """Whether an answer to a request under the `condition` is of this version."""
        if self.tag and answer.tag:
            return answer.tag == self.tag
        return answer.modified == self.modified or (bool(self.tag) and not answer.modified)

    @property
    def condition(self) -> dict[str, str]:
        """Headers under which the server continues this version only."""
        if self.tag:
            return {"If-Range": self.tag}
        return {"If-Unmodified-Since": self.modified} if self.modified else {}


UNKNOWN = Version()


def other_size(file: RemoteFile, sent: str) -> ChangedError:
    """The file is another one than was planned for."""
    return ChangedError(
        f"{file.name}: the server sends {sent} where the plan says {file.size_bytes}; the archive changed since it "
        "was planned, or the server was wrong then: the same command plans anew (for --group, first with --plan)"
    )


def no_ranges(file: RemoteFile) -> GeoladderError:
    """The server cannot send a part of a file."""
    return GeoladderError(
        f"{file.name}: the server sends whole files only, so single rows cannot be fetched; add --whole-parts"
    )


def size_of(header: str | None) -> int | None:
    """Bytes a Content-Length names; None where there is none. TransientError where it is no size of a file."""
    if header is None:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", header.strip()) or not 0 < int(header) <= LARGEST_BYTES:
        raise TransientError(f"the server gives the size of a file as '{header[:40]}'")
    return int(header)


def next_address(url: str, location: str) -> str:
    """Where a redirection leads; GeoladderError where it may not be followed."""
    following = urljoin(url, location)
    scheme = urlsplit(following).scheme
    if scheme not in ("http", "https") or (urlsplit(url).scheme == "https" and scheme == "http"):
        raise GeoladderError(
            f"{url} is redirected to {without_secrets(following)}; from {urlsplit(url).scheme} only "
            f"{'https' if url.startswith('https') else 'http and https'} is followed: give the address of the files"
        )
    return following


def check_status(response: urllib3.BaseHTTPResponse, url: str) -> None:
    """Raise where an answer to a request for `url` brings no content, and says no more of ranges and versions."""
    status = response.status
    if status in (200, 206, 412, 416):
        return
    if status in PASSING:
        raise TransientError(f"status {status}", retry_after_s(response.headers.get("Retry-After")))
    if status in (404, 410):
        raise FileMissingError(f"{url} does not exist (status {status}); check the address and the revision")
    if status in (401, 403):
        raise GeoladderError(f"{url}: the server refuses access (status {status}); is the archive public?")
    raise GeoladderError(f"{url}: the server answers status {status}; 200 or 206 is expected")


def failure(problem: Exception, url: str) -> Exception:
    """What an exception of urllib3 means: a failure that may pass, or a message."""
    reason = _innermost(problem)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return GeoladderError(
            f"{url}: the server's certificate is not trusted ({reason.verify_message}); check the address, or point "
            "SSL_CERT_FILE at the certificates of your site"
        )
    text = without_secrets(f"{type(reason).__name__}: {reason}")
    if isinstance(problem, urllib3.exceptions.LocationValueError):
        return GeoladderError(f"{url}: {text}; check the address")
    return TransientError(text)


def _innermost(problem: BaseException) -> BaseException:
    """The reason the library wraps several times."""
    reason = getattr(problem, "reason", None) or problem.__cause__
    if not isinstance(reason, Exception) and problem.args and isinstance(problem.args[-1], Exception):
        reason = problem.args[-1]
    return _innermost(reason) if isinstance(reason, Exception) else problem
