"""Where do two laws cross? The answer may be nowhere, or at a place the data cannot bound."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from geoladder.errors import GeoladderError
from geoladder.scaling.fit.result import Fit
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import form_of, law

GRID = 400


@dataclass(frozen=True)
class Crossover:
    """Where the first law stops (or starts) being better than the second along one variable.

    Attributes:
        along: the variable.
        held: values of the others.
        at: crossings of the fitted laws within the searched range, smallest first; empty when one law stays below.
        interval: of the first crossing over the bootstrap draws; its ends are None where draws without a crossing
            leave it unbounded. None when fewer than half of the draws cross at all.
        never: share of draws without a crossing in the range.
        better_below: which law is lower at the small end of the range, 1 or 2.
        searched: (low, high) of the variable.
        outside: whether the first crossing lies outside the sizes both laws were fitted to.
        verdict: a plain sentence.
    """

    along: str
    held: dict[str, float]
    at: list[float]
    interval: tuple[float | None, float | None] | None
    never: float
    better_below: int
    searched: tuple[float, float]
    outside: bool
    verdict: str


def crossover(
    first: Fit,
    second: Fit,
    along: str,
    held: Mapping[str, float],
    *,
    decades: float = 2.0,
    level: float = 0.95,
) -> Crossover:
    """Compare two fits along one variable, the others held.

    Args:
        first: a law.
        second: another.
        along: variable that moves.
        held: values of the other variables.
        decades: how far beyond the fitted sizes to look, on both sides.
        level: of the interval.

    Raises:
        GeoladderError: a law was refused, has no bootstrap, or does not depend on the variable.
    """
    for fit in (first, second):
        if not fit.params or not fit.draws:
            raise GeoladderError("a crossover needs two fitted laws with bootstrap draws")
        if along not in form_of(fit.form).variables:
            raise GeoladderError(f"{fit.equation} does not depend on {along}")
    low = min(first.ranges[along][0], second.ranges[along][0])
    high = max(first.ranges[along][1], second.ranges[along][1])
    grid = np.geomspace(low * 10**-decades, high * 10**decades, GRID)
    x = {along: grid} | {role: np.full(GRID, value) for role, value in held.items()}
    gap = _log_gap(first, second, x, fitted=True)[0]
    at = _roots(gap, grid)
    roots = [_roots(row, grid) for row in _log_gap(first, second, x, fitted=False)]
    crossing = np.array([row[0] for row in roots if row])
    never = 1 - crossing.size / len(roots)
    interval = _interval(crossing, never, level) if crossing.size >= len(roots) / 2 else None
    better = 1 if gap[0] < 0 else 2
    outside = bool(at) and not (
        max(first.ranges[along][0], second.ranges[along][0])
        <= at[0]
        <= min(first.ranges[along][1], second.ranges[along][1])
    )
    return Crossover(
        along, dict(held), at, interval, never, better, (float(grid[0]), float(grid[-1])), outside,
        _sentence(along, at, interval, never, better, outside),
    )  # fmt: skip


def crossovers(fits: Mapping[str, Fit], level: float = 0.95) -> list[tuple[str, str, Crossover]]:
    """Every pair of laws along every variable they share, the others at the largest value both were fitted to.

    Laws that were refused, or have no bootstrap, are left out.
    """
    usable = {name: fit for name, fit in fits.items() if fit.params and fit.draws}
    crossings = []
    for (a, first), (b, second) in combinations(usable.items(), 2):
        shared = [v for v in form_of(first.form).variables if v in form_of(second.form).variables]
        for along in shared:
            held = {v: min(first.ranges[v][1], second.ranges[v][1]) for v in shared if v != along}
            crossings.append((a, b, crossover(first, second, along, held, level=level)))
    return crossings


def _log_gap(first: Fit, second: Fit, x: Mapping[str, Array], *, fitted: bool) -> Array:
    """(R, M) log first - log second, of the fits or of paired bootstrap draws."""
    values = []
    count = min(len(next(iter(fit.draws.values()))) for fit in (first, second))
    for fit in (first, second):
        params = (
            {name: np.array([value]) for name, value in fit.params.items()}
            if fitted
            else {name: draws[:count] for name, draws in fit.draws.items()}
        )
        values.append(np.log(np.maximum(law(form_of(fit.form), params, x), 1e-300)))
    return values[0] - values[1]


def _roots(gap: Array, grid: Array) -> list[float]:
    """Where a curve changes sign, by linear interpolation in the logarithm of the grid."""
    k = np.flatnonzero(np.sign(gap[:-1]) * np.sign(gap[1:]) < 0)
    share = gap[k] / (gap[k] - gap[k + 1])
    return (grid[k] * (grid[k + 1] / grid[k]) ** share).tolist()


def _interval(crossing: Array, never: float, level: float) -> tuple[float | None, float | None]:
    """Percentiles of the crossings; draws that never cross may lie beyond either end."""
    tail = (1 - level) / 2
    low, high = np.quantile(crossing, [tail, 1 - tail])
    return (None, None) if never > tail else (float(low), float(high))


def _sentence(
    along: str,
    at: list[float],
    interval: tuple[float | None, float | None] | None,
    never: float,
    better: int,
    outside: bool,
) -> str:
    if not at:
        return f"no crossover along {along}: law {better} is lower over the whole range searched"
    where = f"the laws cross at {along} = {at[0]:.3g}" + (" (outside the sizes fitted)" if outside else "")
    if interval is None:
        return f"{where}, but {never:.0%} of the draws never cross: undecided"
    if interval[0] is None:
        return f"{where}; unbounded, since {never:.0%} of the draws never cross"
    return f"{where} [{interval[0]:.3g}, {interval[1]:.3g}]"
