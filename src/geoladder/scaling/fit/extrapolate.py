"""Held-out tests: hide the largest sizes, fit the rest, and see where the hidden runs fall."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geoladder.scaling.fit.fit import Settings, fit_points
from geoladder.scaling.fit.points import Refusal, read_points
from geoladder.scaling.fit.result import Status
from geoladder.scaling.laws.forms import form_of


@dataclass(frozen=True)
class HeldOut:
    """One hidden run.

    Attributes:
        variable: whose largest levels were hidden.
        fitted_to: largest value left in.
        x: sizes of the hidden run.
        y: its error.
        predicted: by the law.
        error: signed, log(predicted / y): positive where the law is too pessimistic.
        low: lower end of the prediction interval.
        high: upper end.
        hit: whether y lies inside.
        decades: how far outside the fitted range it lies.
    """

    variable: str
    fitted_to: float
    x: dict[str, float]
    y: float
    predicted: float
    error: float
    low: float
    high: float
    hit: bool
    decades: float


@dataclass(frozen=True)
class Held:
    """Held-out runs of one law, and the cuts at which nothing could be fitted, with the reason."""

    runs: list[HeldOut]
    skipped: list[str]


def hold_out(
    table: pd.DataFrame,
    form: str,
    columns: Mapping[str, str],
    y: str,
    along: str,
    settings: Settings,
    *,
    rolling: bool = False,
    seed: str | None = None,
    planned: Mapping[str, str] | None = None,
) -> Held:
    """Hide the largest level of a variable (or, rolling, ever more of them) and predict the next one.

    Args:
        table: one row per run.
        form: name of the law.
        columns: column of each role.
        y: column of the error.
        along: role whose largest levels are hidden.
        settings: how to fit; its bootstrap makes the prediction interval.
        rolling: predict every level from those below it; else only the largest.
        seed: column of seeds.
        planned: column with the planned level of a variable that wobbles about its plan.
    """
    law = form_of(form)
    whole = read_points(table, law, columns, y, seed=seed, planned=planned)
    levels = whole.levels[along]
    order = sorted(np.unique(levels), key=lambda k: whole.x[along][levels == k].mean())
    hidden_runs: list[HeldOut] = []
    skipped: list[str] = []
    for cut in range(1, len(order)) if rolling else [len(order) - 1]:
        inside, target = np.isin(levels, order[:cut]), levels == order[cut]
        top = float(whole.x[along][inside].max())
        try:
            read = read_points(table[inside], law, columns, y, seed=seed, planned=planned)
        except Refusal as problem:
            skipped.append(f"{along} up to {top:g}: {problem}")
            continue
        fitted = fit_points(law, read, settings)
        if fitted.status is Status.NOT_IDENTIFIED:
            skipped.append(f"{along} up to {top:g}: {'; '.join(fitted.identifiability.reasons)}")
            continue
        hidden = {role: values[target] for role, values in whole.x.items()}
        centre = fitted.predict(**hidden)
        low, high = fitted.prediction(settings.level, **hidden)
        decades = fitted.decades_outside(**hidden)
        for k, actual in enumerate(whole.y[target]):
            hidden_runs.append(
                HeldOut(
                    along,
                    top,
                    {role: float(values[k]) for role, values in hidden.items()},
                    float(actual),
                    float(centre[k]),
                    float(np.log(centre[k] / actual)),
                    float(low[k]),
                    float(high[k]),
                    bool(low[k] <= actual <= high[k]),
                    float(decades[k]),
                )
            )
    return Held(hidden_runs, skipped)
