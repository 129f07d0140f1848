"""A law and the runs it is fitted to: starts, bounds, minimisation, and parameters in the units of the data.

Sums of powers are minimised by the compiled Newton, other curves by batched Levenberg-Marquardt; everything above is
indifferent to which law is fitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from scipy import sparse, special
from scipy.optimize import nnls

from geoladder.errors import GeoladderError
from geoladder.scaling.fit.lm import descend, mixed
from geoladder.scaling.fit.points import Points
from geoladder.scaling.laws.curves import Array, Curve, Evaluated
from geoladder.scaling.laws.forms import Form
from geoladder.scaling.laws.loss import LOG, Loss
from geoladder.scaling.laws.newton import System, minimise

SMALLEST_TERM = 1e-9
"""A term below this share of the smallest y counts as zero."""
GREATEST_EXPONENT = 10.0
EXPONENTS = (0.03, 0.1, 0.2, 0.35, 0.55, 0.9, 1.6, 3.5)
"""Grid of exponents the global search starts from, as many for each exponent of the law."""
RISING_EXPONENTS = (-0.3, 0.0, 0.05, 0.2, 0.5, 1.0)
AT_BOUND = 1e-6


@dataclass(frozen=True)
class Problem:
    """A law to be fitted, in parameters theta (R, P).

    A coefficient is fitted as its logarithm, at sizes measured in units of their geometric mean: there it is nearly
    uncorrelated with its exponents.

    Attributes:
        form: the law.
        read: the runs.
        loss: what is summed.
        fixed: parameters held, in the units of the data.
        isolated: a coefficient that is to be a parameter by itself, so that it can be held at a value.
        whiten: (M, M) what turns residuals of runs that share something into independent ones, their weights
            included; None where runs are independent.
    """

    form: Form
    read: Points
    loss: Loss
    fixed: Mapping[str, float]
    isolated: str = ""
    whiten: sparse.csr_array | None = None

    @property
    def weight(self) -> Array:
        """(M,) weights of the residuals, or of the whitened ones."""
        return self.read.weight if self.whiten is None else np.ones(len(self.read.y))

    @cached_property
    def centre(self) -> dict[str, float]:
        """Logarithm of each size's unit; at 0, as where a coefficient is held, its parameter is its own logarithm."""
        single = (*self.fixed, self.isolated)
        uncentred = {v for name in single for v in self.form.terms.get(name, {})}
        means = {v: float(np.log(self.read.x[v]).mean()) for v in self.form.variables}
        return {variable: 0.0 if variable in uncentred else mean for variable, mean in means.items()}

    def converted(self, theta: Array, other: "Problem") -> Array:
        """Parameters (R, P) of this problem as parameters of one with another centre."""
        return self._shifted(theta, {v: c - other.centre[v] for v, c in self.centre.items()})

    def natural(self, theta: Array) -> Array:
        """(R, P) parameters in the units of the data, in the order of the law's names."""
        moved = self._shifted(theta, self.centre)
        with np.errstate(over="ignore"):
            return np.where(self._logged, np.exp(moved), moved)

    def fitted(self, natural: Array) -> Array:
        """The inverse of `natural`; a logged parameter of 0 counts as 1e-300."""
        theta = np.where(self._logged, np.log(np.maximum(natural, 1e-300)), natural)
        return self._shifted(theta, {v: -c for v, c in self.centre.items()})

    def named(self, theta: Array) -> dict[str, float]:
        """One set of parameters (P,) by name, in the units of the data."""
        return dict(zip(self.form.parameters, self.natural(theta[None])[0].tolist(), strict=True))

    @property
    def _logged(self) -> Array:
        return np.isin(self.form.parameters, self.form.logged)

    def _shifted(self, theta: Array, logs: Mapping[str, float]) -> Array:
        """Parameters (R, P) at a centre that lies `logs` below in the logarithm of each variable."""
        names = self.form.parameters
        result = np.array(theta, dtype=np.float64)
        for coefficient, powers in self.form.terms.items():
            result[:, names.index(coefficient)] += sum(
                theta[:, names.index(exponent)] * logs[variable] for variable, exponent in powers.items()
            )
        return result

    @cached_property
    def target(self) -> Array:
        """(M,) errors on the scale of the loss."""
        return self.loss.target(self.read.y)

    @cached_property
    def plan(self) -> tuple[Array, Array]:
        """`which` (T, K) and `value` (T, K, M) of `newton.System`."""
        if isinstance(self.form, Curve):
            logs = np.log([self.read.x[variable] for variable in self.form.variables])
            return np.empty((0, 0), dtype=np.int64), logs[None]
        names, terms = self.form.parameters, self.form.terms
        factors = 1 + max(map(len, terms.values()))
        index = np.full((len(terms), factors), -1, dtype=np.int64)
        value = np.zeros((len(terms), factors, len(self.read.y)))
        for t, (coefficient, powers) in enumerate(terms.items()):
            index[t, 0], value[t, 0] = names.index(coefficient), 1.0
            for k, (variable, exponent) in enumerate(powers.items(), start=1):
                index[t, k] = names.index(exponent)
                value[t, k] = self.centre[variable] - np.log(self.read.x[variable])
        return index, value

    def evaluate(self, theta: Array) -> Evaluated:
        """Values (R, M) and derivatives (R, M, P) of the law."""
        if isinstance(self.form, Curve):
            return self.form.evaluate(theta, self.read.x)
        (index, value), terms = self.plan, self._terms(theta)
        rows = np.zeros((*terms.shape[::2], theta.shape[1]))
        for t, k in zip(*np.nonzero(index >= 0), strict=True):
            rows[:, :, index[t, k]] += terms[:, t] * value[t, k]
        return terms.sum(axis=1), rows

    def _terms(self, theta: Array) -> Array:
        """Values (R, T, M) of the terms of a sum of powers."""
        index, value = self.plan
        factors = np.where(index >= 0, theta[:, index], 0.0)[..., None]
        return np.exp((factors * value).sum(axis=2))

    def log_slopes(self, theta: Array) -> Array:
        """Derivatives (M, P) of the law's logarithm at one set of parameters (P,)."""
        value, rows = self.evaluate(theta[None])
        return rows[0] / value[0][:, None]

    def residuals(self, theta: Array) -> Array:
        """(M,) fit minus data on the scale of the loss, at one set of parameters (P,)."""
        return self.loss.target(self.evaluate(theta[None])[0][0]) - self.target

    def deviations(self, theta: Array) -> Array:
        """(M,) weighted residuals at one set of parameters (P,), whitened where runs share something."""
        return self.whitened(self.residuals(theta)[None])[0]

    def slopes(self, theta: Array) -> Array:
        """(M, P) derivatives of `deviations`."""
        logs = self.loss.scale == LOG
        rows = self.log_slopes(theta) if logs else self.evaluate(theta[None])[1][0]
        return self.whitened(rows[None])[0]

    def whitened(self, values: Array) -> Array:
        """Values (R, M) or (R, M, P) at the points as the objective sees them: weighted, and whitened."""
        if self.whiten is not None:
            return mixed(self.whiten, values)
        return values * np.sqrt(self.read.weight).reshape(-1, *[1] * (values.ndim - 2))

    @cached_property
    def limits(self) -> tuple[Array, Array]:
        """Lowest and highest parameters, (P,) each; equal where one is held.

        Raises:
            GeoladderError: the law has no parameter that is to be held, or it must be positive.
        """
        names, logged = self.form.parameters, self.form.logged
        low, high = np.array(self._bounds()).T.copy()
        for name, value in self.fixed.items():
            if name not in names:
                raise GeoladderError(
                    f"{self.form.name} has no parameter '{name}'; it has: {', '.join(names)}"
                )
            if name in logged and value <= 0:
                raise GeoladderError(f"{name} is held at {value}; it must be positive")
            low[names.index(name)] = high[names.index(name)] = np.log(value) if name in logged else value
        return low, high

    def _bounds(self) -> list[tuple[float, float]]:
        """Lowest and highest value of each parameter. E may exceed the least y: noise puts half a plateau below E."""
        x, y = self.read.x, self.read.y
        if isinstance(self.form, Curve):
            return self.form.bounds(x, y)
        least, most = np.log(SMALLEST_TERM * y.min()), np.log(1e3 * y.max())
        bounds = []
        for powers in self.form.terms.values():
            gaps = [float(np.log(x[v]).mean()) - self.centre[v] for v in powers]  # 0 where centred
            reach = [gap * GREATEST_EXPONENT for gap in gaps]
            bounds.append((least + sum(min(r, 0.0) for r in reach), most + sum(max(r, 0.0) for r in reach)))
        lowest = -GREATEST_EXPONENT if self.form.rising else 0.0
        return [*bounds, *[(lowest, GREATEST_EXPONENT)] * len(self.form.exponents)]

    @property
    def free(self) -> Array:
        """(P,) whether a parameter is not held."""
        return self.limits[0] < self.limits[1]

    def at_bound(self, theta: Array) -> list[str]:
        """Names of the free parameters that rest on a bound."""
        low, high = self.limits
        rests = self.free & ((theta <= low + AT_BOUND) | (theta >= high - AT_BOUND))
        return [self.form.parameters[k] for k in np.flatnonzero(rests)]

    def starts(self) -> Array:
        """(S, P): a grid over the exponents, coefficients by non-negative least squares of relative residuals.

        A curve has starts of its own, brought inside the limits: the best few of them, by their objective.
        """
        y = self.read.y
        if isinstance(self.form, Curve):
            theta = np.unique(np.clip(self.form.starts(self.read.x, y), *self.limits), axis=0)
            with np.errstate(all="ignore"):
                miss = self.loss.target(self.evaluate(theta)[0]) - self.target
            costs = (self.read.weight * special.huber(self.loss.delta, miss)).sum(axis=1)
            return theta[np.argsort(np.nan_to_num(costs, nan=np.inf))[: self.form.refined]]
        coefficients, grid = len(self.form.logged), RISING_EXPONENTS if self.form.rising else EXPONENTS
        exponents = np.array(list(product(grid, repeat=len(self.form.exponents))))
        theta = np.hstack([np.zeros((len(exponents), coefficients)), exponents])
        for start, terms in zip(theta, self._terms(theta), strict=True):
            linear, _ = nnls(terms.T / y[:, None], np.ones_like(y))
            start[:coefficients] = np.log(np.maximum(linear, SMALLEST_TERM * y.min()))
        return theta

    def minimise(
        self,
        theta: Array,
        target: Array | None = None,
        weight: Array | None = None,
        limits: tuple[Array, Array] | None = None,
        *,
        warm: bool = False,
    ) -> tuple[Array, Array, Array]:
        """Refine starts (R, P), with the problem's own targets, weights and limits or others: one for all, or R.

        A `warm` start is near its optimum: the Huber continuation is skipped. Starts that are not are rivals, for a
        curve (see `descend`).
        Returns the minimisers (R, P), their objectives (R,), and whether each fit settled (R,).
        """
        target = self.target if target is None else target
        weight = self.weight if weight is None else weight
        limits = limits or self.limits
        deltas = self.loss.deltas[-1:] if warm else self.loss.deltas
        compiled = not isinstance(self.form, Curve) or self.form.compiled
        if not compiled or self.whiten is not None:
            settled = np.ones(len(theta), dtype=bool)
            fixed = (limits, target, weight, self.loss)
            for delta in deltas:
                theta, objective, done = descend(
                    self.evaluate, theta, *fixed, delta, rivals=not warm, whiten=self.whiten
                )
                settled &= done
            return theta, objective, settled
        theta = np.array(theta, dtype=np.float64)
        target, weight, low, high = map(np.atleast_2d, (target, weight, *limits))
        system = System(*self.plan, target, weight, self.loss.scale)
        return theta, *minimise(theta, low, high, system, deltas)
