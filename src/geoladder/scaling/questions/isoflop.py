"""IsoFLOP curves: the best size at each budget without any law, and how it grows with the budget.

The symmetry of a parabola biases exponents where the sizes are off centre; prefer the law fitted to all runs.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from geoladder.errors import GeoladderError
from geoladder.scaling.fit.points import Refusal
from geoladder.scaling.laws.curves import Array

DRAWS = 2000
"""Parabolas drawn from the scatter about each curve."""
ONE_SD = stats.norm.cdf([-1, 1])


@dataclass(frozen=True)
class Minimum:
    """The minimum of one isoFLOP curve: n parameters with the error y, by a parabola through so many points (runs).

    Attributes:
        low: lower end of the interval of n; None where open, or where only three sizes were run.
        high: upper end.
        sd_log: standard deviation of log n (half the central 68 %); None without an interval.
        inside: whether the minimum lies inside the sizes run; else it is an extrapolation.
    """

    flops: float
    n: float
    low: float | None
    high: float | None
    sd_log: float | None
    y: float
    points: int
    inside: bool


@dataclass(frozen=True)
class Line:
    """y = coefficient x^slope by least squares in logarithms, with the interval of the slope (None: two points)."""

    slope: float
    coefficient: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class IsoFlop:
    """Minima by budget, and the line n = coefficient C^slope through those inside the sizes run, if there are two."""

    minima: list[Minimum]
    line: Line | None


def isoflop(
    table: pd.DataFrame, flops: str, n: str, y: str, *, level: float = 0.95, rng: int = 42
) -> IsoFlop:
    """Fit a parabola of y in log n to the runs of each budget (Hoffmann et al. 2022, approach 2).

    Budgets with fewer than three sizes, or whose curve opens downwards, have no minimum and are left out.

    Args:
        table: one row per run.
        flops: column of the budget C, equal for runs of one curve.
        n: column of the parameters.
        y: column of the error.
        level: of the intervals.
        rng: seed of the draws.

    Raises:
        Refusal: a column is missing or not positive, or no budget has a minimum.
    """
    if missing := [name for name in (flops, n, y) if name not in table]:
        raise Refusal(f"no column {', '.join(missing)}; there are: {', '.join(map(str, table.columns))}")
    numbers = table[[flops, n, y]].apply(pd.to_numeric, errors="coerce")
    wrong = ~((numbers > 0) & np.isfinite(numbers)).all(axis=1)
    if wrong.any():
        raise Refusal(
            f"row {int(wrong.to_numpy().argmax()) + 1}: {flops}, {n} and {y} must be positive numbers "
            f"({int(wrong.sum())} such rows): mend the rows or leave them out"
        )
    if not 0 < level < 1:
        raise GeoladderError(f"the level of the intervals is {level}; it must lie between 0 and 1")
    generator = np.random.default_rng(rng)
    curves = [
        _minimum(float(budget), runs[n].to_numpy(float), runs[y].to_numpy(float), level, generator)
        for budget, runs in numbers.groupby(flops)
    ]
    minima = [minimum for minimum in curves if minimum is not None]
    if not minima:
        raise Refusal("no budget has a minimum: run at least three sizes per budget, around the best one")
    inside = [minimum for minimum in minima if minimum.inside]
    if len(inside) < 2:
        return IsoFlop(minima, None)
    budgets, best = (np.array([getattr(m, name) for m in inside]) for name in ("flops", "n"))
    errors = np.array([m.sd_log or np.nan for m in inside])
    return IsoFlop(minima, power_line(budgets, best, None if np.isnan(errors).any() else errors, level=level))


def _minimum(
    budget: float, n: Array, y: Array, level: float, generator: np.random.Generator
) -> Minimum | None:
    """The parabola's minimum, with an interval from draws of its coefficients (multivariate Student's t).

    No interval where too many draws open downwards.
    """
    log_n = np.log(n)
    if np.unique(log_n).size < 3:
        return None
    centre = log_n.mean()
    powers = np.vander(log_n - centre, 3)
    bend, slope, constant = coefficients = np.linalg.lstsq(powers, y, rcond=None)[0]
    if bend <= 0:
        return None
    best = centre - slope / (2 * bend)
    low = high = sd_log = None
    dof, tail = len(y) - 3, (1 - level) / 2
    if dof > 0:
        scatter = ((y - powers @ coefficients) ** 2).sum() / dof
        covariance = scatter * np.linalg.inv(powers.T @ powers)
        draws = stats.multivariate_t.rvs(coefficients, covariance, dof, size=DRAWS, random_state=generator)
        vertex = np.where(draws[:, 0] > 0, centre - draws[:, 1] / (2 * draws[:, 0]), np.nan)
        if np.isnan(vertex).mean() <= tail:
            low, high = np.exp(np.nanquantile(vertex, [tail, 1 - tail])).tolist()
            sd_log = float(np.diff(np.nanquantile(vertex, ONE_SD))[0] / 2)
    lowest, inside = float(constant - slope**2 / (4 * bend)), bool(log_n.min() <= best <= log_n.max())
    return Minimum(budget, float(np.exp(best)), low, high, sd_log, lowest, len(y), inside)


def power_line(x: Array, y: Array, sd_log: Array | None = None, *, level: float = 0.95) -> Line:
    """A straight line in logarithms through positive values (M,), with the interval of its slope.

    With standard errors `sd_log` (M,) of log y, points weigh 1 / sd_log^2 and the interval follows from them;
    without, from the scatter about the line.
    """
    log_x, log_y = np.log(x), np.log(y)
    if sd_log is None:
        regression = stats.linregress(log_x, log_y)
        slope, height, error = regression.slope, regression.intercept, regression.stderr
        reach = stats.t.ppf((1 + level) / 2, len(log_x) - 2) if len(log_x) > 2 else None
    else:
        (slope, height), covariance = np.polyfit(log_x, log_y, 1, w=1 / sd_log, cov="unscaled")
        error, reach = np.sqrt(covariance[0, 0]), stats.norm.ppf((1 + level) / 2)
    ends = (None, None) if reach is None else (float(slope - reach * error), float(slope + reach * error))
    return Line(float(slope), float(np.exp(height)), *ends)
