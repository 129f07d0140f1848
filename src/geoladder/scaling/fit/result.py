"""What a fit returns: a fitted law, or a refusal to fit one, with everything needed to judge it."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from geoladder.scaling.fit import predict
from geoladder.scaling.fit.identify import Identifiability
from geoladder.scaling.fit.profile import Interval
from geoladder.scaling.fit.resample import Kind
from geoladder.scaling.fit.search import Minimum
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.loss import Loss


class Status(StrEnum):
    """How a fit ended."""

    CONVERGED = "converged"
    AT_BOUND = "at_bound"
    NOT_CONVERGED = "not_converged"
    NOT_IDENTIFIED = "not_identified"


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
    params: dict[str, float]
    objective: float | None
    intervals: dict[str, dict[str, Interval]]
    n_points: int
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
        """The law at given sizes, (M,)."""
        return predict.curve(self, x)

    def band(self, level: float = 0.95, **x: Array) -> tuple[Array, Array]:
        """Pointwise bootstrap interval of the law (not of a new run)."""
        return predict.band(self, x, level)

    def prediction(self, level: float = 0.95, **x: Array) -> tuple[Array, Array]:
        """Pointwise interval of one new run."""
        return predict.prediction(self, x, level)
