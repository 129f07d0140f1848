"""A law laid out at points: starts, bounds, minimisation, and parameters in the units of the data.

The two classes answer the same calls, one for sums of powers (compiled Newton), one for other curves (batched
Levenberg-Marquardt). Everything above them is indifferent to which law is fitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Generic, NamedTuple, Self, TypeVar

import numpy as np
from scipy.optimize import nnls

from geoladder.scaling.fit.lm import descend
from geoladder.scaling.laws.curves import Array, Curve, Evaluated
from geoladder.scaling.laws.derivatives import System
from geoladder.scaling.laws.forms import Form, PowerSum, Term
from geoladder.scaling.laws.kernel import minimise
from geoladder.scaling.laws.loss import Loss

SMALLEST_TERM = 1e-9
"""A term below this share of the smallest y counts as zero."""
GREATEST_EXPONENT = 10.0
EXPONENTS = (0.03, 0.1, 0.2, 0.35, 0.55, 0.9, 1.6, 3.5)
"""Grid of exponents the global search starts from, as many for each exponent of the law."""
CURVE_STARTS = 8
RISING_EXPONENTS = (-0.3, 0.0, 0.05, 0.2, 0.5, 1.0)


Law = TypeVar("Law", PowerSum, Curve)


class Solution(NamedTuple):
    """R minimisers (R, P), their objectives (R,), and whether each fit settled (R,)."""

    theta: Array
    objective: Array
    settled: Array


@dataclass(frozen=True)
class _LaidOut(Generic[Law]):
    """What both kinds share: the conversion of parameters.

    Attributes:
        form: the law.
        x: (M,) values by variable.
        centre: mean logarithm by variable, subtracted; zero makes a coefficient's parameter its own logarithm.
    """

    form: Law
    x: Mapping[str, Array]
    centre: Mapping[str, float]

    def natural(self, theta: Array) -> Array:
        """(R, P) parameters in the units of the data, in the order of the law's names."""
        result = self._shifted(theta, self.centre)
        with np.errstate(over="ignore"):
            result[:, self._logged] = np.exp(result[:, self._logged])
        return result

    def fitted(self, natural: Array) -> Array:
        """The inverse of `natural`; a logged parameter of 0 counts as 1e-300."""
        theta = np.array(natural, dtype=np.float64)
        theta[:, self._logged] = np.log(np.maximum(theta[:, self._logged], 1e-300))
        return self._shifted(theta, {v: -c for v, c in self.centre.items()})

    def isolating(self, name: str) -> Self:
        """The same law in parameters of which `name` is one by itself, so that it can be held at a value."""
        sizes = [v for term in self._terms if term.coefficient == name for v, _ in term.powers]
        return replace(self, centre={v: 0.0 if v in sizes else c for v, c in self.centre.items()})

    def converted(self, theta: Array, other: "Problem") -> Array:
        """Parameters (R, P) of this problem as parameters of one with another centre."""
        return self._shifted(theta, {v: c - other.centre[v] for v, c in self.centre.items()})

    def is_log(self, name: str) -> bool:
        """Whether a parameter is fitted as its logarithm."""
        return name in self.form.logged

    @property
    def _logged(self) -> list[int]:
        return [k for k, name in enumerate(self.form.parameters) if self.is_log(name)]

    @property
    def _terms(self) -> tuple[Term, ...]:
        return self.form.terms if isinstance(self.form, PowerSum) else ()

    def _shifted(self, theta: Array, logs: Mapping[str, float]) -> Array:
        """Parameters (R, P) at a centre that lies `logs` below in the logarithm of each variable."""
        names = self.form.parameters
        result = np.array(theta, dtype=np.float64)
        for term in self._terms:
            result[:, names.index(term.coefficient)] += sum(
                theta[:, names.index(exponent)] * logs[variable] for variable, exponent in term.powers
            )
        return result


class PowerProblem(_LaidOut[PowerSum]):
    """A sum of powers at points; at the mean logarithm, a coefficient and its exponent are nearly uncorrelated."""

    @cached_property
    def plan(self) -> tuple[Array, Array]:
        """`which` (T, K) and `value` (T, K, M) of `derivatives.System`."""
        names, points = self.form.parameters, len(next(iter(self.x.values())))
        factors = 1 + max(len(term.powers) for term in self.form.terms)
        index = np.full((len(self.form.terms), factors), -1, dtype=np.int64)
        value = np.zeros((len(self.form.terms), factors, points))
        for t, term in enumerate(self.form.terms):
            index[t, 0], value[t, 0] = names.index(term.coefficient), 1.0
            for k, (variable, exponent) in enumerate(term.powers, start=1):
                index[t, k] = names.index(exponent)
                value[t, k] = self.centre[variable] - np.log(self.x[variable])
        return index, value

    def starts(self, y: Array) -> Array:
        """(S, P): a grid over the exponents, coefficients by non-negative least squares of relative residuals."""
        coefficients = self.form.coefficients
        index, value = self.plan
        floor = SMALLEST_TERM * y.min()
        starts = []
        grid = RISING_EXPONENTS if self.form.rising else EXPONENTS
        for exponents in product(grid, repeat=len(self.form.exponents)):
            theta = np.array([*np.zeros(len(coefficients)), *exponents])
            factors = np.where(index >= 0, theta[index], 0.0)[..., None]
            powers = np.exp((factors * value).sum(axis=1))
            owner = index[:, 0]
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
        theta = np.array(theta, dtype=np.float64)
        targets, weights = np.atleast_2d(target), np.atleast_2d(weight).astype(np.float64)
        system = System(*self.plan, targets, weights, loss.scale)
        deltas = loss.deltas[-1:] if warm else loss.deltas
        objective, settled = minimise(theta, np.atleast_2d(low), np.atleast_2d(high), system, deltas)
        return Solution(theta, objective, settled)

    def evaluate(self, theta: Array) -> Evaluated:
        """Values (R, M) and derivatives (R, M, P) of the law."""
        index, value = self.plan
        factors = np.where(index >= 0, theta[:, index], 0.0)[..., None]
        terms = np.exp((factors * value).sum(axis=2))
        rows = np.zeros((*terms.shape[::2], theta.shape[1]))
        for t, k in zip(*np.nonzero(index >= 0), strict=True):
            rows[:, :, index[t, k]] += terms[:, t] * value[t, k]
        return terms.sum(axis=1), rows


class CurveProblem(_LaidOut[Curve]):
    """A curve at points, in parameters that need no centring."""

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
        evaluate = self.evaluate
        return Solution(*descend(evaluate, theta, low, high, target, weight, loss, deltas, rivals=not warm))

    def evaluate(self, theta: Array) -> Evaluated:
        """Values (R, M) and derivatives (R, M, P) of the law."""
        return self.form.evaluate(theta, self.x)


Problem = PowerProblem | CurveProblem


def lay_out(form: Form, x: Mapping[str, Array]) -> Problem:
    """A law at points `x`, (M,) values by variable."""
    values = {variable: np.asarray(x[variable], dtype=np.float64) for variable in form.variables}
    if isinstance(form, Curve):
        return CurveProblem(form, values, {})
    if not values:  # a constant has no variable, but as many points
        values = {key: np.asarray(v, dtype=np.float64) for key, v in x.items()}
    return PowerProblem(form, values, {v: float(np.log(values[v]).mean()) for v in form.variables})
