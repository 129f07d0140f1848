"""Held-out tests: hide the largest sizes, fit the rest, and see where the hidden runs fall."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from geoladder.scaling.fit.fit import Settings, fit_points
from geoladder.scaling.fit.points import Points, Refusal, read_points
from geoladder.scaling.fit.result import Fit, Status
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
    **roles: Any,  # noqa: ANN401
) -> Held:
    """Hide the largest level of a variable (or, rolling, ever more of them) and predict the next one.

    Table, columns, `y` and `roles` (`seed`, `run`, `planned` ...) are as in `read_points`; `along` is the role whose
    largest levels are hidden. The bootstrap of `settings` makes the prediction interval.
    """
    law = form_of(form)
    whole = read_points(table, law, columns, y, **roles)
    levels = whole.levels[along]
    order = sorted(np.unique(levels), key=lambda k: whole.x[along][levels == k].mean())
    result = Held([], [])
    for cut in range(1, len(order)) if rolling else [len(order) - 1]:
        inside = np.isin(levels, order[:cut])
        top = float(whole.x[along][inside].max())
        try:
            read = read_points(table[inside], law, columns, y, **roles)
            fitted = fit_points(law, read, settings)
            if fitted.status is Status.NOT_IDENTIFIED:
                raise Refusal("; ".join(fitted.identifiability.reasons))
        except Refusal as problem:
            result.skipped.append(f"{along} up to {top:g}: {problem}")
            continue
        result.runs.extend(_predicted(fitted, whole, levels == order[cut], along, top, settings.level))
    return result


def _predicted(
    law: Fit, whole: Points, hidden: np.ndarray, along: str, top: float, level: float
) -> list[HeldOut]:
    """The hidden runs (M,) as a law fitted up to `top` predicts them."""
    x, y = {role: sizes[hidden] for role, sizes in whole.x.items()}, whole.y[hidden]
    centre, (low, high) = law.predict(**x), law.prediction(level, **x)
    sizes, errors = pd.DataFrame(x).to_dict("records"), np.log(centre / y)
    hits, decades = (low <= y) & (y <= high), law.decades_outside(**x)
    columns = (y, centre, errors, low, high, hits, decades)  # as the fields are ordered
    runs = zip(sizes, *(values.tolist() for values in columns), strict=True)
    return [HeldOut(along, top, *run) for run in runs]
