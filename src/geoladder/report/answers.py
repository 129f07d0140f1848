"""What a study asks of its laws: trends, held-out runs, seeds, other laws, other losses, other architectures."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from geoladder.scaling.fit.extrapolate import hold_out
from geoladder.scaling.fit.fit import Settings, fit_points
from geoladder.scaling.fit.points import Points, Refusal
from geoladder.scaling.fit.result import Fit
from geoladder.scaling.fit.trend import components, lack_of_fit, trend
from geoladder.scaling.laws.forms import form_of
from geoladder.scaling.laws.loss import Loss
from geoladder.scaling.questions.compare import compare, shared_exponents, verdict
from geoladder.scaling.questions.crossover import crossovers
from geoladder.scaling.questions.frontier import worth_of_decade

FORMS = ("constant", "product", "chinchilla_tied", "chinchilla")
HELD_OUT = ("chinchilla", "product")
"""Laws tested on hidden runs; of three levels the largest is hidden, and the two left only `product` can use."""
FEWEST_DRAWS = 200
"""Prediction intervals of hidden runs need a bootstrap even where the study asks for none."""
LOSSES = {"log_squared": Loss(), "huber 1e-3": Loss("huber", 1e-3), "squared": Loss("squared")}
COLUMNS = {"n": "n", "d": "d"}
PLANNED = {"n": "size", "d": "fraction"}
"""A fraction keeps a random share of the grid cells, so its pixels differ from seed to seed; its level does not."""


def per_law(fit: Fit, read: Points, table: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """Answers for one architecture as JSON values by question; one that cannot be answered holds its reason as text.

    The law was fitted with `settings` to the runs `read`; `table` has the same runs with `n`, `d`, `y`, `seed`,
    `size` and `fraction`.
    """
    quick = replace(settings, bootstrap=0, profile=False)
    blind = replace(quick, bootstrap=max(settings.bootstrap, FEWEST_DRAWS))
    candidates = compare(read, FORMS, quick)
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
        "lack_of_fit": asdict(lack_of_fit(fit, read, settings.level)),
        "seeds": _or_reason(lambda: components(fit, read)),
        "sensitivity": {
            name: fit_points(form_of(fit.form), read, how).params for name, how in variants.items()
        },
        "data_worth_of_a_decade_of_parameters": {"at": centre} | asdict(worth),
    }


def across(fitted: Mapping[str, tuple[Fit, Points]], level: float) -> dict[str, Any]:
    """Answers about several architectures: shared exponents, and where each pair crosses along n and d."""
    usable = {name: pair for name, pair in fitted.items() if pair[0].params}
    if len(usable) < 2:
        return {"shared_exponents": None, "crossovers": []}
    points = {name: read for name, (_, read) in usable.items()}
    crossings = crossovers({name: fit for name, (fit, _) in usable.items()}, level)
    return {
        "shared_exponents": _or_reason(lambda: shared_exponents("chinchilla", points, level)),
        "crossovers": [{"first": a, "second": b, **asdict(c)} for a, b, c in crossings],
    }


def _or_reason(answer: Callable[[], Any]) -> dict[str, Any] | str:
    """An answer as JSON values, or why the runs carry none."""
    try:
        return asdict(answer())
    except Refusal as problem:
        return str(problem)
