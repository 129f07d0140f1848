"""Compiled damped Newton for laws that are sums of powers, for many starts or resamples in one call.

The Huber loss is reached by continuation, from a wide delta to the asked one: from a distant start a narrow delta is
nearly an absolute loss, on which Newton stalls.
"""

import numpy as np
from numba import njit

from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.derivatives import System, evaluate

ROUNDS = 400
"""Newton steps per stage of the continuation; a fit that needs more is reported as not converged."""
GAIN = 1e-12
"""Relative decrease of the objective below which a stage ends."""
LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e12


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

    Returns:
        objective, and whether every stage ended by itself.
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
        damping, known, done, rounds = 0.0, False, False, 0
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
                    known = False
                    if gained <= GAIN * now and damping == 0.0:
                        done = True
                        break
                    continue
            if not known:
                evaluate(theta, system, delta, slope, curve, metric)
                known = True
            damping = max(4.0 * damping, LEAST_DAMPING)
            if damping > MOST_DAMPING:  # without a step at all, the start overflows
                done = solved
                break
        settled = settled and done
    return now if now < np.inf else np.inf, settled  # NaN is no objective


@njit(cache=True)
def minimise(theta: Array, low: Array, high: Array, system: System, deltas: Array) -> tuple[Array, Array]:
    """Minimise R objectives, each from its own start.

    Args:
        theta: (R, P) starts; replaced by the minimisers.
        low: (R, P) or (1, P) lower bounds; equal to `high` where a parameter is held.
        high: (R, P) or (1, P) upper bounds.
        system: the law and its errors; points of weight 0 cost no time.
        deltas: (S,) stages of the Huber continuation.

    Returns:
        (R,) objectives, (R,) whether the fit settled.
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
