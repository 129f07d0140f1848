"""Bootstraps: the same law fitted to many redrawn tables, all from the one optimum.

`case` draws points; `cell` keeps every cell of the design and deals the runs' deviations from their cell's mean anew,
inflated for the means spent; `residual` deals the law's own residuals, inflated for the parameters spent.
"""

from typing import Literal

import numpy as np
from scipy import stats

from geoladder.scaling.fit.problem import Problem, Solution
from geoladder.scaling.fit.search import Optimum
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.loss import Loss

Kind = Literal["case", "cell", "residual"]


def resample(
    problem: Problem,
    optimum: Optimum,
    y: Array,
    loss: Loss,
    weight: Array,
    cells: Array,
    kind: Kind,
    count: int,
    rng: int,
) -> Solution:
    """Redraw and refit.

    Args:
        problem: the law at its points.
        optimum: of the table as it is; every refit starts there.
        y: (M,) errors.
        loss: what is summed.
        weight: (M,) weights.
        cells: (M,) number of the design cell of each run, for `cell`.
        kind: see the module.
        count: resamples B.
        rng: seed. `case` draws as `numpy.random.seed(rng)` and `choice` do, so that published intervals can be
            reproduced.
    """
    target = loss.target(y)
    if kind == "case":
        picks = np.random.RandomState(rng).randint(0, len(y), (count, len(y)))
        times = np.apply_along_axis(np.bincount, 1, picks, minlength=len(y)).astype(np.float64)
        weights, targets = times * weight, target
    else:
        weights = weight
        targets = _redealt(problem, optimum, target, loss, cells, kind, count, np.random.default_rng(rng))
    start = np.repeat(optimum.theta[None], count, axis=0)
    return problem.minimise(start, optimum.low, optimum.high, targets, weights, loss, warm=True)


def _redealt(
    problem: Problem,
    optimum: Optimum,
    target: Array,
    loss: Loss,
    cells: Array,
    kind: Kind,
    count: int,
    rng: np.random.Generator,
) -> Array:
    points = len(target)
    if kind == "cell":
        sizes = np.bincount(cells)
        centre = (np.bincount(cells, weights=target) / sizes)[cells]
        repeated = sizes[cells] > 1
        spent = np.sqrt(sizes[cells] / np.maximum(sizes[cells] - 1, 1))
        pool = ((target - centre) * spent)[repeated]
    else:
        centre = loss.target(problem.evaluate(optimum.theta[None])[0][0])
        free = int((optimum.low < optimum.high).sum())
        pool = (target - centre) * np.sqrt(points / max(points - free, 1))
    pool = pool - pool.mean()
    return centre + pool[rng.integers(pool.size, size=(count, points))]


def jackknife(problem: Problem, optimum: Optimum, y: Array, loss: Loss, weight: Array, cells: Array) -> Array:
    """(G, P) parameters with one cell of the design left out at a time, in the units of the data."""
    groups = np.unique(cells)
    weights = weight * (cells[None] != groups[:, None])
    start = np.repeat(optimum.theta[None], len(groups), axis=0)
    solution = problem.minimise(start, optimum.low, optimum.high, loss.target(y), weights, loss, warm=True)
    return problem.natural(solution.theta)


def reach(level: float, dof: int | None) -> float:
    """Standard normal quantile an interval reaches out to.

    With few degrees of freedom, percentiles are expanded to the normal score that equals Student's quantile
    (Hesterberg 2015, What teachers should know about the bootstrap, section 3.3); plain ones of 9 runs cover 90 %.

    Args:
        level: such as 0.95.
        dof: runs less parameters; None for plain percentiles, as published bootstraps use.
    """
    upper = (1 + level) / 2
    return float(stats.norm.ppf(upper) if dof is None else stats.t.ppf(upper, dof))


def percentile(draws: Array, z: float) -> tuple[float, float]:
    """Interval between the percentiles of (B,) draws at normal scores -z and z."""
    low, high = np.quantile(draws, stats.norm.cdf([-z, z]))
    return float(low), float(high)


def bca(draws: Array, estimate: float, left_out: Array, z: float) -> tuple[float, float]:
    """Bias-corrected and accelerated interval (Efron 1987, Better bootstrap confidence intervals, section 3).

    Args:
        draws: (B,) bootstrap estimates.
        estimate: of the table as it is.
        left_out: (G,) jackknife estimates.
        z: normal score the interval reaches out to, see `reach`.
    """
    below = (np.sum(draws < estimate) + 0.5 * np.sum(draws == estimate)) / draws.size
    bias = stats.norm.ppf(np.clip(below, 1 / (draws.size + 1), draws.size / (draws.size + 1)))
    pull = left_out.mean() - left_out
    with np.errstate(invalid="ignore", divide="ignore"):
        acceleration = np.nan_to_num((pull**3).sum() / (6 * (pull**2).sum() ** 1.5))
    ends = bias + np.array([-z, z])
    shares = stats.norm.cdf(bias + ends / np.maximum(1 - acceleration * ends, 1e-3))
    low, high = np.quantile(draws, np.clip(shares, 0, 1))
    return float(low), float(high)
