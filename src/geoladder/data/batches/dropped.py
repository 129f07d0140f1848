"""What was left out while cutting chips, and why.

Unusual: a single unreadable tile is counted and passed over, but more than a share of them stops the run, since then
the archive is broken and not the tile.
"""

import logging
from collections import Counter
from pathlib import Path

import pandas as pd

from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path

log = logging.getLogger(__name__)


class Dropped:
    """Counts by unit (tile or chip) and reason, with the first case of each."""

    def __init__(self, tiles: int, max_corrupt_share: float, archive: Path) -> None:
        """Begin with nothing dropped of `tiles` tiles of `archive`."""
        self._tiles, self._limit, self._archive = tiles, max_corrupt_share, archive
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: dict[tuple[str, str], str] = {}
        self._first_problem = ""

    def drop_tile(self, reason: str, where: str) -> None:
        """Count one tile; `where` names it."""
        self._drop("tile", reason, 1, where)

    def drop_unreadable(self, where: str, problem: str) -> None:
        """Count one tile that could not be read, for the reason `problem` states.

        Raises:
            GeoladderError: unreadable tiles are more than `max_corrupt_share` of all; names the first.
        """
        log.warning("dropped %s", problem)
        self._first_problem = self._first_problem or problem
        self.drop_tile("unreadable", where)
        bad = self._counts["tile", "unreadable"]
        if bad > self._limit * self._tiles:
            raise GeoladderError(
                f"{bad} of the {self._tiles} tiles of {self._archive} cannot be read so far, more than "
                f"cleaning.max_corrupt_share = {self._limit}; the first: {self._first_problem}"
            )

    def drop_chips(self, dropped: Counter[str], where: str) -> None:
        """Count chips of the tile `where`, by reason."""
        for reason, count in dropped.items():
            self._drop("chip", reason, count, where)

    def _drop(self, unit: str, reason: str, count: int, where: str) -> None:
        if count:
            self._counts[unit, reason] += count
            self._first.setdefault((unit, reason), where)

    def summary(self) -> str:
        """Counts in words, for a log line."""
        counts = (f"{count} {unit}s {reason}" for (unit, reason), count in self._counts.items())
        return ", ".join(counts) or "nothing"

    def write(self, path: Path) -> None:
        """Write a CSV of unit, reason, count and first."""
        rows = [(*key, count, self._first[key]) for key, count in sorted(self._counts.items())]
        with atomic_path(path) as temporary:
            pd.DataFrame(rows, columns=["unit", "reason", "count", "first"]).to_csv(temporary, index=False)
