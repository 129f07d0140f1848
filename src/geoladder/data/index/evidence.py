"""Why numbers of an archive or a bench are taken as they are: what names, tags, metadata and pixels say of them.

Each finding answers one question, such as which DN offset products carry. Its witnesses are counted on a sample, and
where two of them can be compared, rows that contradict are. Above `LIMIT` of those the work stops with the numbers;
below it they are warned of. All findings are kept in evidence.json, beside the index they are of.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from geoladder.errors import GeoladderError
from geoladder.runs.atomic import write_json

log = logging.getLogger(__name__)

FILE = "evidence.json"
MANY, MOST = 8, 0.5
"""So many products without the offset by name, of which more than this share has no dark pixel, do carry it."""
LIMIT = 0.1
"""Share of the compared rows that may contradict: metadata and products have single faults."""

SHOWN = 4
"""Different values of a witness in a line; the file has all."""


class Finding(NamedTuple):
    """The answer to one question, and who says so."""

    question: str
    decision: str
    says: dict[str, dict[str, int]]
    """By witness (name, tag, metadata, pixels), what it says and of how many rows or files."""
    compared: int
    """Rows on which two witnesses speak."""
    contradicting: int
    first: str = ""
    """A row that contradicts."""
    remedy: str = ""
    """What to do where too many contradict; empty where that is no reason to stop."""

    @property
    def stops(self) -> bool:
        """Whether so many rows contradict that nothing may be built on the decision."""
        return bool(self.remedy) and self.contradicting > LIMIT * self.compared

    def __str__(self) -> str:
        """In one line: decision, agreement, witnesses."""
        agreeing = self.compared - self.contradicting
        agreement = f"; {agreeing} of {self.compared} agree" if self.compared else ""
        first = f", not {self.first}" if self.first else ""
        witnesses = "; ".join(f"{witness}: {_counts(counts)}" for witness, counts in self.says.items())
        return f"{self.question}: {self.decision}{agreement}{first} ({witnesses})"


class Evidence(NamedTuple):
    """All findings of one archive or bench."""

    subject: str
    """Folder of its files."""
    sample: str
    """What was looked at: `64 of 230 rows`."""
    findings: list[Finding]

    def check(self) -> None:
        """Log what was decided, and warn of what contradicts; GeoladderError where that is too much."""
        for finding in self.findings:
            if finding.stops:
                raise GeoladderError(f"{self.subject}: {finding}. {finding.remedy}")
            level = logging.WARNING if finding.contradicting else logging.INFO
            log.log(level, "%s: %s", self.subject, finding)

    def write(self, index: Path) -> None:
        """Keep it beside the index it is of."""
        content = self._asdict() | {"findings": [finding._asdict() for finding in self.findings]}
        write_json(index.with_name(FILE), content)

    def __str__(self) -> str:
        """A line for each finding."""
        return "\n".join([f"{self.subject}, {self.sample}", *(f"  {finding}" for finding in self.findings)])


def read_evidence(path: Path) -> Evidence | None:
    """What `Evidence.write` wrote; None where there is no such file, GeoladderError where it is something else."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        findings = [Finding(**finding) for finding in content["findings"]]
        return Evidence(str(content["subject"]), str(content["sample"]), findings)
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise GeoladderError(
            f"{path} holds no evidence ({problem!r}); delete it and index the files again"
        ) from None


def counted(values: Sequence[Any]) -> dict[str, int]:
    """How often each value occurs, as text, the commonest first."""
    counts: dict[str, int] = {}
    for value in values:
        counts[str(value)] = counts.get(str(value), 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _counts(counts: dict[str, int]) -> str:
    """The commonest values in words."""
    shown = [f"{value} x {count}" for value, count in list(counts.items())[:SHOWN]]
    return ", ".join(shown + (["..."] if len(counts) > SHOWN else [])) or "nothing"
