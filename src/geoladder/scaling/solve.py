"""Least squares on log residuals for many resamples at once: grid with linear solves, then damped Gauss-Newton."""

from itertools import product

import numpy as np
from scipy.optimize import nnls

from geoladder.scaling.forms import Array, Form

EXPONENTS = (0.05, 0.12, 0.25, 0.45, 0.8, 1.4)
EXPONENT_BOUNDS = (1e-3, 6.0)
SMALLEST_TERM = 1e-7
"""A term below this share of the smallest y counts as zero."""
ITERATIONS = 200


def starts(form: Form, log_x: Array, y: Array) -> Array:
    """One start for each combination of exponents on a grid, its other parameters by non-negative least squares.

    Returns:
        (S, 1 + 2K) parameters on centred logarithms.
    """
    found = []
    floor = SMALLEST_TERM * y.min()
    for exponents in product(EXPONENTS, repeat=len(form.variables)):
        columns = np.vstack([np.ones_like(y), *np.exp(-np.array(exponents)[:, None] * log_x)])
        linear, _ = nnls((columns / y).T, np.ones_like(y))  # relative residuals: log residuals to first order
        found.append([*np.log(np.maximum(linear, floor)), *exponents])
    return np.array(found)


def bounds(form: Form, y: Array) -> tuple[Array, Array]:
    """Lowest and highest admissible parameters, each (1 + 2K,).

    The floor E may lie above the smallest y: noise puts half of a saturated curve below it.
    """
    count = len(form.variables)
    low = [np.log(SMALLEST_TERM * y.min())] * (1 + count) + [EXPONENT_BOUNDS[0]] * count
    high = [np.log(y.max()), *[np.log(1e6 * y.max())] * count] + [EXPONENT_BOUNDS[1]] * count
    return np.array(low), np.array(high)


def refine(
    form: Form, theta: Array, log_x: Array, log_y: Array, low: Array, high: Array
) -> tuple[Array, Array]:
    """Levenberg-Marquardt from R starts at once, projected on the bounds.

    Args:
        form: the law.
        theta: (R, P) starts.
        log_x: (K, M) centred logarithms.
        log_y: (M,) or (R, M) logarithms of the errors.
        low: (P,) lower bounds.
        high: (P,) upper bounds.

    Returns:
        (R, P) parameters and (R,) sums of squared log residuals.
    """
    theta = np.clip(theta, low, high)
    damping = np.full(len(theta), 1e-2)
    residual, jacobian = _residuals(form, theta, log_x, log_y)
    cost = (residual**2).sum(axis=1)
    for _ in range(ITERATIONS):
        normal = np.einsum("rmp,rmq->rpq", jacobian, jacobian)
        gradient = np.einsum("rmp,rm->rp", jacobian, residual)
        # A parameter that rests on a bound and wants out stays there; the others are solved for without it.
        free = ~(((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0)))
        normal *= free[:, :, None] & free[:, None, :]
        diagonal = np.einsum("rpp->rp", normal)
        diagonal += damping[:, None] * diagonal + np.where(free, 1e-12, 1.0)
        step = np.linalg.solve(normal, (gradient * free)[..., None])[..., 0]
        trial = np.clip(theta - step, low, high)
        trial_residual, trial_jacobian = _residuals(form, trial, log_x, log_y)
        trial_cost = (trial_residual**2).sum(axis=1)
        better = trial_cost < cost
        gained = np.where(better, cost - trial_cost, 0.0)
        theta = np.where(better[:, None], trial, theta)
        residual = np.where(better[:, None], trial_residual, residual)
        jacobian = np.where(better[:, None, None], trial_jacobian, jacobian)
        cost = np.where(better, trial_cost, cost)
        damping = np.clip(np.where(better, damping / 4, damping * 5), 1e-12, 1e12)
        if (gained <= 1e-13 * cost).all() and (better | (damping > 1e8)).all():
            break
    return theta, cost


def _residuals(form: Form, theta: Array, log_x: Array, log_y: Array) -> tuple[Array, Array]:
    """Log residuals (R, M) and their derivatives by the parameters (R, M, P)."""
    count = len(form.variables)
    terms = form.terms(theta, log_x)
    total = terms.sum(axis=1)
    shares = terms / total[:, None]
    by_exponent = -shares[:, 1:] * log_x
    jacobian = np.concatenate([shares, by_exponent], axis=1).transpose(0, 2, 1)
    assert jacobian.shape[2] == 1 + 2 * count
    return np.log(total) - log_y, jacobian
