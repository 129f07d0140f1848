"""Levenberg-Marquardt for curves, all starts or resamples at once, projected on bounds.

The Huber loss is minimised by reweighting: beyond delta a residual weighs delta / |r|.
"""

from collections.abc import Callable

import numpy as np
from scipy import sparse, special

from geoladder.scaling.laws.curves import Array, Evaluated
from geoladder.scaling.laws.loss import LOG, RAW, Loss

ITERATIONS = 400
GAIN = 1e-10
TRIAL, RIVAL = 40, 1.05
"""Rival starts of one problem that after so many steps are worse than the best by this factor are given up."""


def descend(
    evaluate: Callable[[Array], Evaluated],
    theta: Array,
    limits: tuple[Array, Array],
    target: Array,
    weight: Array,
    loss: Loss,
    delta: float,
    *,
    rivals: bool,
    whiten: sparse.csr_array | None = None,
) -> tuple[Array, Array, Array]:
    """Minimise R objectives: (R, P) minimisers, (R,) objectives, (R,) whether each settled.

    `evaluate` turns theta (R, P) into values (R, M) and derivatives (R, M, P) of the curve. `limits`, (P,) or (R, P)
    each, bound the parameters; `target` and `weight` are (M,) or (R, M) errors on the scale of the loss, and their
    weights. Where rows are `rivals`, starts of one problem, only the best matters. `whiten` (M, M) turns residuals
    into what the loss and the weights apply to. Rows that have settled drop out, so that late steps cost only what is
    left.
    """

    def residuals(theta: Array, target: Array) -> tuple[Array, Array]:
        residual, jacobian = _residuals(evaluate, theta, target, loss)
        return (residual, jacobian) if whiten is None else (mixed(whiten, residual), mixed(whiten, jacobian))

    low, high, target, weight = (
        np.broadcast_to(values, (len(theta), values.shape[-1])) for values in (*limits, target, weight)
    )
    theta = np.clip(theta, low, high)
    ends, costs, settled = theta.copy(), np.full(len(theta), np.inf), np.zeros(len(theta), dtype=bool)
    left = np.arange(len(theta))
    damping, still = np.full(len(theta), 1e-2), np.zeros(len(theta), dtype=np.int64)
    residual, jacobian = residuals(theta, target)
    cost = _cost(residual, weight, delta)
    for iteration in range(ITERATIONS):
        pull = 1.0 if np.isinf(delta) else np.minimum(1.0, delta / np.maximum(np.abs(residual), 1e-300))
        step = _step(theta, low, high, residual, jacobian, weight * pull, damping)
        trial = np.clip(theta - step, low, high)
        trial_residual, trial_jacobian = residuals(trial, target)
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
        ends[left], costs[left], settled[left] = theta, cost, still >= 1
        going = still < 2
        if rivals and iteration >= TRIAL:
            going &= cost <= RIVAL * costs.min()
        if not going.any():
            break
        if not going.all():
            state = (left, theta, cost, damping, still, low, high, target, weight, residual, jacobian)
            left, theta, cost, damping, still, low, high, target, weight, residual, jacobian = (
                values[going] for values in state
            )
    return ends, costs, settled


def mixed(matrix: sparse.csr_array, values: Array) -> Array:
    """A matrix (M, M) times values (R, M) or (R, M, P), along the points."""
    points = np.moveaxis(values, 1, 0)
    return np.moveaxis((matrix @ points.reshape(len(points), -1)).reshape(points.shape), 0, 1)


def _step(
    theta: Array, low: Array, high: Array, residual: Array, jacobian: Array, weight: Array, damping: Array
) -> Array:
    """The damped Gauss-Newton step (R, P).

    A parameter that rests on a bound and wants out stays there; the others are solved for without it.
    """
    weighted = (jacobian * weight[:, :, None]).transpose(0, 2, 1)
    normal = np.matmul(weighted, jacobian)
    gradient = np.matmul(weighted, residual[..., None])[..., 0]
    free = ~(((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0)))
    normal *= free[:, :, None] & free[:, None, :]
    diagonal = np.einsum("rpp->rp", normal)
    least = 1e-14 + 1e-12 * diagonal.max(axis=1, keepdims=True)
    diagonal += damping[:, None] * diagonal + np.where(free, least, 1.0)
    return np.linalg.solve(normal, (gradient * free)[..., None])[..., 0]


def _cost(residual: Array, weight: Array, delta: float) -> Array:
    cost = (weight * special.huber(delta, residual)).sum(axis=1)
    return np.where(np.isfinite(residual).all(axis=1), cost, np.inf)


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
