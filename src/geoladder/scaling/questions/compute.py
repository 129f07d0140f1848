"""How to spend compute: the best N and D for a budget, from a fitted law or from runs alone, and what data are worth.

IsoFLOP curves need no law, but the symmetry of a parabola biases exponents where the sizes are off centre; prefer the
law fitted to all runs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from geoladder.errors import GeoladderError
from geoladder.scaling.fit.points import Refusal, check_columns, positive_numbers
from geoladder.scaling.fit.result import Fit
from geoladder.scaling.laws.curves import Array

FLOPS_PER_PARAMETER_AND_SAMPLE = 6.0
"""C = 6 N D: two operations forward and four backward per parameter and token (Kaplan et al. 2020, section 2.1)."""
ADDITIVE = ("chinchilla", "chinchilla_tied")
DRAWS = 2000
"""Parabolas drawn from the scatter about each curve."""
ONE_SD = stats.norm.cdf([-1, 1])


@dataclass(frozen=True)
class Estimate:
    """A value with its bootstrap interval: no `low` without one, no `high` where it is unbounded."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """As `value [low, high]`."""
        if self.low is None:
            return f"{self.value:.3g}"
        high = "unbounded" if self.high is None else f"{self.high:.3g}"
        return f"{self.value:.3g} [{self.low:.3g}, {high}]"


@dataclass(frozen=True)
class Allocation:
    """The best split of a budget C = `flops`: parameters n, data d, the error y there, and N* grows as C^exponent.

    `d_per_n` are data (tokens) per parameter there.

    `outside` names the variables whose optimum lies outside the sizes fitted: an extrapolation.
    """

    flops: float
    n: Estimate
    d: Estimate
    y: Estimate
    d_per_n: Estimate
    exponent: Estimate
    outside: list[str]


def allocate(
    fit: Fit, flops: float, per: float = FLOPS_PER_PARAMETER_AND_SAMPLE, level: float = 0.95
) -> Allocation:
    """Minimise E + A n^-alpha + B d^-beta on per n d = flops.

    Hoffmann et al. 2022, equation 4: n* = G (C / per)^a, G = (alpha A / (beta B))^(1 / (alpha + beta)),
    a = beta / (alpha + beta).

    Raises:
        GeoladderError: the fit is no additive law in n and d, was refused, or C is not positive.
    """
    if fit.form not in ADDITIVE:
        raise GeoladderError(
            f"a compute-optimal split needs a law E + A n^-alpha + B d^-beta, not {fit.form}"
        )
    if not fit.params or flops <= 0:
        raise GeoladderError(f"no split: {'; '.join(fit.identifiability.reasons) or 'C must be positive'}")

    def split(params: dict[str, Array]) -> list[Array]:
        alpha, beta = params["alpha"], params.get("beta", params["alpha"])
        log_a, log_b, log_product = np.log(params["A"]), np.log(params["B"]), np.log(flops / per)
        exponent = beta / (alpha + beta)
        log_g = (np.log(alpha) + log_a - np.log(beta) - log_b) / (alpha + beta)
        log_n = log_g + exponent * log_product
        log_d = log_product - log_n
        y = params["E"] + np.exp(log_a - alpha * log_n) + np.exp(log_b - beta * log_d)
        return [np.exp(log_n), np.exp(log_d), y, np.exp(log_d - log_n), exponent]

    n, d, y, d_per_n, exponent = _estimates(fit, split, level)
    sizes = (("n", n), ("d", d))
    outside = [role for role, size in sizes if not fit.ranges[role][0] <= size.value <= fit.ranges[role][1]]
    return Allocation(flops, n, d, y, d_per_n, exponent, outside)


def worth_of_decade(fit: Fit, n: float, d: float, level: float = 0.95) -> Estimate:
    """Factor on unique data d that lowers the error as much as ten times the parameters would, at (n, d).

    Infinite (None as upper end) where no amount of data does.
    """
    if fit.form not in ADDITIVE or not fit.params:
        raise GeoladderError("the worth of data needs a fitted law E + A n^-alpha + B d^-beta")

    def factor(params: dict[str, Array]) -> list[Array]:
        beta = params.get("beta", params["alpha"])
        gain = params["A"] * (n ** -params["alpha"] - (10 * n) ** -params["alpha"])
        left = 1 - gain / (params["B"] * d**-beta)
        return [np.where(left > 0, np.maximum(left, 1e-300) ** (-1 / beta), np.inf)]

    return _estimates(fit, factor, level)[0]


def _estimates(
    fit: Fit, quantities: Callable[[dict[str, Array]], list[Array]], level: float
) -> list[Estimate]:
    """Quantities (R,) of R sets of parameters: at the fitted ones, with percentiles over the draws."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        best = quantities({name: np.array([value]) for name, value in fit.params.items()})
        if not fit.draws:
            return [Estimate(float(value[0]), None, None) for value in best]
        draws = np.stack(quantities(fit.draws))
    usable = np.where(np.isnan(draws), np.inf, draws)
    lows, highs = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2], axis=1, method="nearest")
    return [
        Estimate(float(value[0]), float(low), float(high) if np.isfinite(high) else None)
        for value, low, high in zip(best, lows, highs, strict=True)
    ]


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

    `flops`, `n` and `y` are columns; runs of one curve have equal flops, and `rng` seeds the draws. Budgets with
    fewer than three sizes, or whose curve opens downwards, have no minimum and are left out.

    Raises:
        Refusal: a column is missing or not positive, or no budget has a minimum.
    """
    check_columns(table, (flops, n, y))
    numbers = pd.DataFrame({name: positive_numbers(table, name) for name in (flops, n, y)})
    if not 0 < level < 1:
        raise GeoladderError(f"the level of the intervals is {level}; it must lie between 0 and 1")
    generator = np.random.default_rng(rng)
    curves = [
        _minimum(
            float(runs[flops].iloc[0]), runs[n].to_numpy(float), runs[y].to_numpy(float), level, generator
        )
        for _, runs in numbers.groupby(flops)
    ]
    minima = [minimum for minimum in curves if minimum is not None]
    if not minima:
        raise Refusal(
            "no budget has a minimum: run at least three sizes per budget, around the best one; and if more of "
            f"{y} is better, give 1 - {y} as the error"
        )
    inside = [minimum for minimum in minima if minimum.inside]
    if len(inside) < 2:
        return IsoFlop(minima, None)
    budgets, best = (np.array([getattr(m, name) for m in inside]) for name in ("flops", "n"))
    errors = [minimum.sd_log for minimum in inside if minimum.sd_log]
    weighed = np.array(errors) if len(errors) == len(inside) else None
    return IsoFlop(minima, power_line(budgets, best, weighed, level=level))


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
