"""What studies keep in a project's folder, so that several may live there: all of it is written under the lock.

Of each study the snapshot that queued jobs read, under a name made from its content, and its ledger: the results it
is made of. Of all of them which one made which files: none overwrites what another made.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path, write_json
from geoladder.runs.remake import remake
from geoladder.study.load import parse_study
from geoladder.study.study import Study


def named_by(text: str) -> str:
    """Twelve hexadecimal digits for a file's text, to name the file by."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def as_ledger(fingerprints: dict[str, str]) -> str:
    """Text of a ledger: JSON of the fingerprint that each result file must carry."""
    return json.dumps(fingerprints, indent=0, sort_keys=True)


def check_collected(table: Path, ledger: dict[str, str]) -> None:
    """Make sure that a table of results, of which Snakemake remembers nothing, was collected by this ledger.

    Beside it lies the ledger it was collected by. Raises GeoladderError where that is another one; names the results
    that must be made again, and the command.
    """
    try:
        collected = json.loads(table.with_name("ledger.json").read_text()) if table.exists() else ledger
    except (OSError, ValueError):
        collected = None
    if collected != ledger:
        stale = [
            file
            for file, fingerprint in ledger.items()
            if _fingerprint(Path(file)) not in (None, fingerprint)
        ]
        again = [Path(file) for file in stale or [str(table)]]
        raise GeoladderError(
            f"{table} was collected for another configuration, which also made {len(stale)} of this one's results, "
            f"and Snakemake's memory of that was lost; {remake(*again)}"
        )


def _fingerprint(result: Path) -> str | None:
    """The one that a result carries; None where there is none."""
    try:
        return str(json.loads(result.read_text())["fingerprint"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_once(file: Path, text: str) -> None:
    """Write a file whose name is made from its text, unless it is there."""
    if not file.exists():
        with atomic_path(file, sealed=False) as temporary:
            temporary.write_text(text)


def thaw(file: Path) -> Study:
    """A frozen study; raises GeoladderError where `file` is none."""
    try:
        raw = json.loads(file.read_text())
    except (OSError, ValueError) as problem:
        raise GeoladderError(f"{file} holds no frozen study ({problem}); run snakemake again") from None
    return parse_study(raw, str(file))


def study_name(file: Path) -> str:
    """A study as records name it: its file from the current folder, whatever links lead there."""
    return os.path.relpath(os.path.realpath(file))


def claim_outputs(record: Path, study: str, outputs: Iterable[str]) -> None:
    """Write down in the JSON `record` that the study of this file makes these outputs.

    Raises GeoladderError, and writes nothing, where one of them is there and another study of this folder made it.
    A study whose file is gone was renamed; what it made belongs to the one that is there.
    """
    makers, new = _read(record), set(outputs)
    for maker, files in makers.items():
        taken = sorted(file for file in new.intersection(files) if Path(file).exists())
        if taken and maker != study and Path(maker).exists():
            more = f" and {len(taken) - 1} more of its files" if taken[1:] else ""
            raise GeoladderError(
                f"{study} would overwrite {taken[0]}{more}, made by the study {maker}. Keep them apart: run one in a "
                "folder of its own (--directory FOLDER), or, if they differ in results alone, give one "
                f"`results: results/NAME` (docs/studies.md). If {study} is to replace it, delete {record}"
            )
    made = {maker: files - new for maker, files in makers.items()}
    made[study] = new.union(made.get(study, ()))
    write_json(record, {maker: sorted(files) for maker, files in made.items()}, sealed=False)


def _read(record: Path) -> dict[str, set[str]]:
    """What each study made, by the study's file; empty where nothing readable is there."""
    try:
        return {maker: set(files) for maker, files in json.loads(record.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
