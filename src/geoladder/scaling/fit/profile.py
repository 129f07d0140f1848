"""Profile-likelihood intervals: how far can one parameter move before the best fit of the others is unbelievable?

Unlike a bootstrap or a standard error, a profile notices when the data say nothing: it then stays flat up to the
bound and the interval is open, `None` at that end. On 3 x 3 to 6 x 6 designs it covers as it promises.
"""

from dataclasses import replace

import numpy as np
from scipy import special
from scipy.interpolate import PchipInterpolator

from geoladder.scaling.fit.mixed import Variance
from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.laws.curves import Array

Interval = tuple[float | None, float | None]
LADDER = (np.array([0.4, 0.8, 1.2, 1.7, 2.5]), np.array([4.0, 7.0, 12.0, 25.0, 60.0, 150.0, 400.0]))
"""Distances at which a profile is looked at, in half-widths of the local quadratic interval: near ones first."""
FINE = 5
LOG_LIMIT = 700.0
"""A logarithm beyond this is no number; the end counts as open."""


def profiles(
    problem: Problem, theta: Array, objective: float, level: float, variance: Variance | None = None
) -> tuple[dict[str, Interval], Array | None]:
    """Profile every parameter from the optimum, theta (P,) and its objective.

    `variance` has each parameter's degrees of freedom where runs share something.

    Returns:
        Interval of each parameter in the units of the data, an end None where the profile never crosses; and
        parameters (P,) whose objective is below the optimum's, if a profile came upon any.
    """
    residuals, parameters = problem.deviations(theta), int(problem.free.sum())
    ceiling = problem.loss.ceiling(objective, residuals, parameters, level)

    def raised(name: str) -> float:
        if variance is None or name not in variance.dof:
            return ceiling
        usual, fewer = special.fdtri(1, [len(residuals) - parameters, variance.dof[name]], level)
        return objective + (ceiling - objective) * float(fewer / usual) * variance.inflation[name]

    free = [name for name in problem.form.parameters if name not in problem.fixed]
    lines = {name: _Line(problem, theta, objective, name, raised(name)) for name in free}
    intervals = {name: (line.end(-1.0), line.end(1.0)) for name, line in lines.items()}
    better = [line.problem.converted(line.better, problem)[0] for line in lines.values() if line.better.size]
    return intervals, better[-1] if better else None


class _Line:
    """One parameter moved away from the optimum, the others at their best."""

    def __init__(self, problem: Problem, theta: Array, objective: float, name: str, ceiling: float) -> None:
        self.problem = replace(problem, isolated=name)
        self.name, self.k = name, problem.form.parameters.index(name)
        self.centre = problem.converted(theta[None], self.problem)[0]
        self.least, self.ceiling = objective, ceiling
        self.better = np.empty((0, len(self.centre)))

    def end(self, side: float) -> float | None:
        """Lower (-1) or upper (1) end of the interval; None where it is open, or the parameter is held."""
        at = self.centre[self.k]
        room = abs(self.problem.limits[1 if side > 0 else 0][self.k] - at)
        if room <= 0:
            return None
        width, inner, outer = self._half_width(room), 0.0, None
        for part in LADDER:
            steps = width * part
            steps = steps[steps < room]
            if part is LADDER[-1] or steps.size < part.size:
                steps = np.append(steps, room)
            crossed = np.flatnonzero(self._costs(side * steps, around=True) > self.ceiling)
            if crossed.size:
                outer = float(steps[crossed[0]])
                inner = float(steps[crossed[0] - 1]) if crossed[0] else inner
                break
            inner = float(steps[-1])
        if outer is None:
            return None
        fine = np.linspace(inner, outer, FINE + 1)
        # The square root of the rise is nearly linear in the distance, so interpolation on it is accurate.
        rise = np.sqrt(np.maximum(self._costs(side * fine) - self.least, 0))
        goal = np.sqrt(self.ceiling - self.least)
        rise = np.nan_to_num(rise, posinf=1e3 * goal)  # a curve may leave what its loss is defined for
        rise = np.maximum.accumulate(rise) + np.arange(rise.size) * 1e-9 * goal  # strictly rising
        end = float(at + side * PchipInterpolator(rise, fine)(min(goal, rise[-1])))
        if self.name not in self.problem.form.logged:
            return end
        return None if abs(end) > LOG_LIMIT else float(np.exp(end))

    def _half_width(self, room: float) -> float:
        """Half-width of the interval of the local quadratic, or a share of the room where that is singular."""
        rows = self.problem.slopes(self.centre)
        column, others = rows[:, self.k], rows[:, np.delete(np.arange(rows.shape[1]), self.k)]
        try:
            alone = np.linalg.norm(column - others @ np.linalg.lstsq(others, column, rcond=None)[0])
        except np.linalg.LinAlgError:
            return room / 400
        spread = np.sqrt(2 * (self.ceiling - self.least))
        return float(np.clip(spread / max(alone, 1e-300), 1e-9 * room, room / 3))

    def _costs(self, moves: Array, *, around: bool = False) -> Array:
        """Objective with the parameter held at centre + moves, (S,), the others at their best.

        With `around`, each is fitted from its neighbours' ends too: the others may have moved to another valley.
        """
        k, (low, high) = self.k, self.problem.limits
        theta, lows, highs = (np.repeat(row[None], len(moves), axis=0) for row in (self.centre, low, high))
        theta[:, k] = lows[:, k] = highs[:, k] = np.clip(self.centre[k] + moves, low[k], high[k])
        ends, costs, _ = self.problem.minimise(theta, limits=(lows, highs), warm=True)
        if around:
            again = np.roll(ends, 1, axis=0)
            again[:, k] = theta[:, k]
            other_ends, other_costs, _ = self.problem.minimise(again, limits=(lows, highs), warm=True)
            ends = np.where((other_costs < costs)[:, None], other_ends, ends)
            costs = np.minimum(costs, other_costs)
        lowest = costs.argmin()
        if costs[lowest] < self.least * (1 - 1e-9):
            self.better = ends[[lowest]]
        return costs
