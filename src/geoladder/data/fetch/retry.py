"""When to ask a failing server again.

Unusual: failures are counted in a row. A download of gigabytes may break a hundred times, as long as each try brings
bytes; pauses grow exponentially, and their jitter comes from a seed, so that a run can be repeated.
"""

import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event
from typing import TypeVar

import numpy as np

from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)
T = TypeVar("T")


class TransientError(Exception):
    """A failure that may pass; `retry_after_s` is the pause the server asks for, if it does."""

    def __init__(self, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class StoppedError(Exception):
    """Another download failed for good, or the user interrupted; what was written stays for the next run."""


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

    def pause_s(self, name: str, failures: int, asked_s: float) -> float:
        """Pause after the `failures`-th failure in a row: 50-100 % of the exponential one, at least `asked_s`."""
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode()), failures])
        return max(min(self.base_s * 2.0 ** (failures - 1), self.ceiling_s) * rng.uniform(0.5, 1.0), asked_s)


DEFAULT = Patience()


def persist(
    action: Callable[[], T],
    name: str,
    patience: Patience,
    stop: Event,
    progress: Callable[[], int] = lambda: 0,
) -> T:
    """Repeat `action` until it passes.

    Args:
        action: raises `TransientError` where another try may help.
        name: of what is fetched, for messages and jitter.
        patience: pauses and limits.
        stop: ends a pause early.
        progress: bytes there so far; failures are counted anew whenever it exceeds its highest value before.

    Raises:
        GeoladderError: `patience.attempts` failures in a row; says the last.
        StoppedError: `stop` was set.
    """
    failures, furthest = 0, progress()
    while True:
        try:
            return action()
        except TransientError as problem:
            reached = progress()
            failures = 1 if reached > furthest else failures + 1
            furthest = max(furthest, reached)
            if failures >= patience.attempts:
                raise GeoladderError(
                    f"{name}: given up after {failures} failures in a row ({problem}); what came so far is kept, "
                    "so the same command continues from there: try later, or with fewer --connections"
                ) from None
            pause_s = patience.pause_s(name, failures, problem.retry_after_s)
            log.warning("%s: %s; again in %.1f s", name, problem, pause_s)
            if stop.wait(pause_s):
                raise StoppedError(name) from None


def retry_after_s(header: str | None) -> float:
    """Pause a Retry-After header asks for, given as seconds or as a date; 0 where it says nothing readable."""
    if not header:
        return 0.0
    if header.strip().isdigit():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
