"""The law of repeated data (Muennighoff et al. 2023, arXiv 2305.16264, equations 5-7), compiled.

Data beyond the unique tokens u, and parameters beyond those optimal for u, are worth less and less:
d' = u (1 + R_D (1 - exp(-(d/u - 1) / R_D))), and n' likewise, from the smaller of n and N*(u), with R_N. N*(u), where
the law itself has its best split of the compute that u allows, moves with A, B, alpha and beta; the objective has
several valleys.

Parameters are theta = log E, log A, log B, alpha, beta, log R_D, log R_N; sizes are the logarithms of n, d and u.
"""

from itertools import product

import numpy as np
from scipy.optimize import nnls

from geoladder.runs.compiled import njit
from geoladder.scaling.laws.curves import Array, Curve, Evaluated, Points

EXPONENTS = (0.15, 0.3, 0.5, 0.8)
REPEATS, EXCESSES = (1.0, 4.0, 15.0, 60.0, 250.0, 4000.0), (0.1, 0.6, 3.0, 15.0, 400.0)
"""Grids of R_D and R_N, for each pair of which, and of exponents, E, A and B are solved for."""
ROUNDS = 2
"""The coefficients decide N*(u), which decides the coefficients."""
MOST_POINTS = 1000
"""Runs that starts are made from; of more, every k-th."""
SIZE = 7
"""Parameters."""


@njit(cache=True)
def worth(base: float, log_size: float, log_r: float) -> tuple[float, float, float, float, float, float]:
    """Logarithm W of the worth of a size beyond a base, and its derivatives.

    By the logarithms of the base (b) and of R (r): W, W_b, W_r, W_bb, W_br, W_rr.
    """
    r, excess = np.exp(log_r), np.expm1(log_size - base)
    left, more = np.exp(-excess / r), -r * np.expm1(-excess / r)
    share = left * (excess + 1.0) / (1.0 + more)
    by_r = (more - left * excess) / (1.0 + more)
    return (
        base + np.log1p(more),
        1.0 - share,
        by_r,
        -share * ((excess + 1.0) / r - 1.0) - share**2,
        share * (by_r - excess / r),
        by_r - left * excess**2 / r / (1.0 + more) - by_r**2,
    )


@njit(cache=True)
def evaluate_at(theta: Array, log_n: float, log_d: float, log_u: float, row: Array, bend: Array) -> float:
    """The law at one point; fills its derivatives `row` (P,) and, where wanted, `bend` (P, P), divided by its value.

    Of `bend` the lower triangle is filled; an empty one is left alone.
    """
    e, a, b, alpha, beta, log_rd, log_rn = theta
    optimal = (np.log(alpha) - np.log(beta) + a - b + beta * log_u) / alpha
    base = min(optimal, log_n)
    w, w_b, w_r, w_bb, w_br, w_rr = worth(base, log_n, log_rn)
    v, _, v_r, _, _, v_rr = worth(log_u, log_d, log_rd)
    floor, from_n, from_d = np.exp(e), np.exp(a - alpha * w), np.exp(b - beta * v)
    y = floor + from_n + from_d
    s, t = from_n / y, from_d / y
    # Of the base, by log A, log B, alpha and beta: zero where n itself is the smaller.
    b_a, b_alpha, b_beta = 0.0, 0.0, 0.0
    if optimal < log_n:
        b_a, b_alpha, b_beta = 1.0 / alpha, (1.0 / alpha - base) / alpha, (log_u - 1.0 / beta) / alpha
    slope_n, slope_d = np.zeros(SIZE), np.zeros(SIZE)  # of the terms' logarithms
    slope_n[1], slope_n[2] = 1.0 - alpha * w_b * b_a, alpha * w_b * b_a
    slope_n[3], slope_n[4], slope_n[6] = -w - alpha * w_b * b_alpha, -alpha * w_b * b_beta, -alpha * w_r
    slope_d[2], slope_d[4], slope_d[5] = 1.0, -v, -beta * v_r
    row[:] = s * slope_n + t * slope_d
    row[0] = floor / y
    if not bend.size:
        return y
    bend[:] = 0.0
    bend[0, 0] = floor / y
    for i in range(1, SIZE):
        for j in range(1, i + 1):
            bend[i, j] = s * slope_n[i] * slope_n[j] + t * slope_d[i] * slope_d[j]
    bend[5, 4] -= t * v_r
    bend[5, 5] -= t * beta * v_rr
    bend[6, 6] -= s * alpha * w_rr
    bend[6, 3] -= s * w_r
    if optimal < log_n:
        moves = np.array([0.0, b_a, -b_a, b_alpha, b_beta])
        for i in range(1, 5):
            bend[max(i, 3), min(i, 3)] -= s * w_b * moves[i]
            bend[6, i] -= s * alpha * w_br * moves[i]
            for j in range(1, i + 1):
                bend[i, j] -= s * alpha * w_bb * moves[i] * moves[j]
        bend[3, 3] -= s * w_b * b_alpha  # the product's rule counts it twice
        twist = s * alpha * w_b
        bend[3, 1] += twist / alpha**2
        bend[3, 2] -= twist / alpha**2
        bend[4, 3] += twist * b_beta / alpha
        bend[4, 4] -= twist / (alpha * beta**2)
        bend[3, 3] += twist * (1.0 / alpha**3 + 2.0 * b_alpha / alpha)
    return y


@njit(cache=True)
def _fill(theta: Array, logs: Array, value: Array, rows: Array) -> None:
    none = np.empty((0, 0))
    for r in range(theta.shape[0]):
        for i in range(logs.shape[1]):
            value[r, i] = evaluate_at(theta[r], logs[0, i], logs[1, i], logs[2, i], rows[r, i], none)
            rows[r, i] *= value[r, i]


class DataConstrained(Curve):
    """Repeated data: d seen, u unique."""

    name = "data_constrained"
    fitted = "log E, log A, log B, alpha, beta, log R_D, log R_N"
    equation = (
        "y = E + A n'^-alpha + B d'^-beta, d' = u (1 + R_D (1 - exp(-(d/u - 1)/R_D))), n' likewise with R_N"
    )
    variables = ("n", "d", "u")
    refined = 48
    compiled = True

    def evaluate(self, theta: Array, x: Points) -> Evaluated:
        """As `Curve.evaluate`."""
        logs = np.log(np.stack([x["n"], x["d"], x["u"]]))
        value = np.empty((len(theta), logs.shape[1]))
        rows = np.empty((*value.shape, SIZE))
        _fill(np.ascontiguousarray(theta), logs, value, rows)
        return value, rows

    def starts(self, x: Points, y: Array) -> Array:
        """A grid over exponents, R_D and R_N; E, A and B by non-negative least squares of relative residuals."""
        thin = slice(None, None, 1 + y.size // MOST_POINTS)
        log_n, log_d, log_u = (np.log(x[role][thin]) for role in ("n", "d", "u"))
        y = y[thin]
        least = 1e-9 * y.min()
        starts = []
        for alpha, beta, rd, rn in product(EXPONENTS, EXPONENTS, REPEATS, EXCESSES):
            worth_n, worth_d = log_n, _worths(log_u, log_d, rd)
            for _ in range(ROUNDS):
                terms = np.stack([np.ones_like(y), np.exp(-alpha * worth_n), np.exp(-beta * worth_d)], axis=1)
                linear = np.maximum(nnls(terms / y[:, None], np.ones_like(y))[0], least)
                e, a, b = np.log(linear)
                optimal = (np.log(alpha / beta) + a - b + beta * log_u) / alpha
                worth_n = _worths(np.minimum(optimal, log_n), log_n, rn)
            starts.append([e, a, b, alpha, beta, np.log(rd), np.log(rn)])
        return np.array(starts)

    def bounds(self, x: Points, y: Array) -> list[tuple[float, float]]:
        """As `Curve.bounds`."""
        floor = (np.log(y.min()) - 20, np.log(y.max()))
        return [floor, *[(-40.0, 60.0)] * 2, *[(1e-3, 3.0)] * 2, *[(-7.0, 14.0)] * 2]


def _worths(base: Array, log_size: Array, r: float) -> Array:
    """Logarithms (M,) of the worth of sizes; see the module."""
    return base + np.log1p(-r * np.expm1(-np.expm1(np.minimum(log_size - base, 700.0)) / r))
