"""How to spend compute: the best N and D for a budget, isoFLOP curves, and what data are worth in parameters."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from geoladder.errors import GeoladderError
from geoladder.scaling.fit.points import Refusal
from geoladder.scaling.fit.result import Fit
from geoladder.scaling.laws.curves import Array

FLOPS_PER_PARAMETER_AND_SAMPLE = 6.0
"""C = 6 N D: two operations forward and four backward per parameter and token (Kaplan et al. 2020, section 2.1)."""


@dataclass(frozen=True)
class Estimate:
    """A value with its bootstrap interval."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Allocation:
    """The best split of one budget.

    Attributes:
        flops: the budget C.
        n: best parameters.
        d: best data.
        y: error there.
        exponent: a in N* proportional to C^a.
        outside: names of the variables whose optimum lies outside the sizes fitted: an extrapolation.
    """

    flops: float
    n: Estimate
    d: Estimate
    y: Estimate
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
    if fit.form not in ("chinchilla", "chinchilla_tied"):
        raise GeoladderError(
            f"a compute-optimal split needs a law E + A n^-alpha + B d^-beta, not {fit.form}"
        )
    if not fit.params or flops <= 0:
        raise GeoladderError(f"no split: {'; '.join(fit.identifiability.reasons) or 'C must be positive'}")
    best = _split({name: np.array([v]) for name, v in fit.params.items()}, flops / per)
    drawn = _split(fit.draws, flops / per) if fit.draws else None
    n, d, y, a = (_estimate(best[k][0], None if drawn is None else drawn[k], level) for k in range(4))
    outside = [
        role
        for role, value in (("n", n.value), ("d", d.value))
        if not fit.ranges[role][0] <= value <= fit.ranges[role][1]
    ]
    return Allocation(flops, n, d, y, a, outside)


def worth_of_decade(fit: Fit, n: float, d: float, level: float = 0.95) -> Estimate:
    """Factor on unique data d that lowers the error as much as ten times the parameters would, at (n, d).

    Infinite (None as upper end) where no amount of data does.
    """

    def factor(params: dict[str, Array]) -> Array:
        beta = params.get("beta", params["alpha"])
        gain = params["A"] * (n ** -params["alpha"] - (10 * n) ** -params["alpha"])
        left = 1 - gain / (params["B"] * d**-beta)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where(left > 0, np.maximum(left, 1e-300) ** (-1 / beta), np.inf)

    if fit.form not in ("chinchilla", "chinchilla_tied") or not fit.params:
        raise GeoladderError("the worth of data needs a fitted law E + A n^-alpha + B d^-beta")
    best = factor({name: np.array([v]) for name, v in fit.params.items()})[0]
    return _estimate(best, factor(fit.draws) if fit.draws else None, level)


@dataclass(frozen=True)
class IsoFlop:
    """The minimum of one isoFLOP curve.

    Attributes:
        flops: the budget.
        n: parameters at the parabola's minimum.
        y: error there.
        points: runs used.
        inside: whether the minimum lies inside the sizes run; else it is an extrapolation.
    """

    flops: float
    n: float
    y: float
    points: int
    inside: bool


def isoflop_minima(table: pd.DataFrame, flops: str, n: str, y: str) -> list[IsoFlop]:
    """Fit a parabola of y in log n to the runs of each budget (Hoffmann et al. 2022, approach 2).

    The parabola's symmetry biases exponents when the sizes are off centre; prefer the law fitted to all runs.

    Raises:
        Refusal: no budget has three sizes, or the curve opens downwards everywhere.
    """
    found = []
    for budget, rows in table.groupby(flops):
        log_n = np.log(rows[n].to_numpy(dtype=np.float64))
        if np.unique(log_n).size < 3:
            continue
        centre = log_n.mean()
        bend, slope, level = np.polyfit(log_n - centre, rows[y].to_numpy(dtype=np.float64), 2)
        if bend <= 0:
            continue
        best = -slope / (2 * bend)
        inside = log_n.min() <= best + centre <= log_n.max()
        found.append(
            IsoFlop(
                float(str(budget)),
                float(np.exp(best + centre)),
                float(level - slope**2 / (4 * bend)),
                len(rows),
                bool(inside),
            )
        )
    if not found:
        raise Refusal(
            "no budget has an interior minimum: run at least three sizes per budget, around the best one"
        )
    return found


@dataclass(frozen=True)
class Line:
    """y = coefficient x^slope by least squares in logarithms, with the interval of the slope."""

    slope: float
    coefficient: float
    low: float | None
    high: float | None
    r2: float


def power_line(
    x: Array, y: Array, sd_log: Array | None = None, *, draws: int = 0, rng: int = 42, level: float = 0.95
) -> Line:
    """A straight line in logarithms, weighted by 1 / sd_log^2 where the error of log y is known.

    With `draws`, the interval of the slope comes from y redrawn with that error, as Porian et al. 2024 (arXiv
    2406.19146) redraw theirs.
    """
    log_x, log_y = np.log(np.asarray(x, dtype=np.float64)), np.log(np.asarray(y, dtype=np.float64))
    weight = np.ones_like(log_x) if sd_log is None else np.asarray(sd_log, dtype=np.float64) ** -2
    centre = np.average(log_x, weights=weight)
    lever = weight * (log_x - centre) / (weight * (log_x - centre) ** 2).sum()
    slope = float(lever @ log_y)
    height = np.average(log_y, weights=weight) - slope * centre
    residual = log_y - height - slope * log_x
    r2 = 1 - float(
        (weight * residual**2).sum() / (weight * (log_y - np.average(log_y, weights=weight)) ** 2).sum()
    )
    low = high = None
    if draws and sd_log is not None:
        noise = np.random.default_rng(rng).normal(0, sd_log, (draws, len(log_y)))
        ends = np.quantile((log_y + noise) @ lever, [(1 - level) / 2, (1 + level) / 2])
        low, high = float(ends[0]), float(ends[1])
    return Line(slope, float(np.exp(height)), low, high, r2)


def envelope(x: Array, y: Array, bins: int) -> tuple[Array, Array]:
    """Best y of each of `bins` equal bins of log10 x, at the bin's centre (Cherti et al. 2023, arXiv 2212.07143).

    Returns:
        Centres (in x) and least y of the bins that hold a point.
    """
    log_x = np.log10(np.asarray(x, dtype=np.float64))
    edges = np.linspace(log_x.min(), log_x.max() + 0.1, bins + 1)
    which = np.clip(np.digitize(log_x, edges) - 1, 0, bins - 1)
    kept = [k for k in range(bins) if (which == k).any()]
    values = np.asarray(y, dtype=np.float64)
    return (
        10 ** np.array([(edges[k] + edges[k + 1]) / 2 for k in kept]),
        np.array([values[which == k].min() for k in kept]),
    )


def _split(params: dict[str, Array], product: float) -> tuple[Array, Array, Array, Array]:
    """N*, D*, error and exponent a for R sets of parameters; `product` is N D."""
    alpha, beta = params["alpha"], params.get("beta", params["alpha"])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        a = beta / (alpha + beta)
        log_g = (np.log(alpha) + np.log(params["A"]) - np.log(beta) - np.log(params["B"])) / (alpha + beta)
        log_n = log_g + a * np.log(product)
        log_d = np.log(product) - log_n
        y = (
            params["E"]
            + np.exp(np.log(params["A"]) - alpha * log_n)
            + np.exp(np.log(params["B"]) - beta * log_d)
        )
        return np.exp(log_n), np.exp(log_d), y, a


def _estimate(best: float, drawn: Array | None, level: float) -> Estimate:
    if drawn is None:
        return Estimate(float(best), None, None)
    usable = np.where(np.isnan(drawn), np.inf, drawn)
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return Estimate(float(best), float(low), float(high) if np.isfinite(high) else None)
