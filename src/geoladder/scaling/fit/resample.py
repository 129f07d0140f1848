"""Bootstraps: the same law fitted to many redrawn tables, all from the one optimum.

`case` draws points; `cell` keeps every cell of the design and deals the runs' deviations from their cell's mean anew,
inflated for the means spent; `residual` deals the law's own residuals, inflated for the parameters spent.
"""

from typing import Literal

import numpy as np
from scipy import stats

from geoladder.scaling.fit.identify import block_mean
from geoladder.scaling.fit.points import Points
from geoladder.scaling.fit.problem import Problem, Solution
from geoladder.scaling.fit.search import Optimum
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.loss import Loss

Kind = Literal["case", "cell", "residual"]


def resample(
    problem: Problem, optimum: Optimum, read: Points, loss: Loss, kind: Kind, count: int, rng: int
) -> Solution:
    """Redraw and refit.

    Args:
        problem: the law at its points.
        optimum: of the table as it is; every refit starts there.
        read: the runs.
        loss: what is summed.
        kind: see the module.
        count: resamples B.
        rng: seed. `case` draws as `numpy.random.seed(rng)` and `choice` do, so that published intervals can be
            reproduced.
    """
    target = loss.target(read.y)
    if kind == "case":
        picks = np.random.RandomState(rng).randint(0, len(target), (count, len(target)))
        times = np.apply_along_axis(np.bincount, 1, picks, minlength=len(target)).astype(np.float64)
        weights, targets = times * read.weight, target
    else:
        centre, pool = _pool(problem, optimum, read, loss, kind)
        picks = np.random.default_rng(rng).integers(pool.size, size=(count, len(target)))
        weights, targets = read.weight, centre + pool[picks]
    start = np.repeat(optimum.theta[None], count, axis=0)
    return problem.minimise(start, optimum.low, optimum.high, targets, weights, loss, warm=True)


def _pool(problem: Problem, optimum: Optimum, read: Points, loss: Loss, kind: Kind) -> tuple[Array, Array]:
    """What residuals are dealt to (M,), and the residuals, on the scale of the loss."""
    target, cells = loss.target(read.y), read.cells
    if kind == "cell":
        sizes = np.bincount(cells)[cells]
        centre = block_mean(target, cells)
        pool = ((target - centre) * np.sqrt(sizes / np.maximum(sizes - 1, 1)))[sizes > 1]
    else:
        centre = loss.target(problem.evaluate(optimum.theta[None])[0][0])
        free = int((optimum.low < optimum.high).sum())
        pool = (target - centre) * np.sqrt(len(target) / max(len(target) - free, 1))
    return centre, pool - pool.mean()


def jackknife(problem: Problem, optimum: Optimum, read: Points, loss: Loss) -> Array:
    """(G, P) parameters with one cell (one run, where none is repeated) left out, in the units of the data."""
    cells = read.cells if read.repeated else np.arange(len(read.y))
    groups = np.unique(cells)
    weights = read.weight * (cells[None] != groups[:, None])
    start = np.repeat(optimum.theta[None], len(groups), axis=0)
    target = loss.target(read.y)
    solution = problem.minimise(start, optimum.low, optimum.high, target, weights, loss, warm=True)
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
