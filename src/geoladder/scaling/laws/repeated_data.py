"""The law of repeated data: what is a token worth the second time it is seen?"""

import numpy as np

from geoladder.scaling.laws.curves import Array, Curve, Evaluated, Points, grid_of


def _repeated(theta: Array, x: Points) -> Evaluated:
    """Derivatives by complex steps: exact to rounding, where the smaller of N and its optimum does not switch."""
    step = 1e-30
    value = _repeated_value(theta.astype(complex), x).real
    rows = []
    for p in range(theta.shape[1]):
        moved = theta.astype(complex)
        moved[:, p] += 1j * step
        rows.append(_repeated_value(moved, x).imag / step)
    return value, np.stack(rows, axis=2)


def _repeated_value(theta: Array, x: Points) -> Array:
    e, a, b, rd, rn = (theta[:, k, None] for k in (0, 1, 2, 5, 6))
    alpha, beta = theta[:, 3, None], theta[:, 4, None]
    log_n, log_d, log_u = np.log(x["n"]), np.log(x["d"]), np.log(x["u"])
    log_g = (np.log(alpha) + a - np.log(beta) - b) / (alpha + beta)
    optimal = log_g + beta / alpha * (log_u + log_g)
    base_n = np.where(optimal.real < log_n, optimal, log_n + 0j)
    effective_d = log_u + np.log1p(np.exp(rd) * -np.expm1(-np.expm1(log_d - log_u) * np.exp(-rd)))
    effective_n = base_n + np.log1p(np.exp(rn) * -np.expm1(-np.expm1(log_n - base_n) * np.exp(-rn)))
    return np.exp(e) + np.exp(a - alpha * effective_n) + np.exp(b - beta * effective_d)


def _repeated_starts(x: Points, y: Array) -> Array:
    log_n, log_d = np.log(x["n"]), np.log(x["d"])
    starts = []
    for floor, p, rd, rn in grid_of([0.3, 0.7], [0.2, 0.45], np.log([2.0, 15.0, 100.0]), np.log([1.5, 6.0])):
        rest = np.log((1 - floor) * y.min() / 2)
        starts.append(
            [np.log(floor * y.min()), rest + p * log_n.mean(), rest + p * log_d.mean(), p, p, rd, rn]
        )
    return np.array(starts)


DATA_CONSTRAINED = Curve(
    "data_constrained",
    ("n", "d", "u"),
    ("E", "A", "B", "alpha", "beta", "R_D", "R_N"),
    ("E", "A", "B", "R_D", "R_N"),
    "y = E + A n'^-alpha + B d'^-beta, d' = u (1 + R_D (1 - exp(-(d/u - 1)/R_D))), n' likewise with R_N",
    "Muennighoff et al. 2023, arXiv 2305.16264, equations 5-7: d seen, u unique",
    _repeated,
    _repeated_starts,
    lambda x, y: (
        np.array([np.log(y.min()) - 20, -40.0, -40.0, 1e-3, 1e-3, -3.0, -3.0]),
        np.array([np.log(y.max()), 60.0, 60.0, 3.0, 3.0, 14.0, 14.0]),
    ),
)
