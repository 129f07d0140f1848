"""Compiled damped Newton for laws that are sums of powers, and for repeated data: many starts or resamples in a call.

The logarithm of such a law is a log-sum-exp of functions linear in the parameters, so gradient and Hessian
are closed: with shares s_t of the terms and x_t the row of each, grad = sum_t s_t x_t and
Hess = sum_t s_t x_t x_t' - grad grad'. The Huber loss is reached by continuation, from a wide delta to the asked one:
from a distant start a narrow delta is nearly an absolute loss, on which Newton stalls.
"""

from typing import NamedTuple

import numpy as np

from geoladder.runs.compiled import njit
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.loss import LOG, RAW
from geoladder.scaling.laws.repeated import evaluate_at

ROUNDS = 400
"""Newton steps per stage of the continuation; a fit that needs more is reported as not converged."""
GAIN = 1e-12
"""Relative decrease of the objective below which a stage ends."""
LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e12
REORDER = {"reassoc", "contract", "arcp", "nsz"}
"""What the compiler may do to sums; infinities and NaN keep their meaning."""


class System(NamedTuple):
    """A sum of powers at points, or the law of repeated data, and what it is fitted to.

    Attributes:
        which: (T, K) int64, the parameters at play in a term, ascending, then -1 for none; (0, 0) for repeated data,
            whose `value` (1, 3, M) are the logarithms of n, d and u.
        value: (T, K, M) what each is multiplied by in the term's logarithm; 1 for the first, a coefficient.
        target: (M,) errors on the scale of the loss; `minimise` takes (R, M) or (1, M).
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
    if not index.size:
        return _evaluate_repeated(theta, system, delta, slope, curve, metric)
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


@njit(cache=True)
def _evaluate_repeated(
    theta: Array, system: System, delta: float, slope: Array, curve: Array, metric: Array
) -> float:
    """What `evaluate` does, for the law of repeated data."""
    logs, size = system.value[0], theta.size
    row, bend = np.empty(size), np.empty((size, size))
    slope[:] = 0.0
    curve[:] = 0.0
    metric[:] = 0.0
    total = 0.0
    for i in range(logs.shape[1]):
        y = evaluate_at(theta, logs[0, i], logs[1, i], logs[2, i], row, bend)
        lost, pull, spread, heavy = _weigh(y, system.target[i], system.weight[i], system.scale, delta)
        total += lost
        for a in range(size):
            slope[a] += pull * row[a]
            for b in range(a + 1):
                curve[a, b] += pull * bend[a, b] + spread * row[a] * row[b]
                if metric.size:
                    metric[a, b] += heavy * row[a] * row[b]
    return total


@njit(cache=True, fastmath=REORDER, inline="always")
def _weigh(
    y: float, target: float, weight: float, scale: int, delta: float
) -> tuple[float, float, float, float]:
    """Loss of one point, and what weighs its slope, its curvature and its share of the metric."""
    if scale == LOG:
        r, q, bent = np.log(y) - target, 1.0, 1.0
    elif scale == RAW:
        r, q, bent = y - target, y, 0.0
    else:
        r, q, bent = np.log1p(y) - target, y / (1.0 + y), 1.0
    if abs(r) <= delta:
        lost = weight * 0.5 * r * r
        first, second = weight * r, weight
        heavy = weight * q * q
    else:
        lost = weight * delta * (abs(r) - 0.5 * delta)
        first, second = (weight * delta if r > 0 else -weight * delta), 0.0
        heavy = weight * delta / abs(r) * q * q
    return lost, first * q, (second - bent * first) * q * q, heavy


@njit(cache=True, fastmath=REORDER)
def _add_products(out: Array, a: int, index: Array, weight: Array, factor: Array, row: Array) -> None:
    """Add to row a of a lower triangle the weighted products of one factor's row with all."""
    for t in range(index.shape[0]):
        for k in range(index.shape[1]):
            b = index[t, k]
            if 0 <= b <= a:
                out[b] += _sum3(weight, factor, row[t, k])


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
def _rows(
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
        lost, pull[i], spread[i], heavy[i] = _weigh(y, target[i], weight[i], scale, delta)
        total += lost
    return total


@njit(cache=True)
def _step(
    curve: Array, metric: Array, slope: Array, free: Array, damping: float, chol: Array, step: Array
) -> bool:
    """Solve (H + damping (G + diag|H|)) step = slope by Cholesky on the free parameters; False unless possible.

    Written out for a few parameters: LAPACK's call costs more than its work. The slope is one more row of `chol`
    (P + 1, P), which the decomposition turns into the solution of the triangular system.
    """
    size = slope.size
    for a in range(size):
        for b in range(a + 1):
            chol[a, b] = curve[a, b] + damping * metric[a, b] if free[a] and free[b] else 0.0
        # G itself may be singular (a term that has vanished): a little more on its diagonal.
        more = damping * (abs(curve[a, a]) + 1e-9 * metric[a, a] + 1e-30)
        chol[a, a] = chol[a, a] + more if free[a] else 1.0
        chol[size, a] = slope[a] if free[a] else 0.0
    for a in range(size + 1):
        for b in range(min(a + 1, size)):
            s = chol[a, b]
            for k in range(b):
                s -= chol[a, k] * chol[b, k]
            if a == b:
                if not s > 1e-14 * abs(chol[a, a]):
                    return False
                chol[a, a] = np.sqrt(s)
            else:
                chol[a, b] = s / chol[b, b]
    for a in range(size - 1, -1, -1):
        s = chol[size, a]
        for k in range(a + 1, size):
            s -= chol[k, a] * step[k]
        step[a] = s / chol[a, a]
    return True


@njit(cache=True)
def _descend(  # noqa: C901 - a Newton loop with its exits
    theta: Array, low: Array, high: Array, system: System, deltas: Array
) -> tuple[float, bool]:
    """Damped Newton, projected on the bounds, through the stages `deltas`; theta is changed in place.

    Gives the objective, and whether every stage ended by itself.
    """
    size = theta.size
    slope, curve, metric = np.empty(size), np.empty((size, size)), np.zeros((size, size))
    trial_slope, trial_curve, none = np.empty(size), np.empty((size, size)), np.empty((0, 0))
    chol, step, trial = np.empty((size + 1, size)), np.empty(size), np.empty(size)
    free = np.empty(size, np.bool_)
    theta[:] = np.minimum(np.maximum(theta, low), high)
    settled, now = True, 0.0
    for delta in deltas:
        now = evaluate(theta, system, delta, slope, curve, none)
        damping, has_metric, done, rounds = 0.0, False, False, 0
        while rounds < ROUNDS:
            for p in range(size):
                free[p] = low[p] < high[p] and not (
                    (theta[p] <= low[p] and slope[p] > 0) or (theta[p] >= high[p] and slope[p] < 0)
                )
            solved = _step(curve, metric, slope, free, damping, chol, step)
            if solved:
                rounds += 1
                promise = 0.0
                for p in range(size):
                    trial[p] = min(max(theta[p] - step[p], low[p]), high[p])
                    promise += 0.5 * slope[p] * step[p] if free[p] else 0.0
                if promise * (1.0 + damping) <= GAIN * now + 1e-40:
                    done = True
                    break
                then = evaluate(trial, system, delta, trial_slope, trial_curve, none)
                if then < now:
                    gained = now - then
                    theta[:] = trial
                    slope, trial_slope = trial_slope, slope
                    curve, trial_curve = trial_curve, curve
                    now = then
                    damping = damping * 0.1 if damping > LEAST_DAMPING else 0.0
                    has_metric = False
                    if gained <= GAIN * now and damping == 0.0:
                        done = True
                        break
                    continue
            if not has_metric:
                evaluate(theta, system, delta, slope, curve, metric)
                has_metric = True
            damping = max(4.0 * damping, LEAST_DAMPING)
            if damping > MOST_DAMPING:  # without a step at all, the start overflows
                done = solved
                break
        settled = settled and done
    return now if now < np.inf else np.inf, settled  # NaN is no objective


@njit(cache=True)
def minimise(theta: Array, low: Array, high: Array, system: System, deltas: Array) -> tuple[Array, Array]:
    """Minimise R objectives, each from its own start: (R,) objectives, (R,) whether the fit settled.

    Starts (R, P) are replaced by the minimisers. Bounds are (R, P) or (1, P), equal where a parameter is held; points
    of weight 0 cost no time; `deltas` are the stages of the Huber continuation.
    """
    index, value, target, weight, scale = system
    runs, points = theta.shape[0], value.shape[2]
    objective, settled = np.empty(runs), np.empty(runs, np.bool_)
    for r in range(runs):
        w = weight[r if weight.shape[0] > 1 else 0]
        u = target[r if target.shape[0] > 1 else 0]
        kept = np.nonzero(w)[0]
        at = np.ascontiguousarray(value[:, :, kept]) if kept.size < points else value
        b = r if low.shape[0] > 1 else 0
        part = System(index, at, u[kept], w[kept], scale)
        objective[r], settled[r] = _descend(theta[r], low[b], high[b], part, deltas)
    return objective, settled
