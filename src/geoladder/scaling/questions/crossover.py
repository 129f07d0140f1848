"""Where do two laws cross? The answer may be nowhere, or at a place the data cannot bound."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from geoladder.errors import GeoladderError
from geoladder.scaling.fit.result import Fit
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import form_of, law

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRID = 400


@dataclass(frozen=True)
class Crossover:
    """Where the first law stops (or starts) being better than the second along one variable, the others held.

    Attributes:
        at: crossings of the fitted laws within the searched range, smallest first; empty when one law stays below.
        interval: of the first crossing over the bootstrap draws; its ends are None where draws without a crossing
            leave it unbounded. None when fewer than half of the draws cross at all.
        never: share of draws without a crossing in the range.
        better_below: which law is lower at the small end of the range, 1 or 2.
        outside: whether the first crossing lies outside the sizes both laws were fitted to.
    """

    along: str
    held: dict[str, float]
    at: list[float]
    interval: tuple[float | None, float | None] | None
    never: float
    better_below: int
    searched: tuple[float, float]
    outside: bool

    def to_frame(self) -> pd.DataFrame:
        """One row: along, sizes held, the first crossing with its interval, never, better_below, outside, verdict."""
        low, high = self.interval or (None, None)
        place = {"at": self.at[0] if self.at else None, "low": low, "high": high, "never": self.never}
        end = {"better_below": self.better_below, "outside": self.outside, "verdict": self.verdict}
        return pd.DataFrame([{"along": self.along, **self.held, **place, **end}])

    def plot(self, first: Fit, second: Fit, axes: "Axes | None" = None) -> "Axes":
        """Draw the two laws it is of, and where they cross."""
        from geoladder.scaling.plots import plot_crossover

        return plot_crossover(self, {"1": first, "2": second}, axes)

    @property
    def verdict(self) -> str:
        """A plain sentence."""
        if not self.at:
            return f"no crossover along {self.along}: law {self.better_below} is lower over the whole range searched"
        where = f"the laws cross at {self.along} = {self.at[0]:.3g}"
        where += " (outside the sizes fitted)" if self.outside else ""
        if self.interval is None:
            return f"{where}, but {self.never:.0%} of the draws never cross: undecided"
        low, high = self.interval
        if low is None:
            return f"{where}; unbounded, since {self.never:.0%} of the draws never cross"
        return f"{where} [{low:.3g}, {high:.3g}]"


def crossover(
    first: Fit,
    second: Fit,
    along: str,
    held: Mapping[str, float],
    *,
    decades: float = 2.0,
    level: float = 0.95,
) -> Crossover:
    """Compare two fits along one variable, the others held, up to so many `decades` beyond the sizes fitted.

    Raises:
        GeoladderError: a law was refused, has no bootstrap, or does not depend on the variable.
    """
    for fit in (first, second):
        if not fit.params or not fit.draws:
            raise GeoladderError("a crossover needs two fitted laws with bootstrap draws")
        if along not in form_of(fit.form).variables:
            raise GeoladderError(f"{fit.equation} does not depend on {along}")
    lows, highs = zip(first.ranges[along], second.ranges[along], strict=True)
    grid = np.geomspace(min(lows) * 10**-decades, max(highs) * 10**decades, GRID)
    x = {along: grid} | {role: np.full(GRID, value) for role, value in held.items()}
    gap = _log_ratio(first.predict(**x), second.predict(**x))
    at = _roots(gap, grid)
    curves = [law(form_of(fit.form), fit.draws, x) for fit in (first, second)]
    roots = [_roots(_log_ratio(*pair), grid) for pair in zip(*curves, strict=False)]
    crossing = [row[0] for row in roots if row]
    never = 1 - len(crossing) / len(roots)
    tail = (1 - level) / 2
    interval: tuple[float | None, float | None] | None = None
    if never <= tail:
        low, high = np.quantile(crossing, [tail, 1 - tail])
        interval = float(low), float(high)
    elif len(crossing) >= len(roots) / 2:  # draws that never cross may lie beyond either end
        interval = None, None
    outside = bool(at) and not max(lows) <= at[0] <= min(highs)
    better, searched = 1 if gap[0] < 0 else 2, (float(grid[0]), float(grid[-1]))
    return Crossover(along, dict(held), at, interval, never, better, searched, outside)


def crossovers(fits: Mapping[str, Fit], level: float = 0.95) -> list[dict[str, Any]]:
    """Every pair of laws along every variable they share, the others at the largest value both were fitted to.

    Laws that were refused, or have no bootstrap, are left out. The answers are JSON values: `first` and `second` name
    the laws, then come the fields of `Crossover` and its `verdict`.
    """
    usable = {name: fit for name, fit in fits.items() if fit.params and fit.draws}
    crossings = []
    for (a, first), (b, second) in combinations(usable.items(), 2):
        shared = [v for v in form_of(first.form).variables if v in form_of(second.form).variables]
        for along in shared:
            others = {v: min(first.ranges[v][1], second.ranges[v][1]) for v in shared if v != along}
            cross = crossover(first, second, along, others, level=level)
            crossings.append({"first": a, "second": b, **asdict(cross), "verdict": cross.verdict})
    return crossings


def _log_ratio(first: Array, second: Array) -> Array:
    return np.log(np.maximum(first, 1e-300)) - np.log(np.maximum(second, 1e-300))


def _roots(gap: Array, grid: Array) -> list[float]:
    """Where a curve changes sign, by linear interpolation in the logarithm of the grid."""
    k = np.flatnonzero(np.sign(gap[:-1]) * np.sign(gap[1:]) < 0)
    share = gap[k] / (gap[k] - gap[k + 1])
    return (grid[k] * (grid[k + 1] / grid[k]) ** share).tolist()
