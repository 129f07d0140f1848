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
from geoladder.report.curves import curves
from geoladder.runs.atomic import write_json
from geoladder.scaling.fit import record
from geoladder.scaling.fit.fit import Settings, fit_points
from geoladder.scaling.fit.points import Points, Refusal, read_points
from geoladder.scaling.fit.result import Fit
from geoladder.scaling.laws.forms import form_of
from geoladder.study.analysis import Fit as FitSettings

LOSS = "val_masked_mse"
FORM = "chinchilla"
FEWEST_LEVELS = 3
PIXELS_PER_MEGAPIXEL = 1_000_000
POINT = ["corpus", "fraction", "architecture", "size", "seed", "n", "d", "y", "fingerprint"]


def pretrain_points(results: pd.DataFrame, parameters: str) -> pd.DataFrame:
    """One row per pretraining run.

    Args:
        results: results.csv.
        parameters: how N is counted: `total`, `encoder` or `no_norm`.

    Returns:
        `POINT` columns: n are parameters, d unique 10 m pixels, y is `val_masked_mse`.
    """
    rows = results[(results.stage == "pretrain") & (results.metric == LOSS) & (results.bucket == "all")]
    points = rows.assign(n=rows[f"parameters_{parameters}"], d=rows.unique_pixels, y=rows.value)
    return points[POINT].reset_index(drop=True)


def interval_text(ends: Iterable[float | None], digits: str) -> str:
    """An interval as `[low, high]`, its ends formatted by `digits`; an end the data leave open says so."""
    return "[" + ", ".join("open" if end is None else format(end, digits) for end in ends) + "]"


def fit_laws(results: Path, settings: FitSettings, corpus: str, out: Path) -> None:
    """Fit L(N, D) per architecture and error(n) per curve, and answer what a study asks of them.

    Args:
        results: results.csv.
        settings: how N is counted, bootstrap, interval, seed.
        corpus: the corpus whose nested fractions are the data axis.
        out: JSON: `settings`, `loss`, `pretraining` by architecture (law, null with a `refusal` where the runs cannot
            carry one; answers; fingerprints of the runs used; runs left out, with the reason), `across`
            architectures, `curves`.
    """
    table = pd.read_csv(results)
    points = pretrain_points(table, settings.parameters)
    chosen = Settings(bootstrap=settings.bootstrap, level=settings.interval, rng=settings.seed)
    laws: dict[str, Any] = {}
    fitted: dict[str, tuple[Fit, Points]] = {}
    for architecture, rows in points.groupby("architecture", sort=False):
        used = rows[rows.corpus == corpus]
        law, answers, refusal = None, None, None
        try:
            read = read_points(used, form_of(FORM), COLUMNS, "y", seed="seed", planned=PLANNED)
            law_fit = fit_points(form_of(FORM), read, chosen)
            fitted[str(architecture)] = (law_fit, read)
            law, answers = record.to_json(law_fit), per_law(law_fit, read, used, chosen)
        except Refusal as problem:
            refusal = str(problem)
        laws[str(architecture)] = {
            "law": law,
            "refusal": refusal,
            "answers": answers,
            "runs": len(used),
            "used": used.fingerprint.tolist(),
            "left_out": [
                {"fingerprint": run, "reason": f"{other} is another archive, not a share of {corpus}"}
                for run, other in rows.loc[rows.corpus != corpus, ["fingerprint", "corpus"]].to_numpy()
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
    mean = curves(table).groupby(["task", "corpus", "architecture", "size", "n"], as_index=False).y.mean()
    laws: list[dict[str, Any]] = []
    for names, rows in mean.groupby(["task", "corpus", "architecture", "size"]):
        if rows.n.nunique() < FEWEST_LEVELS:
            continue
        arm = dict(zip(("task", "corpus", "architecture", "size"), map(str, names), strict=True))
        form = form_of("saturating")
        read = read_points(pd.DataFrame(rows), form, {"n": "n"}, "y")
        law = record.to_json(fit_points(form, read, Settings(bootstrap=0)))
        laws.append({**arm, "metric": TASKS[arm["task"]].error, "law": law})
    return laws
