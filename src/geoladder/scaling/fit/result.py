"""What a fit returns: a fitted law and what it says of sizes, or a refusal, with everything needed to judge it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import stats

from geoladder.errors import GeoladderError
from geoladder.scaling.fit.criticism import Criticism
from geoladder.scaling.fit.effects import Effects
from geoladder.scaling.fit.identify import Identifiability
from geoladder.scaling.fit.mixed import Variance
from geoladder.scaling.fit.profile import Interval
from geoladder.scaling.fit.resample import Kind, reach
from geoladder.scaling.laws.curves import LEVEL_RATIO, Array
from geoladder.scaling.laws.forms import form_of, law
from geoladder.scaling.laws.loss import Loss

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOISE_SEED = 0
NOISE_DRAWS = 4000
New = Literal["seed", "cell", "run"]
"""What is new of a predicted row."""


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
    """What was redrawn: kind, number of resamples, seed, and the sum of their objectives.

    `dof` are the fewest degrees of freedom of a parameter, to which intervals of predictions are expanded; None for
    plain percentiles.
    """

    kind: Kind
    resamples: int
    rng: int
    objective_sum: float
    dof: float | None = None


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
        noise: standard deviation of a new row about the law on the scale of the loss (relative, for losses on
            logarithms).
        ranges: smallest and largest value of each variable.
        bootstrap: what was redrawn; None without.
        draws: bootstrap parameters by name, (B,) each.
        residuals: (M,) residuals on the scale of the loss, fit minus data.
        reduced: the law the design can carry, when this one is refused.
        variance: how the scatter splits into cells, runs and rows; None where no cell or run has several rows.
        criticism: what speaks against the law; None for an exact fit.
        effects: how far each repeated cell lies off the law.
        r2: share of the variance of y that the law explains, in units of y; None where y is constant.
        rmse: root mean square of the law minus y, in units of y.
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
    variance: Variance | None = None
    criticism: Criticism | None = None
    effects: Effects | None = None
    r2: float | None = None
    rmse: float | None = None

    def to_frame(self) -> pd.DataFrame:
        """One row a parameter: its value, and of each kind of interval the ends (missing where open, or held)."""
        ends = {
            f"{kind}_{end}": [by_name.get(name, (None, None))[k] for name in self.params]
            for kind, by_name in self.intervals.items()
            for k, end in enumerate(("low", "high"))
        }
        frame = pd.DataFrame({"value": self.params.values(), **ends}, dtype=float)
        return frame.set_axis(pd.Index(self.params, name="parameter"))

    def plot(
        self,
        along: str | None = None,
        *,
        runs: pd.DataFrame | None = None,
        axes: "Axes | None" = None,
        **held: float,
    ) -> "Axes":
        """Draw the law along one size with its band; see `geoladder.scaling.plots.plot_law`.

        `held` are the other sizes, such as `d=2e10`; `runs` has columns named as the law's sizes, and y.
        """
        from geoladder.scaling.plots import plot_law

        return plot_law(self, along, held, runs, axes)

    def predict(self, **x: Array) -> Array:
        """The law (M,) at given sizes.

        Raises:
            GeoladderError: the law was refused, or a size is missing or not positive.
        """
        return self._values(self.params, x)[0]

    def band(self, level: float = 0.95, **x: Array) -> tuple[Array, Array]:
        """Pointwise bootstrap interval of the law (not of a new run); raises as `predict`, and without draws.

        Where the law is contradicted, both kinds of interval are widened outside the sizes fitted by the error that
        hold-outs had per decade.
        """
        return self._widened(self.loss.target(self._values(self.draws, x)), level, x)

    def prediction(self, level: float = 0.95, of: New = "run", **x: Array) -> tuple[Array, Array]:
        """Pointwise interval of one new row: the law's uncertainty and the scatter about it.

        `of` says what is new: a `seed` of a cell that was run, which shares that cell's distance from the law; a
        `cell`, at sizes not run, of a run like those made; or a whole `run`. Bootstrap curves, each with a residual
        of the fit dealt to it, inflated for the parameters spent.

        Raises:
            GeoladderError: as `band`, or no such cell was run.
        """
        curves = self.loss.target(self._values(self.draws, x))
        rng = np.random.default_rng(NOISE_SEED)
        which = rng.integers(len(curves), size=NOISE_DRAWS)
        centred = self.residuals - self.residuals.mean()
        spread = np.sqrt(np.mean(centred**2))
        noise = centred[rng.integers(centred.size, size=NOISE_DRAWS)] / (spread if spread > 0 else 1.0)
        shift, share, sd = self._scatter(of, x, curves.shape[1])
        return self._widened(curves[which] * (1 - share) + shift - sd * noise[:, None], level, x)

    def _scatter(self, of: New, x: Mapping[str, Array], points: int) -> tuple[Array, Array, Array]:
        """What a new row follows besides the law, how much, and its standard deviation about both; (M,) each."""
        none, noise = np.zeros(points), np.full(points, self.noise or 0.0)
        if of == "cell" and self.variance:
            noise = np.full(points, float(np.hypot(self.variance.sigma_cell, self.variance.sigma_seed)))
        if of != "seed":
            return none, none, noise
        if self.effects is None:
            raise GeoladderError(
                "a new seed of a cell can be predicted where seeds repeat; name their column"
            )
        logs = np.log([np.broadcast_to(x[role], points) for role in self.effects.x])
        distance = np.abs(logs[:, :, None] - np.log(list(self.effects.x.values()))[:, None]).max(axis=0)
        nearest = distance.argmin(axis=1)
        if (distance.min(axis=1) > np.log(LEVEL_RATIO)).any():
            raise GeoladderError("no cell was run at these sizes; predict a new cell, or a new run")
        mean, share, sd = (np.array(getattr(self.effects, name))[nearest] for name in ("mean", "share", "sd"))
        return share * mean, share, sd

    def _widened(self, values: Array, level: float, x: Mapping[str, Array]) -> tuple[Array, Array]:
        """Interval of values (R, M) on the scale of the loss, in units of y."""
        scores = reach(level, self.bootstrap.dof if self.bootstrap else None)
        ends = [self.loss.value(end) for end in np.quantile(values, stats.norm.cdf(scores), axis=0)]
        if self.criticism is None or not self.criticism.lack_of_fit:
            return ends[0], ends[1]
        middle = self.predict(**x)
        wrong = scores[1] * self.criticism.error_per_decade * self.decades_outside(**x)
        with np.errstate(divide="ignore"):
            low, high = (np.hypot(np.log(middle) - np.log(end), wrong) for end in ends)
        return middle * np.exp(-low), middle * np.exp(high)

    def caution(self, **x: Array) -> str:
        """Why a prediction at these sizes is not to be relied on; empty where hold-outs as far out were predicted."""
        if self.criticism is None:
            return ""
        if self.criticism.lack_of_fit:
            return f"not to be relied on: {self.criticism.verdict}"
        decades = float(self.decades_outside(**x).max())
        if decades > self.criticism.tested:
            return (
                f"untested: hold-outs speak for {self.criticism.tested:.1f} decades beyond the sizes fitted"
            )
        return ""

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
