"""Is the law true of these runs, and how far beyond them may it be believed?

Where seeds repeat, the cells' means are compared with the scatter of repeats (pure error; Draper & Smith 1998,
section 2.1). Residuals are searched for a trend (squares and products of the logarithms of the sizes, beside what the
law's own parameters can move) and for runs of equal sign. Rolling hold-outs hide the largest sizes, fit the rest and
compare what they predict with what was found (Chow 1960); they say how far out a prediction was ever tested, and how
large its error grows per decade where the law is wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations_with_replacement

import numpy as np
from scipy import stats

from geoladder.scaling.fit.mixed import basis_of
from geoladder.scaling.fit.points import block_mean, cells_of
from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.laws.curves import Array

CUTS = 3
"""Cuts of the hold-outs along one size, from the largest down."""
FEWEST_LEVELS = 3
LOOKS_SHARED, SURE = 0.3, 0.005
"""Correlation of neighbouring residuals, and its p, from which rows look like checkpoints of one run."""
STRICT = 5
"""One of two tests alone must be so much surer."""
BELIEVED = 0.2
"""A law is believed where no test has a p below this: absence of proof against it is not enough."""

SAFE = 0.5
"""Hold-outs speak for this share of the decades they reached: what sets in at the largest sizes none of them sees."""


@dataclass(frozen=True)
class Cut:
    """One hold-out: runs above a size hidden, the law fitted to the rest.

    Attributes:
        along: the size, or `all`: every size at once.
        fitted_to: the largest value left of each size that was cut.
        runs: hidden.
        decades: how far the farthest hidden run lies beyond.
        error: root mean square of log(predicted / y) over the hidden runs.
        bias: mean of it; positive where the law is too pessimistic.
        p: of a misfit as large, were the law true.
    """

    along: str
    fitted_to: dict[str, float]
    runs: int
    decades: float
    error: float
    bias: float
    p: float


@dataclass(frozen=True)
class Criticism:
    """What speaks against a law.

    Attributes:
        p: of the pure-error test: probability of cells as far from the law, were it true; None without repeats.
        trends_p: of the residuals' trends; None with too few runs.
        runs_p: of as few runs of equal sign among residuals ordered by size (Wald & Wolfowitz 1940).
        lack_of_fit: whether the law is contradicted at the level of the fit, alpha: by pure error and a pattern in
            the sizes (trends or runs of sign, Bonferroni), both below alpha, or one of them below alpha / 5; where
            no cell is repeated, by a pattern below alpha.
        cuts: the rolling hold-outs.
        tested: decades beyond the largest sizes that hold-outs speak for; 0 where they missed.
        error_per_decade: root mean square of the hold-outs' log errors per decade; 0 without hold-outs.
        verdict: a plain sentence.
        alike: a sentence where residuals of neighbouring sizes are alike, as those of checkpoints of one run are.
    """

    p: float | None
    trends_p: float | None
    runs_p: float | None
    lack_of_fit: bool
    cuts: list[Cut] = field(default_factory=list)
    tested: float = 0.0
    error_per_decade: float = 0.0
    verdict: str = ""
    alike: str = ""


def criticise(plain: Problem, problem: Problem, theta: Array, level: float) -> Criticism:
    """Put a law at its optimum theta (P,) to every test the runs allow.

    `plain` treats rows as independent, `problem` is the one fitted, to the cells' means or whitened residuals where
    runs share something.
    """
    p = _pure_error(plain, theta) if plain.read.runs is None and plain.read.repeated else None
    (trends_p, size), runs_p = _trends(problem, theta), _runs(problem.deviations(theta)[_by_size(problem)])
    patterns = [value for value in (trends_p, runs_p) if value is not None]
    pattern = min([1.0, *(len(patterns) * value for value in patterns)])
    alpha = 1 - level
    lack = pattern < alpha if p is None else max(p, pattern) < alpha or min(p, pattern) < alpha / STRICT
    cuts = list(_cuts(problem, theta))
    doubted = min([1.0, *(value for value in (p, *patterns) if value is not None)]) < BELIEVED
    tested = 0.0 if doubted else _reach(cuts)
    per_decade = np.sqrt(np.mean([(cut.error / cut.decades) ** 2 for cut in cuts])) if cuts else 0.0
    verdict = _verdict(p, pattern if patterns else None, lack, alpha, size)
    alike = "" if plain.read.runs is not None else _alike(problem, theta)
    return Criticism(p, trends_p, runs_p, bool(lack), cuts, tested, float(per_decade), verdict, alike)


def _verdict(p: float | None, pattern: float | None, lack: bool, alpha: float, size: float) -> str:
    if p is None and pattern is None:
        return "lack of fit cannot be tested: it needs repeated cells, or more runs"
    if not lack:
        return f"no lack of fit seen (p = {pattern if p is None else p:.2f})"
    patterned = pattern is not None and pattern < alpha
    trend = f"a pattern of the sizes, a trend of {size:.2%} beside the law"
    where = trend if patterned else "no pattern of the sizes"
    if p is None or p >= alpha:
        return f"residuals have {trend} (p = {pattern:.3g})"
    return f"the law misses the cells by more than repeats scatter (p = {p:.3g}), in {where}"


def _left(problem: Problem, theta: Array, more: Array | None = None) -> tuple[Array, int]:
    """What least squares about the linearised law leaves of the residuals (M,), and how many directions it can move.

    `more` (M, K) are further columns to fit.
    """
    basis, _ = basis_of(problem.slopes(theta)[:, problem.free])
    if more is not None:
        more = more - basis @ (basis.T @ more)
        basis = np.column_stack([basis, basis_of(more)[0]])
    residuals = _seen(problem, theta)
    return residuals - basis @ (basis.T @ residuals), basis.shape[1]


def _seen(problem: Problem, theta: Array) -> Array:
    """(M,) residuals as far as the loss sees them: beyond delta, only their sign."""
    return np.clip(problem.deviations(theta), -problem.loss.deltas[-1], problem.loss.deltas[-1])


def _pure_error(problem: Problem, theta: Array) -> float | None:
    """F test of the cells' means against the scatter of repeats, of least squares whatever the loss."""
    basis, _ = basis_of(problem.slopes(theta)[:, problem.free])
    residuals = problem.deviations(theta)
    residuals = residuals - basis @ (basis.T @ residuals)
    cells, parameters = problem.read.cells, int(problem.free.sum())
    pure = float(((residuals - block_mean(residuals, cells)) ** 2).sum())
    pure_dof, lack_dof = len(residuals) - len(np.unique(cells)), len(np.unique(cells)) - parameters
    if pure_dof < 1 or lack_dof < 1 or pure <= 0:
        return None
    lack = max(float((residuals**2).sum()) - pure, 0.0)
    return float(stats.f.sf(lack / lack_dof / (pure / pure_dof), lack_dof, pure_dof))


def _trends(problem: Problem, theta: Array) -> tuple[float | None, float]:
    """F test of squares and products of the logarithms of the sizes beside the law, and how large that trend is."""
    logs = [np.log(sizes) for sizes in problem.read.x.values()]
    logs = [(log - log.mean()) / max(float(log.std()), 1e-300) for log in logs]
    orders = (2, 3) if len(logs) == 1 else (2,)
    columns = [np.prod(group, axis=0) for k in orders for group in combinations_with_replacement(logs, k)]
    more = problem.whitened(np.stack(columns, axis=1)[None])[0]
    (before, plain), (after, full) = _left(problem, theta), _left(problem, theta, more)
    dof = len(before) - full
    left = float((after**2).sum())
    if full == plain or dof < 2 or left <= 0:
        return None, 0.0
    gained = max(float((before**2).sum()) - left, 0.0)
    p = float(stats.f.sf(gained / (full - plain) / (left / dof), full - plain, dof))
    return p, float(np.sqrt(gained / len(before)))


def _alike(problem: Problem, theta: Array) -> str:
    """Correlation of residuals that are neighbours along one size, the levels of the others equal."""
    read, residuals = problem.read, _seen(problem, theta)
    for role in reversed(read.x):
        others = [levels for name, levels in read.levels.items() if name != role]
        if not others:
            continue
        block = cells_of(others)
        order = np.lexsort((read.x[role], block))
        pairs = np.flatnonzero(np.diff(block[order]) == 0)
        left = residuals[order]
        count = max(len(pairs), 1)
        correlation = float((left[pairs] * left[pairs + 1]).sum() / max((left**2).mean(), 1e-300)) / count
        if correlation > LOOKS_SHARED and stats.norm.sf(correlation * np.sqrt(count)) < SURE:
            return (
                f"residuals of neighbouring {role} are alike (correlation {correlation:.2f}): if rows are "
                "checkpoints of one run, name the column of runs (--run-col); if not, the law misses a trend"
            )
    return ""


def _by_size(problem: Problem) -> Array:
    return np.lexsort(tuple(problem.read.x.values()))


def _runs(residuals: Array) -> float | None:
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


def _cuts(problem: Problem, theta: Array) -> Iterator[Cut]:
    """Hide the largest levels of each size in turn, and of all sizes at once; refit, predict, compare."""
    read = problem.read
    hidden = list(_hidden(problem))
    if not hidden:
        return
    weight = problem.weight * np.array([~rows for _, rows in hidden])
    ends, _, _ = problem.minimise(np.repeat(theta[None], len(hidden), axis=0), weight=weight, warm=True)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        miss = np.log(problem.evaluate(ends)[0]) - np.log(read.y)
    for (along, rows), errors in zip(hidden, miss, strict=True):
        beyond = errors[rows]
        if not np.isfinite(beyond).all():
            continue
        roles = list(problem.form.variables) if along == "all" else [along]
        tops = {role: float(read.x[role][~rows].max()) for role in roles}
        decades = max(float(np.log10(read.x[role][rows].max() / top)) for role, top in tops.items())
        error, bias = float(np.sqrt((beyond**2).mean())), float(beyond.mean())
        yield Cut(along, tops, int(rows.sum()), decades, error, bias, _chow(problem, theta, rows))


def _hidden(problem: Problem) -> Iterator[tuple[str, Array]]:
    """Size and rows (M,) of each hold-out whose rest still carries the law."""
    read, roles = problem.read, problem.form.variables
    ranks = {role: _ranks(read.levels[role], read.x[role]) for role in roles}
    for k in range(1, CUTS + 1):
        tops = {role: rank > rank.max() - k for role, rank in ranks.items()}
        joint = [("all", np.logical_or.reduce(list(tops.values())))] if len(roles) > 1 else []
        for along, rows in [*tops.items(), *joint]:
            levels = min(np.unique(ranks[role][~rows]).size for role in roles)
            if levels >= FEWEST_LEVELS and np.unique(read.cells[~rows]).size > int(problem.free.sum()):
                yield along, rows


def _ranks(levels: Array, sizes: Array) -> Array:
    """(M,) rank of each row's level by the size of the level's least row."""
    numbers, inverse = np.unique(levels, return_inverse=True)
    least = np.full(len(numbers), np.inf)
    np.minimum.at(least, inverse, sizes)
    return np.argsort(np.argsort(least))[inverse]


def _chow(problem: Problem, theta: Array, rows: Array) -> float:
    """P of Chow's test that the hidden rows (M,) follow the law of the others, linearised at theta."""
    slopes, residuals = problem.slopes(theta)[:, problem.free], _seen(problem, theta)
    whole, _ = _left(problem, theta)
    basis, _ = basis_of(slopes[~rows])
    left = residuals[~rows] - basis @ (basis.T @ residuals[~rows])
    squares, dof = float((left**2).sum()), int((~rows).sum()) - basis.shape[1]
    if dof < 1 or squares <= 0:
        return 1.0
    gained = max(float((whole**2).sum()) - squares, 0.0)
    return float(stats.f.sf(gained / rows.sum() / (squares / dof), int(rows.sum()), dof))


def _reach(cuts: list[Cut]) -> float:
    """Share of the decades that hold-outs along every size reached, where none of them missed."""
    if not cuts or min(cut.p for cut in cuts) < BELIEVED / len(cuts):
        return 0.0
    sizes = {cut.along for cut in cuts}
    return SAFE * min(max(cut.decades for cut in cuts if cut.along == size) for size in sizes)
