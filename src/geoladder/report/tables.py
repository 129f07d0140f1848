"""Tables of a study: its cells, its curves, and what pretraining changed."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from geoladder.report.collect import read_results
from geoladder.report.curves import ARM, curves, pretraining_effect
from geoladder.report.error_law import error_law
from geoladder.report.external import external_arms
from geoladder.report.fit_report import fit_report
from geoladder.report.linear_effect import CELL as HEADS
from geoladder.report.linear_effect import linear_effect, subset_errors
from geoladder.report.rivals import POINT, judged, marked
from geoladder.runs.atomic import atomic_path

CELL = ["corpus", "fraction", "architecture", "size"]
LAW = [
    "architecture", "parameter", "value", "profile_low", "profile_high", "bootstrap_low", "bootstrap_high",
    "status", "verdict", "runs",
]  # fmt: skip


def write_tables(results: Path, laws: Path, out: Path) -> None:
    """From results.csv and laws.json write tables into the folder `out`.

    These are `fit_report.md`, then `curves`, `pretraining_effect`, `linear_effect`, `error_law`, `laws`, `external`
    and, last, `cells`, each in the forms of `write_table`. Rows of the first three that a predictor without a network
    beats say so.
    """
    table, fitted = read_results(results), json.loads(laws.read_text())
    with atomic_path(out / "fit_report.md") as path:
        path.write_text(fit_report(table, fitted))
    for name, content in (
        ("curves", judged(_curves(table), table)),
        ("pretraining_effect", marked(pretraining_effect(table), curves(table), table, POINT)),
        ("linear_effect", marked(linear_effect(table), subset_errors(table), table, [*HEADS, "n"])),
        ("error_law", error_law(table)),
        ("laws", _laws(fitted)),
        ("external", external_arms(table)),
        ("cells", _cells(table)),
    ):
        write_table(content, out / name)


def write_table(table: pd.DataFrame, stem: Path) -> None:
    """Write a table as `stem`.csv, unrounded and last, and as .md and .tex (booktabs) in four digits."""
    gaps = table.astype(object).where(table.notna(), None)  # NaN would be printed
    forms = {
        ".tex": table.to_latex(index=False, escape=True, float_format="%.4g", na_rep=""),
        ".md": gaps.to_markdown(index=False, floatfmt=".4g", missingval="") + "\n",
        ".csv": table.to_csv(index=False),
    }
    for suffix, text in forms.items():
        with atomic_path(stem.with_suffix(suffix)) as path:
            path.write_text(text)


def _cells(table: pd.DataFrame) -> pd.DataFrame:
    """Pretraining cells: mean and standard deviation of every metric over the seeds."""
    rows = table[(table.stage == "pretrain") & (table.bucket == "all")]
    facts = rows.groupby(CELL, sort=False)[["parameters_total", "unique_pixels", "samples_seen"]].mean()
    seeds = rows.groupby(CELL, sort=False).seed.nunique().rename("seeds")
    values = rows.pivot_table(
        index=CELL, columns="metric", values="value", aggfunc=["mean", "std"], sort=False
    )
    values.columns = pd.Index(values.columns.map(lambda names: f"{names[1]}_{names[0]}"))
    return facts.join(seeds).join(values).reset_index()


def _curves(table: pd.DataFrame) -> pd.DataFrame:
    """Test error by arm and n over the seeds: mean, standard deviation, smallest, largest.

    Beside them how many had settled, and how many had learnt anything beyond the mean of the training labels.
    """
    arms = curves(table).groupby([*ARM, "n"])
    errors = arms.y.agg(mean="mean", std="std", min="min", max="max", seeds="size")
    return errors.join(arms[["settled", "learnt"]].sum()).reset_index()


def _laws(fitted: dict[str, Any]) -> pd.DataFrame:
    """Fitted parameters with their intervals, one row each; an open end of an interval is empty."""
    rows = []
    for architecture, entry in fitted["pretraining"].items():
        law = entry["law"] or {"params": {}}
        for name, value in law["params"].items():
            profile, bootstrap = (
                law["intervals"].get(kind, {}).get(name, (None, None)) for kind in ("profile", "bootstrap")
            )
            verdict = (law["status"], law["identifiability"]["verdict"])
            rows.append((architecture, name, value, *profile, *bootstrap, *verdict, entry["runs"]))
    return pd.DataFrame(rows, columns=LAW)
