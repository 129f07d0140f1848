"""Failures of a server that may pass, and pauses after them: they grow, and their jitter comes from a seed."""

import zlib
from dataclasses import dataclass

import numpy as np
import urllib3


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

    def pause_s(self, name: str, failures: int, least_s: float) -> float:
        """Pause after the `failures`-th failure in a row: 50-100 % of the exponential one, at least `least_s`."""
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode()), failures])
        exponential_s = min(self.base_s * 2.0 ** (failures - 1), self.ceiling_s)
        return max(exponential_s * rng.uniform(0.5, 1.0), least_s)


DEFAULT = Patience()


def retry_after_s(header: str | None) -> float:
    """Pause a Retry-After header asks for, given as seconds or as a date; 0 where it says nothing readable."""
    try:
        return urllib3.Retry().parse_retry_after(header) if header else 0.0
    except urllib3.exceptions.InvalidHeader:
        return 0.0
