"""Laws in one size that are no sum of powers: each with its value, its derivatives, its starts and its bounds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
LEVEL_RATIO = 1.1
"""Sizes within 10 % are one level: parameter counts that differ by a head are no third size."""
Points = Mapping[str, Array]
Evaluated = tuple[Array, Array]
"""Values (R, M) and derivatives by the fitted parameters (R, M, P)."""


@dataclass(frozen=True)
class Curve:
    """A law given by functions.

    Attributes:
        name: how the command line calls it.
        variables: roles of the sizes.
        parameters: names.
        logged: those fitted as logarithms.
        equation: for people.
        source: where it comes from.
        evaluate: (theta (R, P), x (M,) by variable) -> values and derivatives.
        starts: (x, y (M,)) -> (S, P) starts.
        bounds: (x, y) -> lowest and highest parameters, (P,) each.
        rising: whether y may rise with the size.
        level_ratio: values within this ratio count as one level of the design.
    """

    name: str
    variables: tuple[str, ...]
    parameters: tuple[str, ...]
    logged: tuple[str, ...]
    equation: str
    source: str
    evaluate: Callable[[Array, Points], Evaluated]
    starts: Callable[[Points, Array], Array]
    bounds: Callable[[Points, Array], tuple[Array, Array]]
    rising: bool = False
    level_ratio: float = LEVEL_RATIO


def grid_of(*axes: list[float] | Array) -> Array:
    """All combinations of the axes' values, one row each."""
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def _log_linear(theta: Array, x: Points) -> Evaluated:
    log_n = np.log(x["n"])
    rows = np.broadcast_to(np.stack([np.ones_like(log_n), -log_n], axis=1), (len(theta), log_n.size, 2))
    return theta[:, :1] - theta[:, 1:] * log_n, rows


def _log_linear_starts(x: Points, y: Array) -> Array:
    slope, level = np.polyfit(np.log(x["n"]), y, 1)
    return np.array([[level, -slope], [y.mean(), 0.0]])


LOG_LINEAR = Curve(
    "log_linear",
    ("n",),
    ("a", "b"),
    (),
    "y = a - b ln n",
    "the straight line many plots with a logarithmic axis suggest",
    _log_linear,
    _log_linear_starts,
    lambda x, y: (np.full(2, -1e6), np.full(2, 1e6)),
    rising=True,
)


def _m3(theta: Array, x: Points) -> Evaluated:
    beta, c, gamma = np.exp(theta[:, 0, None]), theta[:, 1, None], np.exp(theta[:, 2, None])
    base = 1 / x["n"] + gamma
    y = beta * base**c
    return y, np.stack([y, y * np.log(base), y * c * gamma / base], axis=2)


def _m3_starts(x: Points, y: Array) -> Array:
    log_n = np.log(x["n"])
    starts = []
    for c in (0.1, 0.3, 0.6, 1.0, 2.0):
        for knee in (log_n.min() - 8, np.median(log_n), log_n.max() - 1, log_n.max() + 2):
            base = 1 / x["n"] + np.exp(-knee)
            starts.append([float((np.log(y) - c * np.log(base)).mean()), c, -knee])
    return np.array(starts)


M3 = Curve(
    "m3",
    ("n",),
    ("beta", "c", "gamma"),
    ("beta", "gamma"),
    "y = beta (1/n + gamma)^c",
    "M3 of Alabdulmohsin et al. 2022, arXiv 2209.06640, section 3",
    _m3,
    _m3_starts,
    lambda x, y: (
        np.array([-200.0, 1e-6, -np.log(x["n"].max()) - 25]),
        np.array([200.0, 20.0, -np.log(x["n"].min()) + 5]),
    ),
)


def _m4(theta: Array, x: Points) -> Evaluated:
    """Solve (y - low) / (high - y)^alpha = beta n^-c for y, by Newton on the odds q = (y - low) / (high - y)."""
    low, high = np.exp(theta[:, 0, None]), np.exp(theta[:, 1, None])
    alpha, log_beta, c = theta[:, 2, None], theta[:, 3, None], theta[:, 4, None]
    span = high - low
    goal = log_beta - c * np.log(x["n"])
    # In t = ln q the equation is increasing and nearly linear: t + (1 - alpha) ln(high - y) = goal.
    t = goal - (1 - alpha) * np.log(span)
    for _ in range(60):
        tail = np.log(span) - np.logaddexp(0, t)  # ln(high - y)
        miss = t + (1 - alpha) * tail - goal
        slope = np.maximum(1 - (1 - alpha) / (1 + np.exp(-t)), 1e-12)
        move = np.maximum(np.minimum(miss / slope, 20), -20)
        t = t - move
        if np.abs(move).max() < 1e-10:
            break
    t = np.clip(t, -30, 30)  # nearer to a bound than rounding can tell
    tail = np.log(span) - np.logaddexp(0, t)
    above, below = np.exp(t + tail), np.exp(tail)
    y = low + above
    by_y = 1 / above + alpha / below
    rows = [
        low / above,
        alpha * high / below,
        tail + 0 * y,
        np.ones_like(y),
        -np.log(x["n"]) + 0 * y,
    ]
    return y, np.stack([row / by_y for row in rows], axis=2)


def _m4_starts(x: Points, y: Array) -> Array:
    starts = []
    for floor in (1e-6, 0.8):
        for top in (1.02, 1.5):
            low, high = floor * y.min(), min(top * y.max(), _m4_top(y))
            high = max(high, y.max() * (1 + 1e-6))
            for alpha in (0.3,):
                left = np.log(y - low) - alpha * np.log(high - y)
                slope, level = np.polyfit(np.log(x["n"]), left, 1)
                starts.append([np.log(low), np.log(high), alpha, level, max(-slope, 1e-3)])
    return np.array(starts)


def _m4_top(y: Array) -> float:
    """An error rate is at most 1; a loss that exceeds 1 is bounded at ten times its greatest value."""
    return 1.0 if y.max() < 1 else 10 * float(y.max())


M4 = Curve(
    "m4",
    ("n",),
    ("floor", "top", "alpha", "beta", "c"),
    ("floor", "top", "beta"),
    "(y - floor) / (top - y)^alpha = beta n^-c",
    "M4 of Alabdulmohsin et al. 2022, arXiv 2209.06640, equation 3: bounded by chance level and floor",
    _m4,
    _m4_starts,
    lambda x, y: (
        np.array([np.log(y.min()) - 30, np.log(y.max()) + 1e-9, 0.0, -300.0, 1e-6]),
        np.array(
            [np.log(y.min()) - 1e-9, max(np.log(_m4_top(y)), np.log(y.max()) + 2e-9), 10.0, 300.0, 20.0]
        ),
    ),
)


def _broken(theta: Array, x: Points) -> Evaluated:
    a, b, f = (np.exp(theta[:, k, None]) for k in (0, 1, 5))
    c0, c1 = theta[:, 2, None], theta[:, 3, None]
    log_n = np.log(x["n"])
    z = (log_n - theta[:, 4, None]) / f
    soft = np.logaddexp(0, z)
    above = b * np.exp(-c0 * log_n - c1 * f * soft)
    share = np.exp(z - soft)
    rows = [
        a + 0 * above,
        above,
        -above * log_n,
        -above * f * soft,
        above * c1 * share,
        -above * c1 * f * (soft - z * share),
    ]
    return a + above, np.stack(rows, axis=2)


def _broken_starts(x: Points, y: Array) -> Array:
    log_n = np.log(x["n"])
    starts = []
    for at, width, floor, c1 in grid_of([0.2, 0.5, 0.8], [0.03, 0.3], [1e-4, 0.5, 0.9], [0.3, 2.0]):
        log_d = log_n.min() + at * np.ptp(log_n)
        a = floor * y.min()
        left = np.log(y - a) + c1 * width * np.logaddexp(0, (log_n - log_d) / width)
        slope, level = np.polyfit(log_n, left, 1)
        starts.append([np.log(a), level, -slope, c1, log_d, np.log(width)])
    return np.array(starts)


BROKEN = Curve(
    "broken",
    ("n",),
    ("a", "b", "c0", "c1", "d1", "f1"),
    ("a", "b", "d1", "f1"),
    "y = a + b n^-c0 (1 + (n/d1)^(1/f1))^(-c1 f1)",
    "Caballero et al. 2023, arXiv 2210.14891, equation 1 with one break",
    _broken,
    _broken_starts,
    lambda x, y: (
        np.array([np.log(y.min()) - 25, -300.0, -5.0, -30.0, np.log(x["n"].min()) - 2, -6.0]),
        np.array([np.log(y.max()), 300.0, 10.0, 30.0, np.log(x["n"].max()) + 2, 3.0]),
    ),
    rising=True,
)


def _error_law(theta: Array, x: Points) -> Evaluated:
    top, k, gamma = (np.exp(theta[:, j, None]) for j in range(3))
    drop = k * np.exp(-gamma * x["n"])
    return top - drop, np.stack([top + 0 * drop, -drop, drop * gamma * x["n"]], axis=2)


def _error_law_starts(x: Points, y: Array) -> Array:
    span = max(float(np.ptp(x["n"])), 1e-12)
    starts = []
    for gamma in np.array([0.1, 0.5, 1.0, 2.0, 4.0, 8.0]) / span:
        columns = np.stack([np.ones_like(y), -np.exp(-gamma * x["n"])], axis=1)
        top, k = np.linalg.lstsq(columns, y, rcond=None)[0]
        starts.append(np.log([max(top, y.max()), max(k, 1e-6), gamma]))
    return np.array(starts)


ERROR_LAW = Curve(
    "error_law",
    ("n",),
    ("epsilon", "k", "gamma"),
    ("epsilon", "k", "gamma"),
    "y = epsilon - k exp(-gamma n), n a pretraining loss",
    "Gadre et al. 2024, arXiv 2403.08540, equation 5: downstream error from pretraining loss",
    _error_law,
    _error_law_starts,
    lambda x, y: (np.full(3, -60.0), np.array([np.log(y.max()) + 5, 100.0, 12.0])),
    rising=True,
    level_ratio=1.001,  # losses lie close together
)
