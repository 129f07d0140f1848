"""Laws that are no sum of powers: each with its value, its derivatives, its starts and its bounds."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from itertools import product
from typing import ClassVar

import numpy as np

Array = np.ndarray
LEVEL_RATIO = 1.1
"""Sizes within 10 % are one level: parameter counts that differ by a head are no third size."""
Points = Mapping[str, Array]
Evaluated = tuple[Array, Array]
"""Values (R, M) and derivatives by the fitted parameters (R, M, P)."""


class Curve(ABC):
    """A law given by functions.

    Attributes:
        name: how the command line calls it.
        fitted: its parameters, `log` before those fitted as logarithms.
        equation: for people.
        variables: roles of the sizes.
        level_ratio: values within this ratio count as one level of the design.
        refined: starts, the best ones, that a search refines.
        compiled: whether the compiled Newton knows the law.
        terms: empty; only a `PowerSum` has terms.
    """

    name: ClassVar[str]
    fitted: ClassVar[str]
    equation: ClassVar[str]
    variables: ClassVar[tuple[str, ...]] = ("n",)
    level_ratio: ClassVar[float] = LEVEL_RATIO
    refined: ClassVar[int] = 8
    compiled: ClassVar[bool] = False
    terms: ClassVar[dict[str, dict[str, str]]] = {}

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(name.removeprefix("log ") for name in self.fitted.split(", "))

    @cached_property
    def logged(self) -> tuple[str, ...]:
        """Names of those fitted as logarithms."""
        return tuple(name for name in self.parameters if f"log {name}" in self.fitted.split(", "))

    @abstractmethod
    def evaluate(self, theta: Array, x: Points) -> Evaluated:
        """Values and derivatives at theta (R, P), x (M,) by variable."""

    @abstractmethod
    def starts(self, x: Points, y: Array) -> Array:
        """(S, P) starts for points x, y (M,)."""

    @abstractmethod
    def bounds(self, x: Points, y: Array) -> list[tuple[float, float]]:
        """Lowest and highest value of each parameter."""


class _LogLinear(Curve):
    """The straight line many plots with a logarithmic axis suggest."""

    name = "log_linear"
    fitted = "a, b"
    equation = "y = a - b ln n"

    def evaluate(self, theta: Array, x: Points) -> Evaluated:
        log_n = np.log(x["n"])
        rows = np.broadcast_to(np.stack([np.ones_like(log_n), -log_n], axis=1), (len(theta), log_n.size, 2))
        return theta[:, :1] - theta[:, 1:] * log_n, rows

    def starts(self, x: Points, y: Array) -> Array:
        slope, level = np.polyfit(np.log(x["n"]), y, 1)
        return np.array([[level, -slope], [y.mean(), 0.0]])

    def bounds(self, x: Points, y: Array) -> list[tuple[float, float]]:
        return [(-1e6, 1e6)] * 2


class _M3(Curve):
    """M3 of Alabdulmohsin et al. 2022, arXiv 2209.06640, section 3."""

    name = "m3"
    fitted = "log beta, c, log gamma"
    equation = "y = beta (1/n + gamma)^c"

    def evaluate(self, theta: Array, x: Points) -> Evaluated:
        beta, c, gamma = np.exp(theta[:, 0, None]), theta[:, 1, None], np.exp(theta[:, 2, None])
        base = 1 / x["n"] + gamma
        y = beta * base**c
        return y, np.stack([y, y * np.log(base), y * c * gamma / base], axis=2)

    def starts(self, x: Points, y: Array) -> Array:
        log_n = np.log(x["n"])
        knees = [log_n.min() - 8, np.median(log_n), log_n.max() - 1, log_n.max() + 2]
        starts = []
        for c, knee in product([0.1, 0.3, 0.6, 1.0, 2.0], knees):
            log_base = np.log(1 / x["n"] + np.exp(-knee))
            starts.append([(np.log(y) - c * log_base).mean(), c, -knee])
        return np.array(starts)

    def bounds(self, x: Points, y: Array) -> list[tuple[float, float]]:
        knee = (-np.log(x["n"].max()) - 25, -np.log(x["n"].min()) + 5)
        return [(-200.0, 200.0), (1e-6, 20.0), knee]


class _M4(Curve):
    """M4 of Alabdulmohsin et al. 2022, arXiv 2209.06640, equation 3: bounded by chance level and floor."""

    name = "m4"
    fitted = "log floor, log top, alpha, log beta, c"
    equation = "(y - floor) / (top - y)^alpha = beta n^-c"

    def evaluate(self, theta: Array, x: Points) -> Evaluated:
        """By Newton on the odds q = (y - low) / (high - y) of the floor and top."""
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
        rows = [low / above, alpha * high / below, tail, np.ones_like(t), -np.log(x["n"]) + 0 * t]
        by_y = 1 / above + alpha / below
        return low + above, np.stack(rows, axis=2) / by_y[..., None]

    def starts(self, x: Points, y: Array) -> Array:
        starts, alpha = [], 0.3
        for floor, top in product([1e-6, 0.8], [1.02, 1.5]):
            low = floor * y.min()
            high = max(min(top * y.max(), self._top(y)), y.max() * (1 + 1e-6))
            left = np.log(y - low) - alpha * np.log(high - y)
            slope, level = np.polyfit(np.log(x["n"]), left, 1)
            starts.append([np.log(low), np.log(high), alpha, level, max(-slope, 1e-3)])
        return np.array(starts)

    def _top(self, y: Array) -> float:
        """An error rate is at most 1; a loss that exceeds 1 is bounded at ten times its greatest value."""
        return 1.0 if y.max() < 1 else 10 * float(y.max())

    def bounds(self, x: Points, y: Array) -> list[tuple[float, float]]:
        low, high = np.log(y.min()), np.log(y.max())
        top = max(np.log(self._top(y)), high + 2e-9)
        return [(low - 30, low - 1e-9), (high + 1e-9, top), (0.0, 10.0), (-300.0, 300.0), (1e-6, 20.0)]


class _Broken(Curve):
    """Caballero et al. 2023, arXiv 2210.14891, equation 1 with one break."""

    name = "broken"
    fitted = "log a, log b, c0, c1, log d1, log f1"
    equation = "y = a + b n^-c0 (1 + (n/d1)^(1/f1))^(-c1 f1)"

    def evaluate(self, theta: Array, x: Points) -> Evaluated:
        a, b, f = (np.exp(theta[:, k, None]) for k in (0, 1, 5))
        c0, c1 = theta[:, 2, None], theta[:, 3, None]
        log_n = np.log(x["n"])
        z = (log_n - theta[:, 4, None]) / f
        soft = np.logaddexp(0, z)
        above = b * np.exp(-c0 * log_n - c1 * f * soft)
        share = np.exp(z - soft)
        by_f = -above * c1 * f * (soft - z * share)
        rows = [a + 0 * above, above, -above * log_n, -above * f * soft, above * c1 * share, by_f]
        return a + above, np.stack(rows, axis=2)

    def starts(self, x: Points, y: Array) -> Array:
        log_n = np.log(x["n"])
        starts = []
        for at, width, floor, c1 in product([0.2, 0.5, 0.8], [0.03, 0.3], [1e-4, 0.5, 0.9], [0.3, 2.0]):
            log_d = log_n.min() + at * np.ptp(log_n)
            a = floor * y.min()
            left = np.log(y - a) + c1 * width * np.logaddexp(0, (log_n - log_d) / width)
            slope, level = np.polyfit(log_n, left, 1)
            starts.append([np.log(a), level, -slope, c1, log_d, np.log(width)])
        return np.array(starts)

    def bounds(self, x: Points, y: Array) -> list[tuple[float, float]]:
        floor = (np.log(y.min()) - 25, np.log(y.max()))
        knee = (np.log(x["n"].min()) - 2, np.log(x["n"].max()) + 2)
        return [floor, (-300.0, 300.0), (-5.0, 10.0), (-30.0, 30.0), knee, (-6.0, 3.0)]


class _Kaplan(Curve):
    """Kaplan et al. 2020, arXiv 2001.08361, equation 1.5: without a floor, the two sizes inside one power."""

    name = "kaplan"
    fitted = "log A, log B, alpha, beta"
    equation = "y = ((A / n)^(alpha/beta) + B / d)^beta"
    variables = ("n", "d")

    def evaluate(self, theta: Array, x: Points) -> Evaluated:
        """In s, the share of the first term in the bracket, and g, the bracket's logarithm."""
        a, b, alpha, beta = (theta[:, k, None] for k in range(4))
        log_n, log_d = a - np.log(x["n"]), b - np.log(x["d"])
        first = alpha / beta * log_n
        g = np.logaddexp(first, log_d)
        s, y = np.exp(first - g), np.exp(beta * g)
        rows = [alpha * s, beta * (1 - s), s * log_n, g - s * first]
        return y, y[..., None] * np.stack(rows, axis=2)

    def starts(self, x: Points, y: Array) -> Array:
        log_n, log_d, level = np.log(x["n"]), np.log(x["d"]), np.log(y).mean()
        starts = []
        for alpha, beta, share in product([0.05, 0.1, 0.3, 0.6], [0.05, 0.1, 0.3, 0.6], [-3.0, 0.0, 3.0]):
            first, second = (level / beta - np.logaddexp(0, -side) for side in (share, -share))
            starts.append([log_n.mean() + first * beta / alpha, log_d.mean() + second, alpha, beta])
        return np.array(starts)

    def bounds(self, x: Points, y: Array) -> list[tuple[float, float]]:
        return [(-400.0, 800.0), (-400.0, 800.0), (1e-4, 10.0), (1e-4, 10.0)]


class _ErrorLaw(Curve):
    """Gadre et al. 2024, arXiv 2403.08540, equation 5: downstream error from pretraining loss."""

    name = "error_law"
    fitted = "log epsilon, log k, log gamma"
    equation = "y = epsilon - k exp(-gamma n), n a pretraining loss"
    level_ratio = 1.001  # losses lie close together

    def evaluate(self, theta: Array, x: Points) -> Evaluated:
        top, k, gamma = (np.exp(theta[:, j, None]) for j in range(3))
        drop = k * np.exp(-gamma * x["n"])
        return top - drop, np.stack([top + 0 * drop, -drop, drop * gamma * x["n"]], axis=2)

    def starts(self, x: Points, y: Array) -> Array:
        span = max(float(np.ptp(x["n"])), 1e-12)
        starts = []
        for gamma in np.array([0.1, 0.5, 1.0, 2.0, 4.0, 8.0]) / span:
            columns = np.stack([np.ones_like(y), -np.exp(-gamma * x["n"])], axis=1)
            top, k = np.linalg.lstsq(columns, y, rcond=None)[0]
            starts.append(np.log([max(top, y.max()), max(k, 1e-6), gamma]))
        return np.array(starts)

    def bounds(self, x: Points, y: Array) -> list[tuple[float, float]]:
        return [(-60.0, np.log(y.max()) + 5), (-60.0, 100.0), (-60.0, 12.0)]


CURVES = (_LogLinear(), _M3(), _M4(), _Broken(), _Kaplan(), _ErrorLaw())
