"""How long to wait for a server, and what may be waited for: every wait has an end."""

import random
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

LONGEST_PAUSE_S = 900.0
"""Most that a server's Retry-After is obeyed for; hubs ask for five minutes."""


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
    least_bytes: int = 6_000
    """That must come in `timeout_s`; a server that sends less, byte by byte, is as good as silent."""
    seed: int = 0
    """Draws the jitter."""

    def pause_s(self, name: str, failures: int, least_s: float) -> float:
        """Pause after the `failures`-th failure in a row: 50-100 % of the exponential one, at least `least_s`."""
        share = random.Random(f"{self.seed} {name} {failures}").uniform(0.5, 1.0)
        return max(share * min(self.base_s * 2.0 ** (failures - 1), self.ceiling_s), least_s)


DEFAULT = Patience()


def retry_after_s(header: str | None) -> float:
    """Pause a Retry-After header asks for, as seconds or as a date: 0 to `LONGEST_PAUSE_S`; 0 where unreadable."""
    text = (header or "").strip()
    if re.fullmatch(r"[0-9]+", text):
        seconds = float(text)
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError, IndexError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_PAUSE_S)
