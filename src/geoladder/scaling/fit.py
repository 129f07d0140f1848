"""Fitting a law to points: one call in, parameters, intervals and a verdict out.

The fit minimises squared residuals of log y. Intervals come from a residual bootstrap: log residuals, inflated by
sqrt(M / (M - P)) for the parameters spent, are dealt anew to the fitted points. On small designed grids with few
seeds it covers better than resampling runs, which forgets that every cell of the grid was planned.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from geoladder.errors import GeoladderError
from geoladder.scaling.forms import FORMS, Array, Form
from geoladder.scaling.solve import bounds, refine, starts

Status = Literal["converged", "at_bound", "not_identified"]
SAME_OPTIMUM = 1e-6
MIN_LEVELS = 3
"""E, a coefficient and an exponent need three values of a variable to be told apart."""


@dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes:
        form: the law's name.
        equation: for people.
        status: `converged`; `at_bound` (a parameter rests on a bound: its value is a limit, not an estimate);
            `not_identified` (the design cannot tell the parameters apart: see `reasons`).
        reasons: why the status is not `converged`, and what to beware of.
        params: by name, in the units of the data.
        objective: sum of squared log residuals.
        intervals: `{"bootstrap": {name: (low, high)}}`; empty when no bootstrap was asked for.
        n_points: points used.
        levels: distinct values of each variable, or planned levels where the design names them.
        starts: number of starts of the global search.
        reached: share of them that ended at the optimum.
        resamples: bootstrap parameters by name, (R,) each, for bands.
    """

    form: str
    equation: str
    status: Status
    reasons: list[str]
    params: dict[str, float]
    objective: float
    intervals: dict[str, dict[str, tuple[float, float]]]
    n_points: int
    levels: dict[str, int]
    starts: int
    reached: float
    resamples: dict[str, list[float]]

    def predict(self, **variables: Array) -> Array:
        """Y at given values of the law's variables (`n=`, `d=`)."""
        return evaluate(FORMS[self.form], {k: np.array([v]) for k, v in self.params.items()}, variables)[0]

    def band(self, level: float = 0.95, **variables: Array) -> tuple[Array, Array]:
        """Pointwise bootstrap interval of the law (not of a new run); raises GeoladderError without a bootstrap."""
        if not self.resamples:
            raise GeoladderError("this fit has no bootstrap; fit again with fit.bootstrap above 0")
        drawn = {name: np.array(values) for name, values in self.resamples.items()}
        curves = evaluate(FORMS[self.form], drawn, variables)
        low, high = np.quantile(curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high


def evaluate(form: Form, params: dict[str, Array], variables: dict[str, Array]) -> Array:
    """The law for R sets of parameters, (R,) each, at M values of its variables, (M,) each: (R, M)."""
    total = params["E"][:, None]
    for role, coefficient, exponent in zip(form.variables, form.coefficients, form.exponents, strict=True):
        total = (
            total + params[coefficient][:, None] * np.asarray(variables[role]) ** -params[exponent][:, None]
        )
    return total


def fit(
    points: pd.DataFrame,
    form: str = "chinchilla",
    *,
    n: str = "n",
    d: str = "d",
    y: str = "y",
    levels: dict[str, str] | None = None,
    bootstrap: int = 400,
    interval: float = 0.95,
    rng: int = 42,
) -> Fit:
    """Fit a law by least squares on log residuals.

    Args:
        points: one row per run.
        form: `chinchilla` or `saturating`.
        n: column of the first variable.
        d: column of the second variable, where the form has one.
        y: column of the error.
        levels: column that names the planned level of a variable (`{"d": "fraction"}`), for a variable that wobbles
            about its plan; without it, distinct values count.
        bootstrap: resamples; 0 for none.
        interval: level of the intervals.
        rng: seed of the bootstrap.

    Raises:
        GeoladderError: unknown form, missing columns, values that are not positive, or too few points.
    """
    law = _form(form)
    columns = dict(zip(law.variables, (n, d), strict=False))
    planned = {**columns, **(levels or {})}
    x, values = _checked(points, list(columns.values()), y, law)
    _has_columns(points, planned.values())
    centre = np.log(x).mean(axis=1)
    log_x = np.log(x) - centre[:, None]
    low, high = bounds(law, values)
    tried, costs = refine(law, starts(law, log_x, values), log_x, np.log(values), low, high)
    best = tried[[costs.argmin()]]
    reached = float((costs <= costs.min() * (1 + SAME_OPTIMUM) + 1e-15).mean())
    counted = {role: int(points[planned[role]].nunique()) for role in law.variables}
    status, reasons = _verdict(law, best[0], low, high, counted, len(values))
    resamples = {}
    if bootstrap and len(values) > len(law.parameters):
        drawn = _resampled(law, best, log_x, np.log(values), bootstrap, rng)
        again, _ = refine(law, np.repeat(best, bootstrap, axis=0), log_x, drawn, low, high)
        resamples = {name: row.tolist() for name, row in law.named(again, centre).items()}
    tails = [(1 - interval) / 2, (1 + interval) / 2]
    limits = {name: tuple(np.quantile(row, tails).tolist()) for name, row in resamples.items()}
    return Fit(
        form=law.name,
        equation=law.equation,
        status=status,
        reasons=reasons,
        params={name: float(value[0]) for name, value in law.named(best, centre).items()},
        objective=float(costs.min()),
        intervals={"bootstrap": limits} if limits else {},
        n_points=len(values),
        levels=counted,
        starts=len(costs),
        reached=reached,
        resamples=resamples,
    )


def from_dict(raw: dict[str, Any]) -> Fit:
    """A fit read back from JSON."""
    return Fit(**raw)


def _form(name: str) -> Form:
    if name not in FORMS:
        raise GeoladderError(f"unknown law '{name}'; allowed are: {', '.join(FORMS)}")
    return FORMS[name]


def _has_columns(points: pd.DataFrame, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in points]
    if missing:
        raise GeoladderError(
            f"no column {', '.join(missing)}; there are: {', '.join(map(str, points.columns))}"
        )


def _checked(points: pd.DataFrame, variables: list[str], y: str, law: Form) -> tuple[Array, Array]:
    _has_columns(points, (*variables, y))
    numbers = points[[*variables, y]].to_numpy(dtype=np.float64)
    bad = ~np.isfinite(numbers) | (numbers <= 0)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        name = [*variables, y][column]
        raise GeoladderError(
            f"row {row}: {name} is {numbers[row, column]}; sizes and errors must be positive numbers"
        )
    if len(numbers) < len(law.variables) + 2:
        raise GeoladderError(f"{len(numbers)} points are too few for {law.equation}")
    return numbers[:, :-1].T, numbers[:, -1]


def _verdict(
    law: Form, theta: Array, low: Array, high: Array, levels: dict[str, int], points: int
) -> tuple[Status, list[str]]:
    reasons = [
        f"{role} takes {count} values; E, {law.coefficients[k]} and {law.exponents[k]} need at least {MIN_LEVELS}"
        for k, (role, count) in enumerate(levels.items())
        if count < MIN_LEVELS
    ]
    if points <= len(law.parameters):
        reasons.append(
            f"{points} points for {len(law.parameters)} parameters: the curve passes through the noise"
        )
    if reasons:
        return "not_identified", reasons
    resting = [
        f"{name} rests on its bound"
        for name, value, floor, ceiling in zip(law.parameters, theta, low, high, strict=True)
        if value <= floor + 1e-9 or value >= ceiling - 1e-9
    ]
    return ("at_bound", resting) if resting else ("converged", [])


def _resampled(law: Form, best: Array, log_x: Array, log_y: Array, count: int, rng: int) -> Array:
    """(count, M) logarithms of resampled errors."""
    fitted = np.log(law.terms(best, log_x).sum(axis=1))[0]
    points, parameters = len(log_y), len(law.parameters)
    residual = (log_y - fitted) * np.sqrt(points / (points - parameters))
    which = np.random.default_rng(rng).integers(points, size=(count, points))
    return fitted + (residual - residual.mean())[which]
