"""The best N of each budget from runs alone, and how it grows.

IsoFLOP curves need no law, but a parabola is symmetric and the error is not: exponents are biased where sizes are off
centre or span much. The bias is stated; prefer the law fitted to all runs.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from geoladder.errors import GeoladderError
from geoladder.scaling.compute.allocate import FLOPS_PER_PARAMETER_AND_SAMPLE, allocate
from geoladder.scaling.fit.fit import fit
from geoladder.scaling.fit.points import Refusal, check_columns, positive_numbers
from geoladder.scaling.laws.curves import Array

COLUMNS = ["flops", "n", "y"]
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
class Bias:
    """What the method would miss of an additive law fitted to the same runs, were there no noise.

    Attributes:
        slope: slope of the line less the law's exponent of N*.
        n: factor by which the line overstates N* at the largest budget.
    """

    slope: float
    n: float


@dataclass(frozen=True)
class IsoFlop:
    """Minima by budget, the line n = coefficient C^slope through those inside the sizes run, if there are two; bias.

    `bias` is None where there is no line, or no additive law could be fitted to the runs.
    """

    minima: list[Minimum]
    line: Line | None
    bias: Bias | None = None


def isoflop(
    table: pd.DataFrame,
    flops: str,
    n: str,
    y: str,
    *,
    per: float = FLOPS_PER_PARAMETER_AND_SAMPLE,
    level: float = 0.95,
    rng: int = 42,
) -> IsoFlop:
    """Fit a parabola of y in log n to the runs of each budget (Hoffmann et al. 2022, approach 2).

    `flops`, `n` and `y` are columns; runs of one curve have equal flops, and `rng` seeds the draws. Budgets with
    fewer than three sizes, or whose curve opens downwards, have no minimum and are left out. `per` gives the data of
    a run, flops / (per n), for the additive law that the bias is judged by.

    Raises:
        Refusal: a column is missing or not positive, or no budget has a minimum.
    """
    check_columns(table, (flops, n, y))
    numbers = pd.DataFrame({name: positive_numbers(table, name) for name in (flops, n, y)})
    if not 0 < level < 1:
        raise GeoladderError(f"the level of the intervals is {level}; it must lie between 0 and 1")
    curves = _curves(numbers.set_axis(COLUMNS, axis=1), level, np.random.default_rng(rng))
    if not curves.minima:
        raise Refusal(
            "no budget has a minimum: run at least three sizes per budget, around the best one; and if more of "
            f"{y} is better, give 1 - {y} as the error"
        )
    return replace(curves, bias=_bias(numbers.set_axis(COLUMNS, axis=1), per))


def _curves(runs: pd.DataFrame, level: float, generator: np.random.Generator) -> IsoFlop:
    """Minima and line of checked runs with the columns flops, n and y."""
    curves = [
        _minimum(float(budget), rows.n.to_numpy(float), rows.y.to_numpy(float), level, generator)
        for budget, rows in ((rows.flops.iloc[0], rows) for _, rows in runs.groupby("flops"))
    ]
    minima = [minimum for minimum in curves if minimum is not None]
    inside = [minimum for minimum in minima if minimum.inside]
    if len(inside) < 2:
        return IsoFlop(minima, None)
    budgets, best = (np.array([getattr(m, name) for m in inside]) for name in ("flops", "n"))
    errors = [minimum.sd_log for minimum in inside if minimum.sd_log]
    weighed = np.array(errors) if len(errors) == len(inside) else None
    return IsoFlop(minima, power_line(budgets, best, weighed, level=level))


def _bias(runs: pd.DataFrame, per: float) -> Bias | None:
    """Parabolas through the exact errors of an additive law fitted to the runs, beside that law's own optima."""
    sizes = {"n": runs.n.to_numpy(float), "d": (runs.flops / (per * runs.n)).to_numpy(float)}
    try:
        law = fit(runs.assign(**sizes), repeats=True, bootstrap=0, profile=False)
    except Refusal:
        return None
    if not law.params:
        return None
    exact = _curves(runs.assign(y=law.predict(**sizes)), 0.95, np.random.default_rng(0)).line
    if exact is None:
        return None
    best = allocate(law, budget := float(runs.flops.max()), per)
    line = exact.coefficient * budget**exact.slope
    return Bias(exact.slope - best.exponent.value, float(line / best.n.value))


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
