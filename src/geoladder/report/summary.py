"""The end of a study in a few lines of plain text: what its tables say, and where everything is."""

from pathlib import Path
from typing import Any

import pandas as pd

from geoladder.errors import GeoladderError
from geoladder.registry import ARCHITECTURES, TASKS
from geoladder.report.laws import interval_text, read_laws
from geoladder.runs.digest import intact

WORDS = {"n": "parameters", "d": "unique data"}
SHOWN = 3
"""Gates that are named where they failed."""


def summary(folder: Path) -> str:
    """What the results folder of a study says: laws, effects of pretraining, gates, and where files are.

    Raises:
        GeoladderError: the folder has no fitted laws, so the study has not got to its figures.
    """
    laws = folder / "fits/laws.json"
    if not laws.is_file():
        raise GeoladderError(
            f"{laws} is missing: the study has not been run to its fits; run snakemake first"
        )
    lines = [
        *_laws(read_laws(laws)),
        *_effects(folder / "tables/linear_effect.csv", "Linear heads on a frozen encoder"),
        *_effects(folder / "tables/pretraining_effect.csv", "Fine-tuning"),
        *_error_law(folder / "tables/error_law.csv"),
        *_gates(folder / "tables/synthetic_gates.csv"),
        *_age(folder / "tables", folder / "results.csv"),
        *_places(folder),
    ]
    return "\n".join(lines)


def _age(tables: Path, results: Path) -> list[str]:
    """That tables were written before the results, where they were: a run may be asked for figures alone."""
    files = (tables / "cells.csv", results)
    if not all(file.is_file() for file in files) or files[0].stat().st_mtime >= files[1].stat().st_mtime:
        return []
    return [
        f"{tables} is older than {results}, so it may be of an earlier state of the study: run snakemake --cores all"
    ]


def _laws(fitted: dict[str, Any]) -> list[str]:
    """A line for each architecture: trends of its loss, and how much its law is worth."""
    lines = []
    for name, entry in fitted["pretraining"].items():
        title = ARCHITECTURES[name].title if name in ARCHITECTURES else name
        if entry["law"] is None:
            lines.append(f"{title}: no law, {entry['refusal']}")
            continue
        trends = [
            f"{trend['direction']} with {WORDS[role]} (slope {trend['slope']:.3f} "
            f"{interval_text((trend['low'], trend['high']), '.3f')})"
            for role, trend in entry["answers"]["trend"].items()
        ]
        verdict = entry["law"]["identifiability"]["verdict"]
        lines.append(f"{title}: pretraining loss {', '.join(trends)}; the law is {verdict}")
    return lines


def _effects(path: Path, what: str) -> list[str]:
    """A line for each task: in how many comparisons pretraining helped or hurt, and the largest gain."""
    if not path.is_file():
        return []
    table = pd.read_csv(intact(path), keep_default_na=False, na_values=[""])
    lines = []
    for task, rows in table.groupby("task"):
        helped, hurt = rows[rows.high < 0], rows[rows.low > 0]
        line = f"{what}, {TASKS[str(task)].title.lower()}: by 95 % intervals pretraining helped in {len(helped)} and "
        line += f"hurt in {len(hurt)} of {len(rows.dropna(subset=['low', 'high']))} comparisons"
        if len(helped):
            best = helped.sort_values("effect").iloc[0]
            line += (
                f"; most {best.architecture}-{best['size']} from {best.corpus}, n={best.n:g}: {best.effect:+.4f} "
                f"{interval_text((best.low, best.high), '.4f')} {TASKS[str(task)].error}"
            )
        lines.append(line)
    return lines


def _error_law(path: Path) -> list[str]:
    """Whether the error under linear heads follows pretraining loss, by family and task."""
    if not path.is_file() or (table := pd.read_csv(intact(path))).empty:
        return []
    counts = table.verdict.value_counts()
    words = ", ".join(f"{verdict} in {count}" for verdict, count in counts.items())
    return [f"Downstream error against pretraining loss, {len(table)} families, tasks and n: {words}"]


def _gates(path: Path) -> list[str]:
    if not path.is_file():
        return []
    gates = pd.read_csv(intact(path))
    failed = (gates.gate + " (" + gates.subject + ")")[~gates.passed].tolist()
    more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    words = f"; failed: {', '.join(failed[:SHOWN])}{more}" if failed else ""
    return [f"Checks of the synthetic Earth: {gates.passed.sum()} of {len(gates)} passed{words}"]


def _places(folder: Path) -> list[str]:
    """Where files are, as many as there are."""
    kinds = {"figures": "*.pdf", "tables": "*.csv"}
    counts = {kind: len(list((folder / kind).glob(pattern))) for kind, pattern in kinds.items()}
    listed = [f"{count} {kind} in {folder / kind}" for kind, count in counts.items() if count]
    return ["; ".join([*listed, f"every number: {folder / 'results.csv'}"])]
