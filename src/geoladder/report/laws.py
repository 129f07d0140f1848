"""The study's laws: which runs they are fitted to, and what came out, as JSON.

The law in N and D is fitted per architecture on the nested fractions of one corpus alone. Other corpora differ in
kind (seasons, ocean, ice), not only in amount: they are drawn beside the law, never fitted into it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from geoladder.registry import TASKS
from geoladder.report.answers import COLUMNS, PLANNED, across, per_law
from geoladder.report.curves import ARM, curves
from geoladder.runs.atomic import write_json
from geoladder.scaling.fit import record
from geoladder.scaling.fit.fit import Settings, fit_points
from geoladder.scaling.fit.points import Points, Refusal, read_points
from geoladder.scaling.fit.result import Fit
from geoladder.scaling.laws.forms import form_of
from geoladder.study.analysis import Fit as FitSettings

LOSS = "val_masked_mse"
FORM = form_of("chinchilla")
CURVE_FORM = form_of("saturating")
FEWEST_LEVELS = 3


def pretrain_points(results: pd.DataFrame, parameters: str) -> pd.DataFrame:
    """One row per pretraining run: corpus, fraction, architecture, size, seed, n, d, y, fingerprint.

    n are parameters, counted as `parameters` says (`total`, `encoder` or `no_norm`), d unique 10 m pixels, y is
    `val_masked_mse`.
    """
    rows = results[(results.stage == "pretrain") & (results.metric == LOSS) & (results.bucket == "all")]
    points = rows.assign(n=rows[f"parameters_{parameters}"], d=rows.unique_pixels, y=rows.value)
    columns = ["corpus", "fraction", "architecture", "size", "seed", "n", "d", "y", "fingerprint"]
    return points[columns].reset_index(drop=True)


def interval_text(ends: Iterable[float | None], digits: str) -> str:
    """An interval as `[low, high]`, its ends formatted by `digits`; an end the data leave open says so."""
    return "[" + ", ".join("open" if end is None else format(end, digits) for end in ends) + "]"


def fit_laws(results: Path, settings: FitSettings, corpus: str, out: Path) -> None:
    """Fit L(N, D) per architecture and error(n) per curve, and answer what a study asks of them.

    The nested fractions of `corpus` are the data axis. `out` is JSON: `settings`, `loss`, `pretraining` by
    architecture (law, null with a `refusal` where the runs cannot carry one; answers; fingerprints of the runs used;
    runs left out, with the reason), `across` architectures, `curves`.
    """
    table = pd.read_csv(results)
    points = pretrain_points(table, settings.parameters)
    how = Settings(bootstrap=settings.bootstrap, level=settings.interval, rng=settings.seed)
    laws: dict[str, dict[str, Any]] = {}
    fitted: dict[str, tuple[Fit, Points]] = {}
    for name, rows in points.groupby("architecture", sort=False):
        used, others = rows[rows.corpus == corpus], rows[rows.corpus != corpus]
        entry = laws[str(name)] = {"law": None, "refusal": None, "answers": None}
        try:
            read = read_points(used, FORM, COLUMNS, "y", seed="seed", planned=PLANNED)
            law = fit_points(FORM, read, how)
            fitted[str(name)] = (law, read)
            entry |= {"law": record.to_json(law), "answers": per_law(law, read, used, how)}
        except Refusal as problem:
            entry["refusal"] = str(problem)
        entry |= {
            "runs": len(used),
            "used": used.fingerprint.tolist(),
            "left_out": [
                {"fingerprint": run, "reason": f"{other} is another archive, not a share of {corpus}"}
                for run, other in zip(others.fingerprint, others.corpus, strict=True)
            ],
        }
    report = {
        "settings": settings.model_dump(),
        "loss": LOSS,
        "corpus": corpus,
        "pretraining": laws,
        "across": across(fitted, settings.interval),
        "curves": _curve_laws(table),
    }
    write_json(out, report)


def _curve_laws(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Saturating law of the mean curve of each arm and task; few n leave it a description, and the status says so."""
    mean = curves(table).groupby([*ARM, "n"], as_index=False).y.mean()
    laws: list[dict[str, Any]] = []
    for names, rows in mean.groupby(ARM):
        if rows.n.nunique() >= FEWEST_LEVELS:
            read = read_points(pd.DataFrame(rows), CURVE_FORM, {"n": "n"}, "y")
            law = record.to_json(fit_points(CURVE_FORM, read, Settings(bootstrap=0)))
            arm = dict(zip(ARM, map(str, names), strict=True))
            laws.append({**arm, "metric": TASKS[arm["task"]].error, "law": law})
    return laws
