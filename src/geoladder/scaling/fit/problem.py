"""A law laid out at points: starts, bounds, minimisation, and parameters in the units of the data.

The two classes answer the same calls, one for sums of powers (compiled Newton), one for other curves (batched
Levenberg-Marquardt). Everything above them is indifferent to which law is fitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from geoladder.scaling.fit.lm import descend
from geoladder.scaling.laws.curves import Array, Curve, Evaluated
from geoladder.scaling.laws.forms import GREATEST_EXPONENT, SMALLEST_TERM, Form, PowerSum, design
from geoladder.scaling.laws.kernel import minimise
from geoladder.scaling.laws.loss import Loss

EXPONENTS = (0.03, 0.1, 0.2, 0.35, 0.55, 0.9, 1.6, 3.5)
"""Grid of exponents the global search starts from, as many for each exponent of the law."""
CURVE_STARTS = 8
RISING_EXPONENTS = (-0.3, 0.0, 0.05, 0.2, 0.5, 1.0)


class Solution(NamedTuple):
    """R minimisers (R, P), their objectives (R,), and whether each fit settled (R,)."""

    theta: Array
    objective: Array
    settled: Array


@dataclass(frozen=True)
class PowerProblem:
    """A sum of powers at points `x`.

    Attributes:
        form: the law.
        x: (M,) values by variable.
        centre: mean logarithm by variable, subtracted; zero makes a coefficient's parameter its own logarithm.
    """

    form: PowerSum
    x: Mapping[str, Array]
    centre: Mapping[str, float]

    def starts(self, y: Array) -> Array:
        """(S, P): a grid over the exponents, coefficients by non-negative least squares of relative residuals."""
        coefficients = self.form.coefficients
        plan = design(self.form, self.x, self.centre)
        floor = SMALLEST_TERM * y.min()
        starts = []
        grid = RISING_EXPONENTS if self.form.rising else EXPONENTS
        for exponents in product(grid, repeat=len(self.form.exponents)):
            theta = np.array([*np.zeros(len(coefficients)), *exponents])
            factors = np.where(plan.index >= 0, theta[plan.index], 0.0)[..., None]
            powers = np.exp((factors * plan.value).sum(axis=1))
            owner = plan.index[:, 0]
            columns = np.stack([powers[owner == k].sum(axis=0) for k in range(len(coefficients))], axis=1)
            linear, _ = nnls(columns / y[:, None], np.ones_like(y))
            theta[: len(coefficients)] = np.log(np.maximum(linear, floor))
            starts.append(theta)
        return np.array(starts)

    def bounds(self, y: Array) -> tuple[Array, Array]:
        """Lowest and highest parameters; the floor may lie above the smallest y, noise puts half a plateau below."""
        low, high = [], []
        for name in self.form.parameters:
            if name in self.form.exponents:
                low.append(-GREATEST_EXPONENT if self.form.rising else 0.0)
                high.append(GREATEST_EXPONENT)
            else:
                shift = self._shift_range(name)
                low.append(np.log(SMALLEST_TERM * y.min()) + shift[0])
                high.append(np.log(1e3 * y.max()) + shift[1])
        return np.array(low), np.array(high)

    def _shift_range(self, coefficient: str) -> tuple[float, float]:
        """Where an uncentred coefficient may lie beyond its centred range: exponent times what is not subtracted."""
        for term in self.form.terms:
            if term.coefficient == coefficient and term.powers:
                gaps = [float(np.log(self.x[v]).mean()) - self.centre[v] for v, _ in term.powers]
                reach = [g * GREATEST_EXPONENT for g in gaps]
                return sum(min(r, 0.0) for r in reach), sum(max(r, 0.0) for r in reach)
        return 0.0, 0.0

    def minimise(
        self,
        theta: Array,
        low: Array,
        high: Array,
        target: Array,
        weight: Array,
        loss: Loss,
        *,
        warm: bool = False,
    ) -> Solution:
        """Refine starts (R, P); `target` and `weight` are (R, M) or (1, M).

        A `warm` start is near its optimum: the Huber continuation is skipped.
        """
        plan = design(self.form, self.x, self.centre)
        theta = np.array(theta, dtype=np.float64)
        deltas = loss.deltas[-1:] if warm else loss.deltas
        objective, _, settled = minimise(
            theta,
            np.atleast_2d(low),
            np.atleast_2d(high),
            plan.index,
            plan.value,
            np.atleast_2d(target),
            np.atleast_2d(weight).astype(np.float64),
            loss.scale,
            deltas,
        )
        return Solution(theta, objective, settled)

    def evaluate(self, theta: Array, x: Mapping[str, Array]) -> tuple[Array, Array]:
        """Values (R, M) and derivatives (R, M, P) of the law at other points."""
        plan = design(self.form, x, self.centre)
        factors = np.where(plan.index >= 0, theta[:, plan.index], 0.0)[..., None]
        terms = np.exp((factors * plan.value).sum(axis=2))
        rows = np.zeros((*terms.shape[::2], theta.shape[1]))
        for t in range(terms.shape[1]):
            for k in range(plan.index.shape[1]):
                p = plan.index[t, k]
                if p >= 0:
                    rows[:, :, p] += terms[:, t] * plan.value[t, k]
        return terms.sum(axis=1), rows

    def natural(self, theta: Array) -> Array:
        """(R, P) parameters in the units of the data, in the order of the law's names."""
        result = self._shifted(theta, self.centre)
        count = len(self.form.coefficients)
        with np.errstate(over="ignore"):
            result[:, :count] = np.exp(result[:, :count])
        return result

    def fitted(self, natural: Array) -> Array:
        """The inverse of `natural`; a coefficient of 0 counts as 1e-300."""
        theta = np.array(natural, dtype=np.float64)
        count = len(self.form.coefficients)
        theta[:, :count] = np.log(np.maximum(theta[:, :count], 1e-300))
        return self._shifted(theta, {v: -c for v, c in self.centre.items()})

    def isolating(self, name: str) -> "PowerProblem":
        """The same law in parameters of which `name` is one by itself, so that it can be held at a value."""
        sizes = [v for term in self.form.terms if term.coefficient == name for v, _ in term.powers]
        return PowerProblem(self.form, self.x, {v: 0.0 if v in sizes else c for v, c in self.centre.items()})

    def converted(self, theta: Array, other: "Problem") -> Array:
        """Parameters (R, P) of this problem as parameters of one with another centre."""
        assert isinstance(other, PowerProblem)
        return self._shifted(theta, {v: c - other.centre[v] for v, c in self.centre.items()})

    def _shifted(self, theta: Array, logs: Mapping[str, float]) -> Array:
        """Parameters (R, P) at a centre that lies `logs` below in the logarithm of each variable."""
        names = self.form.parameters
        result = np.array(theta, dtype=np.float64)
        for term in self.form.terms:
            result[:, names.index(term.coefficient)] += sum(
                theta[:, names.index(exponent)] * logs[variable] for variable, exponent in term.powers
            )
        return result

    def is_log(self, name: str) -> bool:
        """Whether a parameter is fitted as its logarithm."""
        return name in self.form.coefficients


@dataclass(frozen=True)
class CurveProblem:
    """A curve at points `x`; same calls as `PowerProblem`, in parameters that need no centring."""

    form: Curve
    x: Mapping[str, Array]

    def starts(self, y: Array) -> Array:
        """(S, P): the best few of the curve's own, by squared log residuals."""
        low, high = self.bounds(y)
        theta = np.clip(self.form.starts(self.x, y), low, high)
        with np.errstate(all="ignore"):
            miss = np.log(self.form.evaluate(theta, self.x)[0]) - np.log(y)
        return theta[np.argsort(np.nan_to_num((miss**2).sum(axis=1), nan=np.inf))[:CURVE_STARTS]]

    def bounds(self, y: Array) -> tuple[Array, Array]:
        """The curve's own."""
        return self.form.bounds(self.x, y)

    def minimise(
        self,
        theta: Array,
        low: Array,
        high: Array,
        target: Array,
        weight: Array,
        loss: Loss,
        *,
        warm: bool = False,
    ) -> Solution:
        """Refine starts (R, P) by batched Levenberg-Marquardt; those that are not `warm` are rivals."""
        deltas = loss.deltas[-1:] if warm else loss.deltas

        def evaluate(theta: Array) -> Evaluated:
            return self.form.evaluate(theta, self.x)

        return Solution(*descend(evaluate, theta, low, high, target, weight, loss, deltas, rivals=not warm))

    def evaluate(self, theta: Array, x: Mapping[str, Array]) -> tuple[Array, Array]:
        """Values (R, M) and derivatives (R, M, P) of the law at other points."""
        return self.form.evaluate(theta, x)

    def natural(self, theta: Array) -> Array:
        """(R, P) parameters in the units of the data."""
        logged = np.array([self.is_log(name) for name in self.form.parameters])
        with np.errstate(over="ignore"):
            return np.where(logged, np.exp(np.where(logged, theta, 0.0)), theta)

    def fitted(self, natural: Array) -> Array:
        """The inverse of `natural`; a logged parameter of 0 counts as 1e-300."""
        logged = np.array([self.is_log(name) for name in self.form.parameters])
        return np.where(logged, np.log(np.maximum(np.where(logged, natural, 1.0), 1e-300)), natural)

    def isolating(self, name: str) -> "CurveProblem":
        """This problem: every parameter can be held."""
        return self

    def converted(self, theta: Array, other: "Problem") -> Array:
        """The same parameters."""
        return theta

    def is_log(self, name: str) -> bool:
        """Whether a parameter is fitted as its logarithm."""
        return name in self.form.logged


Problem = PowerProblem | CurveProblem


def lay_out(form: Form, x: Mapping[str, Array]) -> Problem:
    """A law at points `x`, (M,) values by variable."""
    values = {variable: np.asarray(x[variable], dtype=np.float64) for variable in form.variables}
    if isinstance(form, Curve):
        return CurveProblem(form, values)
    if not values:  # a constant has no variable, but as many points
        values = {key: np.asarray(v, dtype=np.float64) for key, v in x.items()}
    return PowerProblem(form, values, {v: float(np.log(values[v]).mean()) for v in form.variables})
