"""Profile-likelihood intervals: how far can one parameter move before the best fit of the others is unbelievable?

Unlike a bootstrap or a standard error, a profile notices when the data say nothing: it then stays flat up to the
bound and the interval is open, `None` at that end. On 3 x 3 to 6 x 6 designs it covers as it promises.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator

from geoladder.scaling.fit.points import Points
from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.fit.search import Optimum
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.loss import Loss

Interval = tuple[float | None, float | None]
LADDER = (np.array([0.4, 0.8, 1.2, 1.7, 2.5]), np.array([4.0, 7.0, 12.0, 25.0, 60.0, 150.0, 400.0]))
"""Distances at which a profile is looked at, in half-widths of the local quadratic interval: near ones first."""
FINE = 5
LOG_LIMIT = 700.0
"""A logarithm beyond this is no number; the end counts as open."""


class Profiler:
    """Profiles of one fit.

    Attributes:
        better: (P,) parameters whose objective is below the optimum's, if a profile came upon any.
    """

    def __init__(self, problem: Problem, optimum: Optimum, read: Points, loss: Loss, level: float) -> None:
        """Args as of `search`; `level` of the intervals, such as 0.95."""
        self._problem, self._optimum, self._loss, self._weight = problem, optimum, loss, read.weight
        self._y, self._target = read.y, loss.target(read.y)
        free = int((optimum.low < optimum.high).sum())
        value, _ = problem.evaluate(optimum.theta[None])
        residuals = np.sqrt(read.weight) * (loss.target(value[0]) - self._target)
        self._ceiling = loss.ceiling(optimum.objective, residuals, free, level)
        self.better: Array | None = None

    def interval(self, name: str) -> Interval:
        """Interval of a parameter in the units of the data; an end is None where the profile never crosses."""
        k = self._problem.form.parameters.index(name)
        if self._optimum.low[k] >= self._optimum.high[k]:
            return (None, None)
        problem = self._problem.isolating(name)
        centre = self._problem.converted(self._optimum.theta[None], problem)[0]
        low, high = problem.bounds(self._y)
        fixed = self._optimum.low >= self._optimum.high
        low[fixed] = high[fixed] = centre[fixed]
        ends = [self._end(problem, k, centre, low, high, side) for side in (-1.0, 1.0)]
        if problem.is_log(name):
            ends = [None if end is None or abs(end) > LOG_LIMIT else float(np.exp(end)) for end in ends]
        return ends[0], ends[1]

    def _end(
        self, problem: Problem, k: int, centre: Array, low: Array, high: Array, side: float
    ) -> float | None:
        limit = high[k] if side > 0 else low[k]
        room = abs(limit - centre[k])
        if room <= 0:
            return None
        width, inner, outer = self._half_width(problem, k, centre, room), 0.0, None
        for part in LADDER:
            steps = width * part
            steps = steps[steps < room]
            if part is LADDER[-1] or steps.size < part.size:
                steps = np.append(steps, room)
            crossed = np.flatnonzero(
                self._costs(problem, k, centre, low, high, side * steps, around=True) > self._ceiling
            )
            if crossed.size:
                outer = float(steps[crossed[0]])
                inner = float(steps[crossed[0] - 1]) if crossed[0] else inner
                break
            inner = float(steps[-1])
        if outer is None:
            return None
        fine = np.linspace(inner, outer, FINE + 1)
        cost = self._costs(problem, k, centre, low, high, side * fine)
        # The square root of the rise is nearly linear in the distance, so interpolation on it is accurate.
        rise = np.sqrt(np.maximum(cost - self._optimum.objective, 0))
        goal = np.sqrt(self._ceiling - self._optimum.objective)
        rise = np.maximum.accumulate(rise) + np.arange(rise.size) * 1e-9 * goal  # strictly rising
        return float(centre[k] + side * PchipInterpolator(rise, fine)(min(goal, rise[-1])))

    def _half_width(self, problem: Problem, k: int, centre: Array, room: float) -> float:
        """Half-width of the interval of the local quadratic, or a share of the room where that is singular."""
        value, rows = problem.evaluate(centre[None])
        scaled = rows[0] / value[0][:, None] if self._loss.scale == 0 else rows[0]
        scaled = scaled * np.sqrt(self._weight)[:, None]
        spread = np.sqrt(2 * (self._ceiling - self._optimum.objective))
        try:
            others = np.delete(np.arange(scaled.shape[1]), k)
            left, *_ = np.linalg.lstsq(scaled[:, others], scaled[:, k], rcond=None)
            alone = np.linalg.norm(scaled[:, k] - scaled[:, others] @ left)
        except np.linalg.LinAlgError:
            return room / 400
        return float(np.clip(spread / max(alone, 1e-300), 1e-9 * room, room / 3))

    def _costs(
        self,
        problem: Problem,
        k: int,
        centre: Array,
        low: Array,
        high: Array,
        moves: Array,
        *,
        around: bool = False,
    ) -> Array:
        """Objective with parameter k held at centre + moves, (S,), the others at their best.

        With `around`, each is fitted from its neighbours' ends too: the others may have moved to another valley.
        """
        runs = len(moves)
        lows, highs = np.repeat(low[None], runs, axis=0), np.repeat(high[None], runs, axis=0)
        theta = np.repeat(centre[None], runs, axis=0)
        theta[:, k] = lows[:, k] = highs[:, k] = np.clip(centre[k] + moves, low[k], high[k])
        solution = problem.minimise(theta, lows, highs, self._target, self._weight, self._loss, warm=True)
        best, ends = solution.objective, solution.theta
        if around:
            again = np.roll(ends, 1, axis=0)
            again[:, k] = theta[:, k]
            other = problem.minimise(again, lows, highs, self._target, self._weight, self._loss, warm=True)
            ends = np.where((other.objective < best)[:, None], other.theta, ends)
            best = np.minimum(best, other.objective)
        lowest = best.argmin()
        if best[lowest] < self._optimum.objective * (1 - 1e-9):
            self.better = problem.converted(ends[[lowest]], self._problem)[0]
        return best
