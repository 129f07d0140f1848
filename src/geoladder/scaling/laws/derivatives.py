"""Objective, gradient and Hessian of a law that is a sum of powers, compiled.

The logarithm of such a law is a log-sum-exp of functions linear in the parameters, so gradient and Hessian
are closed: with shares s_t of the terms and x_t the row of each, grad = sum_t s_t x_t and
Hess = sum_t s_t x_t x_t' - grad grad'. Arguments are those of `kernel.minimise`, for one start.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.loss import LOG, RAW

REORDER = {"reassoc", "contract", "arcp", "nsz"}
"""What the compiler may do to sums; infinities and NaN keep their meaning."""


class System(NamedTuple):
    """A sum of powers at points, and what it is fitted to.

    Attributes:
        which: (T, K) int64, the parameters at play in a term, ascending, then -1 for none.
        value: (T, K, M) what each is multiplied by in the term's logarithm; 1 for the first, a coefficient.
        target: (M,) errors on the scale of the loss; `kernel.minimise` takes (R, M) or (1, M).
        weight: weight of each point, shaped as `target`.
        scale: LOG, RAW or LOG1P.
    """

    which: Array
    value: Array
    target: Array
    weight: Array
    scale: int


@njit(cache=True, fastmath=REORDER)
def evaluate(theta: Array, system: System, delta: float, slope: Array, curve: Array, metric: Array) -> float:
    """Objective; fills gradient `slope` (P,) and the lower triangles (P, P) of Hessian `curve` and of `metric`.

    The metric is the reweighted Gauss-Newton matrix, positive where the Hessian may vanish: beyond delta a Huber loss
    is straight, and a law of one term is straight in its parameters; there a residual r weighs delta / |r|. It costs
    time and is left out where `metric` is empty.
    """
    index, value = system.which, system.value
    terms, factors, points = value.shape
    row = np.empty((terms, factors, points))
    pull, spread, heavy = np.empty(points), np.empty(points), np.empty(points)
    total = _rows(theta, system, delta, row, pull, spread, heavy)
    slope[:] = 0.0
    curve[:] = 0.0
    metric[:] = 0.0
    # Sums run over points, innermost and contiguous, so that the compiler takes several at once.
    for t in range(terms):
        for k in range(factors):
            a = index[t, k]
            if a < 0:
                break
            slope[a] += _sum2(pull, row[t, k])
            for m in range(k + 1):
                curve[a, index[t, m]] += _sum3(pull, row[t, k], value[t, m])
            _add_products(curve[a], a, index, spread, row[t, k], row)
            if metric.size:
                _add_products(metric[a], a, index, heavy, row[t, k], row)
    return total


@njit(cache=True, fastmath=REORDER)
def _add_products(out: Array, a: int, index: Array, weight: Array, own: Array, row: Array) -> None:
    """Add to row a of a lower triangle the weighted products of one factor's row with all."""
    for t in range(index.shape[0]):
        for k in range(index.shape[1]):
            b = index[t, k]
            if 0 <= b <= a:
                out[b] += _sum3(weight, own, row[t, k])


@njit(cache=True, fastmath=REORDER)
def _sum2(a: Array, b: Array) -> float:
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@njit(cache=True, fastmath=REORDER)
def _sum3(a: Array, b: Array, c: Array) -> float:
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i] * c[i]
    return total


@njit(cache=True, fastmath=REORDER)
def _rows(  # noqa: C901 - one pass over the points
    theta: Array, system: System, delta: float, row: Array, pull: Array, spread: Array, heavy: Array
) -> float:
    """Objective; fills share times multiplier (T, K, M), and (M,) what weighs slopes, curvatures and the metric."""
    index, value, target, weight, scale = system
    terms, factors, points = value.shape
    moving = np.empty(terms, np.bool_)
    share = np.empty(terms)
    for t in range(terms):
        moving[t] = factors > 1 and index[t, 1] >= 0
        share[t] = np.exp(theta[index[t, 0]])  # of a constant term, the same at every point
    total = 0.0
    for i in range(points):
        y = 0.0
        for t in range(terms):
            if moving[t]:
                e = theta[index[t, 0]]
                for k in range(1, factors):
                    if index[t, k] >= 0:
                        e += theta[index[t, k]] * value[t, k, i]
                share[t] = np.exp(e)
            y += share[t]
        for t in range(terms):
            for k in range(factors):
                row[t, k, i] = share[t] / y * value[t, k, i]
        if scale == LOG:
            r, q, bent = np.log(y) - target[i], 1.0, 1.0
        elif scale == RAW:
            r, q, bent = y - target[i], y, 0.0
        else:
            r, q, bent = np.log1p(y) - target[i], y / (1.0 + y), 1.0
        if abs(r) <= delta:
            total += weight[i] * 0.5 * r * r
            first, second = weight[i] * r, weight[i]
            heavy[i] = weight[i] * q * q
        else:
            total += weight[i] * delta * (abs(r) - 0.5 * delta)
            first, second = (weight[i] * delta if r > 0 else -weight[i] * delta), 0.0
            heavy[i] = weight[i] * delta / abs(r) * q * q
        pull[i], spread[i] = first * q, (second - bent * first) * q * q
    return total
