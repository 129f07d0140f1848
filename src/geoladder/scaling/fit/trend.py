"""Does the error fall at all, does the law follow the points, and how much of the scatter is the seeds'?"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from geoladder.scaling.fit.points import Points, Refusal, block_mean, cells_of
from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.fit.result import Fit
from geoladder.scaling.laws.forms import form_of

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


@dataclass(frozen=True)
class LackOfFit:
    """F test of a law against the cell means, from the scatter of repeats; p is None without repeats.

    Attributes:
        p: probability of a misfit as large, were the law true.
        runs_p: of as few runs of equal sign among residuals ordered by size (Wald & Wolfowitz 1940).
        verdict: a plain sentence.
    """

    p: float | None
    runs_p: float | None
    verdict: str


@dataclass(frozen=True)
class Components:
    """Standard deviations of log residuals, and standard errors of the exponents without and with the cell's share.

    Runs of one cell share whatever makes the cell lie off the law: three seeds are less than three points.

    Attributes:
        sigma_seed: between runs of one cell.
        sigma_cell: between cells, beyond what seeds explain.
        plain: standard error by parameter if all runs were independent.
        mixed: standard error by parameter with a random effect of the cell.
    """

    sigma_seed: float
    sigma_cell: float
    plain: dict[str, float]
    mixed: dict[str, float]


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


def lack_of_fit(fit: Fit, read: Points, level: float = 0.95) -> LackOfFit:
    """Compare a law's residuals with the scatter of repeats of the same cell."""
    y, cells = fit.loss.target(read.y), len(np.unique(read.cells))
    pure, whole = float(((y - block_mean(y, read.cells)) ** 2).sum()), float((fit.residuals**2).sum())
    pure_dof, lack_dof = len(y) - cells, cells - len(fit.params)
    runs_p = _runs(fit.residuals[np.lexsort(tuple(read.x.values()))])
    if pure_dof < 1 or lack_dof < 1 or pure <= 0:
        needs = "repeated cells and more cells than parameters"
        return LackOfFit(None, runs_p, f"lack of fit cannot be tested: it needs {needs}")
    p = float(stats.f.sf(max(whole - pure, 0) / lack_dof / (pure / pure_dof), lack_dof, pure_dof))
    misses = f"the law misses the cells by more than repeats scatter (p = {p:.3g})"
    return LackOfFit(p, runs_p, misses if p < 1 - level else f"no lack of fit seen (p = {p:.2f})")


def components(fit: Fit, read: Points) -> Components:
    """Split a fit's residuals by the method of moments for unbalanced one-way layouts (Searle et al. 1992, ch. 3).

    Raises:
        Refusal: no cell is repeated, or the law was refused.
    """
    counts = np.bincount(read.cells)
    runs, cells = len(read.y), len(counts)
    if not fit.params or runs <= cells:
        raise Refusal("variance components need a fitted law and cells with more than one seed")
    means = block_mean(fit.residuals, read.cells)
    seed = float(((fit.residuals - means) ** 2).sum() / (runs - cells))
    between = float((means**2).sum() / max(cells - len(fit.params), 1))
    typical = (runs - (counts**2).sum() / runs) / max(cells - 1, 1)
    cell = max(0.0, (between - seed) / typical)
    problem = Problem(form_of(fit.form), read, fit.loss, {})
    rows = problem.log_slopes(problem.fitted(np.array([list(fit.params.values())]))[0])
    alive = np.linalg.norm(rows, axis=0) > 1e-9
    names, rows = np.array(list(fit.params))[alive].tolist(), rows[:, alive]
    inverse = np.linalg.pinv(rows.T @ rows)
    same = read.cells[:, None] == read.cells[None]
    plain, mixed = (
        np.sqrt(np.diag(inverse @ rows.T @ covariance @ rows @ inverse)).tolist()
        for covariance in (np.eye(runs) * (seed + cell), np.eye(runs) * seed + same * cell)
    )
    errors = (dict(zip(names, values, strict=True)) for values in (plain, mixed))
    return Components(float(np.sqrt(seed)), float(np.sqrt(cell)), *errors)


def _runs(residuals: np.ndarray) -> float | None:
    """One-sided p of too few sign runs, by the normal approximation; None for fewer than 10 residuals."""
    signs = residuals[residuals != 0] > 0
    above, below = int(signs.sum()), int((~signs).sum())
    total = above + below
    if total < 10 or 0 in (above, below):
        return None
    runs = 1 + int((signs[1:] != signs[:-1]).sum())
    mean = 1 + 2 * above * below / total
    variance = (mean - 1) * (mean - 2) / (total - 1)
    return float(stats.norm.cdf((runs + 0.5 - mean) / np.sqrt(variance)))
