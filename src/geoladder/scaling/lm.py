"""Levenberg-Marquardt for curves, all starts or resamples at once, projected on bounds.

The Huber loss is minimised by reweighting: beyond delta a residual weighs delta / |r|.
"""

from collections.abc import Callable

import numpy as np

from geoladder.scaling.curves import Array, Evaluated
from geoladder.scaling.loss import LOG, RAW, Loss

ITERATIONS = 300
GAIN = 1e-12


def descend(
    evaluate: Callable[[Array], Evaluated],
    theta: Array,
    low: Array,
    high: Array,
    target: Array,
    weight: Array,
    loss: Loss,
    deltas: Array,
) -> tuple[Array, Array, Array]:
    """Minimise R objectives.

    Args:
        evaluate: theta (R, P) -> values (R, M) and derivatives (R, M, P).
        theta: (R, P) starts.
        low: (P,) or (R, P) lower bounds.
        high: (P,) or (R, P) upper bounds.
        target: (M,), (1, M) or (R, M) errors on the scale of the loss.
        weight: weights of the points, shaped as `target`.
        loss: what is summed.
        deltas: stages of the Huber continuation.

    Returns:
        (R, P) minimisers, (R,) objectives, (R,) whether each settled.
    """
    theta = np.clip(np.array(theta, dtype=np.float64), low, high)
    settled = np.ones(len(theta), dtype=bool)
    cost = np.full(len(theta), np.inf)
    for delta in deltas:
        theta, cost, done = _stage(evaluate, theta, low, high, target, weight, loss, float(delta))
        settled &= done
    return theta, cost, settled


def _stage(
    evaluate: Callable[[Array], Evaluated],
    theta: Array,
    low: Array,
    high: Array,
    target: Array,
    weight: Array,
    loss: Loss,
    delta: float,
) -> tuple[Array, Array, Array]:
    damping = np.full(len(theta), 1e-2)
    residual, jacobian = _residuals(evaluate, theta, target, loss)
    cost = _cost(residual, weight, delta)
    still = np.zeros(len(theta), dtype=np.int64)
    for _ in range(ITERATIONS):
        heavy = weight * _reweight(residual, delta)
        weighted = jacobian * heavy[:, :, None]
        normal = np.matmul(weighted.transpose(0, 2, 1), jacobian)
        gradient = np.matmul(weighted.transpose(0, 2, 1), residual[..., None])[..., 0]
        # A parameter that rests on a bound and wants out stays there; the others are solved for without it.
        free = ~(((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0)))
        normal *= free[:, :, None] & free[:, None, :]
        diagonal = np.einsum("rpp->rp", normal)
        diagonal += damping[:, None] * diagonal + np.where(free, 1e-14 + 1e-12 * diagonal.max(), 1.0)
        step = np.linalg.solve(normal, (gradient * free)[..., None])[..., 0]
        trial = np.clip(theta - step, low, high)
        trial_residual, trial_jacobian = _residuals(evaluate, trial, target, loss)
        trial_cost = _cost(trial_residual, weight, delta)
        better = trial_cost < cost
        gained = np.where(better, cost - trial_cost, 0.0)
        theta = np.where(better[:, None], trial, theta)
        residual = np.where(better[:, None], trial_residual, residual)
        jacobian = np.where(better[:, None, None], trial_jacobian, jacobian)
        cost = np.where(better, trial_cost, cost)
        damping = np.clip(np.where(better, damping / 6, damping * 5), 1e-13, 1e13)
        quiet = (gained <= GAIN * cost + 1e-40) & (better | (damping > 1e8))
        still = np.where(quiet, still + 1, 0)
        if (still >= 2).all():
            break
    return theta, cost, still >= 1


def _reweight(residual: Array, delta: float) -> Array:
    if not np.isfinite(delta):
        return np.ones_like(residual)
    return np.minimum(1.0, delta / np.maximum(np.abs(residual), 1e-300))


def _cost(residual: Array, weight: Array, delta: float) -> Array:
    size = np.abs(residual)
    rho = np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta) if np.isfinite(delta) else 0.0)
    return np.where(np.isfinite(residual).all(axis=1), (weight * rho).sum(axis=1), np.inf)


def _residuals(
    evaluate: Callable[[Array], Evaluated], theta: Array, target: Array, loss: Loss
) -> tuple[Array, Array]:
    """Residuals (R, M) and their derivatives (R, M, P) on the scale of the loss."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        value, rows = evaluate(theta)
        if loss.scale == RAW:
            return value - target, rows
        if loss.scale == LOG:
            positive = np.where(value > 0, value, np.nan)
            return np.log(positive) - target, np.nan_to_num(rows / positive[..., None])
        return np.log1p(value) - target, rows / (1 + value[..., None])
