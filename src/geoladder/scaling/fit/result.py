"""What a fit returns: a fitted law and what it says of sizes, or a refusal, with everything needed to judge it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from geoladder.errors import GeoladderError
from geoladder.scaling.fit.identify import Identifiability
from geoladder.scaling.fit.profile import Interval
from geoladder.scaling.fit.resample import Kind
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import form_of, law
from geoladder.scaling.laws.loss import Loss

NOISE_SEED = 0
NOISE_DRAWS = 4000


class Status(StrEnum):
    """How a fit ended."""

    CONVERGED = "converged"
    AT_BOUND = "at_bound"
    NOT_CONVERGED = "not_converged"
    NOT_IDENTIFIED = "not_identified"


@dataclass(frozen=True)
class Minimum:
    """Another local minimum: its objective relative to the best, and its parameters in the units of the data."""

    excess: float
    params: dict[str, float]


@dataclass(frozen=True)
class Bootstrap:
    """What was redrawn: kind, number of resamples, seed, and the sum of their objectives."""

    kind: Kind
    resamples: int
    rng: int
    objective_sum: float


@dataclass(frozen=True)
class Fit:
    """A fitted law, or a refusal to fit one.

    Attributes:
        form: the law's name.
        equation: for people.
        status: `converged`; `at_bound`: a parameter rests on a bound; `not_converged`; `not_identified`: the design
            cannot tell the parameters apart, and no parameter is given.
        identifiability: the verdict with its reasons.
        loss: what was minimised.
        params: by name, in the units of the data; empty when not identified.
        objective: sum of squares, or of Huber losses; None when not identified.
        intervals: by kind (`profile`, `bootstrap`, `bca`) and parameter: (low, high); None where open.
        n_points: points used.
        starts: starts of the global search.
        reached: share of them that ended at the optimum.
        minima: other minima whose objective is within 1 %.
        noise: standard deviation of the residuals on the scale of the loss (relative, for losses on logarithms).
        ranges: smallest and largest value of each variable.
        bootstrap: what was redrawn; None without.
        draws: bootstrap parameters by name, (B,) each.
        residuals: (M,) residuals on the scale of the loss, fit minus data.
        reduced: the law the design can carry, when this one is refused.
    """

    form: str
    equation: str
    status: Status
    identifiability: Identifiability
    loss: Loss
    n_points: int
    params: dict[str, float] = field(default_factory=dict)
    objective: float | None = None
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)
    starts: int = 0
    reached: float = 0.0
    minima: list[Minimum] = field(default_factory=list)
    noise: float | None = None
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    bootstrap: Bootstrap | None = None
    draws: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)
    residuals: Array = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    reduced: "Fit | None" = None

    def predict(self, **x: Array) -> Array:
        """The law (M,) at given sizes.

        Raises:
            GeoladderError: the law was refused, or a size is missing or not positive.
        """
        return self._values(self.params, x)[0]

    def band(self, level: float = 0.95, **x: Array) -> tuple[Array, Array]:
        """Pointwise bootstrap interval of the law (not of a new run); raises as `predict`, and without draws."""
        return _ends(self._values(self.draws, x), level)

    def prediction(self, level: float = 0.95, **x: Array) -> tuple[Array, Array]:
        """Pointwise interval of one new run: the law's uncertainty and the scatter of runs about it.

        Bootstrap curves, each with a residual of the fit dealt to it, inflated for the parameters spent.
        """
        curves = self._values(self.draws, x)
        rng = np.random.default_rng(NOISE_SEED)
        which = rng.integers(len(curves), size=NOISE_DRAWS)
        centred = self.residuals - self.residuals.mean()
        spread = np.sqrt(np.mean(centred**2))
        inflate = (self.noise or 0.0) / spread if spread > 0 else 0.0
        noise = centred[rng.integers(centred.size, size=NOISE_DRAWS)]
        return _ends(self.loss.value(self.loss.target(curves[which]) - inflate * noise[:, None]), level)

    def decades_outside(self, **x: Array) -> Array:
        """(M,) decades by which the farthest variable lies outside the fitted range; 0 inside."""
        worst = np.zeros(1)
        for variable in form_of(self.form).variables:
            low, high = self.ranges[variable]
            values = np.atleast_1d(np.asarray(x[variable], dtype=np.float64))
            worst = np.maximum(worst, np.maximum(np.log10(values / high), np.log10(low / values)))
        return worst

    def _values(self, params: Mapping[str, Array | float], x: Mapping[str, Array]) -> Array:
        """Values (R, M) of the law for the fit's parameters, or for its draws."""
        form = form_of(self.form)
        if not self.params:
            reasons = "; ".join(self.identifiability.reasons)
            raise GeoladderError(f"the law {self.equation} was refused: {reasons}")
        if not params:
            raise GeoladderError(
                "this fit has no bootstrap, so it has no band; fit again with a bootstrap above 0"
            )
        for variable in form.variables:
            if variable not in x or not (np.asarray(x[variable], dtype=np.float64) > 0).all():
                raise GeoladderError(f"{self.equation} needs positive values of {', '.join(form.variables)}")
        return law(form, params, x)


def _ends(values: Array, level: float) -> tuple[Array, Array]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
