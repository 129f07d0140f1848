"""The study's laws: which runs they are fitted to, what came out, and what a study asks of them, as JSON.

The law in N and D is fitted per architecture on the nested fractions of one corpus alone. Other corpora differ in
kind (seasons, ocean, ice), not only in amount: they are drawn beside the law, never fitted into it. A study's
questions: trends, held-out runs, seeds, other laws, other losses, other architectures.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.report.collect import read_results
from geoladder.report.curves import ARM, curves
from geoladder.runs.atomic import write_json
from geoladder.runs.digest import intact
from geoladder.runs.remake import remake
from geoladder.scaling.compute.allocate import worth_of_decade
from geoladder.scaling.fit import record
from geoladder.scaling.fit.extrapolate import hold_out
from geoladder.scaling.fit.fit import Settings, fit_points
from geoladder.scaling.fit.points import Points, Refusal, read_points
from geoladder.scaling.fit.result import Fit
from geoladder.scaling.fit.trend import trend
from geoladder.scaling.laws.forms import form_of
from geoladder.scaling.laws.loss import Loss
from geoladder.scaling.questions.compare import compare, shared_exponents, verdict
from geoladder.scaling.questions.crossover import crossovers
from geoladder.study.analysis import Fit as FitSettings
from geoladder.text import read_object

LOSS = "val_masked_mse"
FORM = form_of("chinchilla")
CURVE_FORM = form_of("saturating")
FEWEST_LEVELS = 3
RIVALS = ("constant", "product", "chinchilla_tied", "chinchilla")
HELD_OUT = ("chinchilla", "product")
"""Laws tested on hidden runs; of three levels the largest is hidden, and the two left only `product` can use."""
FEWEST_DRAWS = 200
"""Prediction intervals of hidden runs need a bootstrap even where the study asks for none."""
LOSSES = {"log_squared": Loss(), "huber 1e-3": Loss("huber", 1e-3), "squared": Loss("squared")}
COLUMNS = {"n": "n", "d": "d"}
PLANNED = {"n": "size", "d": "fraction"}
"""A fraction keeps a random share of the grid cells, so its pixels differ from seed to seed; its level does not."""


def pretrain_points(results: pd.DataFrame, parameters: str) -> pd.DataFrame:
    """One row per pretraining run: corpus, fraction, architecture, size, seed, n, d, y, fingerprint.

    n are parameters, counted as `parameters` says (`total`, `encoder` or `no_norm`), d unique 10 m pixels, y is
    `val_masked_mse`.
    """
    rows = results[(results.stage == "pretrain") & (results.metric == LOSS) & (results.bucket == "all")]
    points = rows.assign(n=rows[f"parameters_{parameters}"], d=rows.unique_pixels, y=rows.value)
    columns = ["corpus", "fraction", "architecture", "size", "seed", "n", "d", "y", "fingerprint"]
    return points[columns].reset_index(drop=True)


def read_laws(path: Path) -> dict[str, Any]:
    """What `fit_laws` wrote; raises GeoladderError where it is damaged, or holds something else."""
    fitted = read_object(intact(path))
    if missing := {"settings", "corpus", "pretraining", "curves"} - set(fitted):
        raise GeoladderError(f"{path} holds no laws, it lacks {', '.join(sorted(missing))}; {remake(path)}")
    return fitted


def interval_text(ends: Iterable[float | None], digits: str) -> str:
    """An interval as `[low, high]`, its ends formatted by `digits`; an end the data leave open says so."""
    return "[" + ", ".join("open" if end is None else format(end, digits) for end in ends) + "]"


def fit_laws(results: Path, settings: FitSettings, corpus: str, out: Path) -> None:
    """Fit L(N, D) per architecture and error(n) per curve, and answer what a study asks of them.

    The nested fractions of `corpus` are the data axis. `out` is JSON: `settings`, `loss`, `pretraining` by
    architecture (law, null with a `refusal` where the runs cannot carry one; answers; fingerprints of the runs used;
    runs left out, with the reason), `across` architectures, `curves` (by arm and task; no law and a `refusal`
    likewise, as where a run had not settled).
    """
    table = read_results(results)
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
            entry |= {"law": record.to_json(law), "answers": _answers(law, read, used, how)}
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
        "across": _across(fitted, settings.interval),
        "curves": _curve_laws(table),
    }
    write_json(out, report)


def _curve_laws(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Saturating law of the mean curve of each arm and task; few n leave it a description, and the status says so."""
    laws: list[dict[str, Any]] = []
    for names, runs in curves(table).groupby(ARM):
        if runs.n.nunique() < FEWEST_LEVELS:
            continue
        arm = dict(zip(ARM, map(str, names), strict=True))
        entry: dict[str, Any] = {**arm, "metric": TASKS[arm["task"]].error, "law": None, "refusal": None}
        try:
            mean = runs.groupby("n", as_index=False).agg(y=("y", "mean"), settled=("settled", "all"))
            read = read_points(mean, CURVE_FORM, {"n": "n"}, "y")
            entry["law"] = record.to_json(fit_points(CURVE_FORM, read, Settings(bootstrap=0)))
        except Refusal as problem:
            entry["refusal"] = str(problem)
        laws.append(entry)
    return laws


def _answers(fit: Fit, read: Points, table: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """Answers about one law as JSON values by question; a question that cannot be answered holds its reason."""
    quick = replace(settings, bootstrap=0, profile=False)
    blind = replace(quick, bootstrap=max(settings.bootstrap, FEWEST_DRAWS))
    candidates = compare(read, RIVALS, quick)
    answers: dict[str, Any] = {
        "trend": {role: asdict(trend(read, role, settings.level)) for role in read.x},
        "held_out": [
            {"form": form, "along": role}
            | asdict(
                hold_out(table, form, COLUMNS, "y", role, blind, rolling=True, seed="seed", planned=PLANNED)
            )
            for form in HELD_OUT
            for role in read.x
        ],
        "forms": {"verdict": verdict(candidates), "laws": [asdict(law) for law in candidates]},
    }
    if not fit.params:
        return answers
    # E cannot be held at 0 as a logarithm; a billionth of the smallest error is nothing.
    variants = {name: replace(quick, loss=loss) for name, loss in LOSSES.items()}
    variants["E held at 0"] = replace(quick, fixed={"E": 1e-9 * float(read.y.min())})
    centre = {role: float(np.exp(np.log(values).mean())) for role, values in read.x.items()}
    worth = worth_of_decade(fit, centre["n"], centre["d"], settings.level)
    return answers | {
        "lack_of_fit": asdict(fit.criticism) if fit.criticism else {"verdict": "the law is met exactly"},
        "seeds": asdict(fit.variance) if fit.variance else "no cell has more than one seed",
        "sensitivity": {name: fit_points(FORM, read, how).params for name, how in variants.items()},
        "data_worth_of_a_decade_of_parameters": {"at": centre} | asdict(worth),
    }


def _across(fitted: Mapping[str, tuple[Fit, Points]], level: float) -> dict[str, Any]:
    """Answers about several architectures: shared exponents, and where each pair crosses along n and d."""
    usable = {name: pair for name, pair in fitted.items() if pair[0].params}
    if len(usable) < 2:
        return {"shared_exponents": None, "crossovers": []}
    points = {name: read for name, (_, read) in usable.items()}
    crossings = crossovers({name: fit for name, (fit, _) in usable.items()}, level)
    return {
        "shared_exponents": _or_reason(lambda: shared_exponents("chinchilla", points, level)),
        "crossovers": crossings,
    }


def _or_reason(answer: Callable[[], Any]) -> dict[str, Any] | str:
    """An answer as JSON values, or why the runs carry none."""
    try:
        return asdict(answer())
    except Refusal as problem:
        return str(problem)
