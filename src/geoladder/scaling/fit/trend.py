"""Does the error fall at all?"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from geoladder.scaling.fit.points import Points, block_mean, cells_of

Direction = Literal["falls", "rises", "no scaling seen"]


@dataclass(frozen=True)
class Trend:
    """Slope of log y on the log of one variable, the others held by their levels.

    Attributes:
        variable: role.
        slope: d log y / d log x; negative where the error falls.
        low: lower end of its interval.
        high: upper end.
        worst_rise: greatest rise of the mean log y from one level to a larger one; 0 for a monotone fall.
        direction: `no scaling seen` when the interval includes 0.
        verdict: a plain sentence.
    """

    variable: str
    slope: float
    low: float
    high: float
    worst_rise: float
    direction: Direction
    verdict: str


def trend(read: Points, variable: str, level: float = 0.95) -> Trend:
    """Ordinary least squares of log y on log x, with an intercept for each combination of the other levels."""
    others = [levels for role, levels in read.levels.items() if role != variable]
    blocks = cells_of(others) if others else np.zeros(len(read.y), dtype=np.int64)
    log_x, log_y = np.log(read.x[variable]), np.log(read.y)
    inside_x, inside_y = log_x - block_mean(log_x, blocks), log_y - block_mean(log_y, blocks)
    spread = float((inside_x**2).sum())
    slope = float((inside_x * inside_y).sum() / spread)
    dof = len(log_y) - len(np.unique(blocks)) - 1
    error = np.sqrt(((inside_y - slope * inside_x) ** 2).sum() / max(dof, 1) / spread)
    half = float(stats.t.ppf((1 + level) / 2, dof) * error) if dof > 0 else float("inf")
    low, high = slope - half, slope + half
    direction: Direction = "falls" if high < 0 else "rises" if low > 0 else "no scaling seen"
    levels = read.levels[variable]
    _, first = np.unique(levels, return_index=True)
    means, sizes = block_mean(inside_y, levels)[first], block_mean(log_x, levels)[first]
    means = means[np.argsort(sizes)]
    worst = float((means - np.minimum.accumulate(means)).max())
    numbers = f"slope {slope:.3f} [{low:.3f}, {high:.3f}]"
    verdict = f"y {direction} with {variable}: {numbers}"
    if direction == "no scaling seen":
        verdict = f"no scaling seen in {variable}: {numbers} includes 0"
    return Trend(variable, slope, low, high, worst, direction, verdict)
