"""Bootstraps: the same law fitted to many redrawn tables, all from the one optimum.

`case` draws points, or whole blocks of rows that share a cell or a run; `cell` keeps every cell of the design and
deals the runs' deviations from their cell's mean anew, inflated for the means spent, or where cells vary about the
law, the cells' means' deviations from it; `residual` deals the law's own residuals, inflated for the parameters
spent. `run` deals the residuals whitened by the mixed model and colours them again (post-blackening; Davison &
Hinkley 1997, section 8.2.3), so that what checkpoints share, they share in every redrawn table.
"""

from typing import Literal

import numpy as np
from scipy import stats
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from geoladder.scaling.fit.points import block_mean
from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.laws.curves import Array

Kind = Literal["case", "cell", "run", "residual"]


def resample(problem: Problem, theta: Array, kind: Kind, count: int, rng: int) -> tuple[Array, Array]:
    """Redraw and refit: (B, P) parameters and (B,) objectives.

    Args:
        problem: the law and its runs.
        theta: (P,) the optimum of the table as it is; every refit starts there.
        kind: see the module.
        count: resamples B.
        rng: seed. `case` draws as `numpy.random.seed(rng)` and `choice` do, so that published intervals can be
            reproduced.
    """
    points = len(problem.target)
    start = np.repeat(theta[None], count, axis=0)
    if kind == "case":
        block = _blocks(problem)
        drawn = int(block.max()) + 1
        picks = np.random.RandomState(rng).randint(0, drawn, (count, drawn))
        table = drawn * np.arange(count)[:, None]
        times = np.bincount((picks + table).ravel(), minlength=count * drawn).reshape(count, drawn)
        return problem.minimise(start, weight=times[:, block] * problem.weight, warm=True)[:2]
    centre, pool = _pool(problem, theta, kind)
    picks = np.random.default_rng(rng).integers(pool.size, size=(count, points))
    dealt = pool[picks]
    if problem.whiten is not None:
        dealt = splu(problem.whiten.tocsc()).solve(dealt.T).T
    return problem.minimise(start, centre + dealt, warm=True)[:2]


def _blocks(problem: Problem) -> Array:
    """(M,) number of the block of rows that share something; every row its own where runs are independent."""
    if problem.whiten is None:
        return np.arange(len(problem.read.y))
    return np.asarray(connected_components(problem.whiten, directed=False)[1])


def _pool(problem: Problem, theta: Array, kind: Kind) -> tuple[Array, Array]:
    """What residuals are dealt to (M,), and the residuals on the scale of the loss, whitened if correlated."""
    target, cells = problem.target, problem.read.cells
    if kind == "cell" and problem.read.repeated:
        sizes = np.bincount(cells)[cells]
        centre = block_mean(target, cells)
        pool = ((target - centre) * np.sqrt(sizes / np.maximum(sizes - 1, 1)))[sizes > 1]
    else:
        centre = problem.loss.target(problem.evaluate(theta[None])[0][0])
        left = target - centre if problem.whiten is None else -problem.deviations(theta)
        pool = left * np.sqrt(len(target) / max(len(target) - int(problem.free.sum()), 1))
    return centre, pool - pool.mean()


def jackknife(problem: Problem, theta: Array) -> Array:
    """(G, P) parameters with one cell (one run, where none is repeated) left out, in the units of the data.

    Where runs share more than a cell, one block of them is left out.
    """
    cells = problem.read.cells if problem.whiten is None and problem.read.repeated else _blocks(problem)
    groups = np.unique(cells)
    start = np.repeat(theta[None], len(groups), axis=0)
    weight = problem.weight * (cells[None] != groups[:, None])
    return problem.natural(problem.minimise(start, weight=weight, warm=True)[0])


def reach(level: float, dof: float | None) -> Array:
    """Standard normal quantiles (2,) an interval of `level` reaches out to.

    With few degrees of freedom, percentiles are expanded to the normal score that equals Student's quantile
    (Hesterberg 2015, What teachers should know about the bootstrap, section 3.3); plain ones of 9 runs cover 90 %.
    `dof` is runs less parameters, or None for plain percentiles, as published bootstraps use.
    """
    upper = (1 + level) / 2
    return np.array([-1, 1]) * (stats.norm.ppf(upper) if dof is None else stats.t.ppf(upper, dof))


def percentile(draws: Array, scores: Array) -> tuple[float, float]:
    """Interval between the percentiles of (B,) draws at two normal scores."""
    low, high = np.quantile(draws, stats.norm.cdf(scores))
    return float(low), float(high)


def bca(draws: Array, estimate: float, left_out: Array, scores: Array) -> tuple[float, float]:
    """Bias-corrected and accelerated interval (Efron 1987, Better bootstrap confidence intervals, section 3).

    From (B,) bootstrap draws, the estimate of the table as it is, and (G,) jackknife estimates.
    """
    below = (np.sum(draws < estimate) + 0.5 * np.sum(draws == estimate)) / draws.size
    bias = stats.norm.ppf(np.clip(below, 1 / (draws.size + 1), draws.size / (draws.size + 1)))
    pull = left_out.mean() - left_out
    with np.errstate(invalid="ignore", divide="ignore"):
        acceleration = np.nan_to_num((pull**3).sum() / (6 * (pull**2).sum() ** 1.5))
    ends = bias + scores
    return percentile(draws, bias + ends / np.maximum(1 - acceleration * ends, 1e-3))
