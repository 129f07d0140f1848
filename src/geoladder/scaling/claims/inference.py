"""Claims put to repeated runs: pairs of arms at the same task, n and seed; the seed, not the run, is the replicate.

The effect of a pair is the log ratio of its errors, negative where the favoured arm has less. Comparisons on one
seed share its draw of training data and its initial weights, so ten values of n with three seeds are three
observations, not thirty: the overall effect is one mean per seed, with Student's t interval over seeds. A bootstrap
over seeds was not taken: of three seeds it has ten distinct resamples, and its percentile interval covers far less
than it says, while the t interval is exact for normal log ratios, however few.

Each claim states two one-sided null hypotheses: `for` (not as claimed) and `against` (not the opposite).

- `mean`: the mean effect is not below the threshold; it is not above. Of a `best` claim every rival must be beaten
  (intersection-union: the largest p), and one rival that wins is enough against it (Bonferroni: the least p times the
  number of rivals).
- `every`: some comparison is not below (intersection-union: the largest p); none is above (Bonferroni).
- `most`: as `mean`; the count of comparisons that point the claimed way comes on top, in `verdicts`.

With fewer than `ENOUGH` seeds there is an effect but neither interval nor p, and the reasons say so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from geoladder.errors import GeoladderError
from geoladder.scaling.claims.language import Arm, Claim, Selector
from geoladder.scaling.table import read_table
from geoladder.suggest import nearest

ENOUGH = 3
"""Seeds an interval needs: the t quantile of two is 12.7, which says nothing about any effect of interest."""
TIE = 1e-12
"""Largest log ratio that is no difference."""
REQUIRED = ["task", *Arm._fields, "n", "seed", "y"]
Cell = tuple[str, str, int]
"""Task, metric ("" when the table has none) and n."""
Errors = dict[int | None, float]
"""Log error by seed; None for a run without one."""
Runs = dict[Cell, dict[Arm, Errors]]


@dataclass(frozen=True)
class Comparison:
    """Two arms at one task and n.

    Attributes:
        cell: task, metric, n.
        better: the arm the claim favours.
        than: the other.
        by_seed: log ratio of errors by seed, of the seeds both arms have.
        effect: mean of these; log ratio of the arms' geometric means where they share no seed.
    """

    cell: Cell
    better: Arm
    than: Arm
    by_seed: Errors
    effect: float


def load_runs(path: Path | str) -> pd.DataFrame:
    """Read a table of runs; names stay text ("none" and "NA" too), no value is empty; raises as `read_table`."""
    return read_table(path, as_text=True).rows


def read_runs(table: pd.DataFrame) -> Runs:
    """Check a table of runs and look its errors up by cell, arm and seed.

    Raises:
        GeoladderError: missing columns, no rows, an error that is not a positive number, an n or seed that is not an
            integer (a seed may be empty), or one run given twice.
    """
    if missing := [column for column in REQUIRED if column not in table]:
        raise GeoladderError(f"the table of runs lacks {', '.join(missing)}; it needs {', '.join(REQUIRED)}")
    if table.empty:
        raise GeoladderError("the table of runs has no rows")
    y = _numbers(table.y, "a positive number (an error: RMSE or 1 - accuracy)", whole=False)
    n = _numbers(table.n, "a positive integer")
    blank = table.seed.isna() | (table.seed.astype(str).str.strip() == "")
    seeds = _numbers(table.seed.where(~blank, 0), "an integer, or empty", positive=False)
    names = table.reindex(columns=["task", "metric", *Arm._fields], fill_value="").astype(object)
    names = names.fillna("").astype(str)
    runs: Runs = {}
    for row, (task, metric, *columns) in enumerate(names.itertuples(index=False, name=None)):
        arm, count = Arm(*columns), int(n[row])
        seed = None if blank.iloc[row] else int(seeds[row])
        errors = runs.setdefault((task, metric, count), {}).setdefault(arm, {})
        if seed in errors:
            run = f"{task} {arm} n={count}, {'no seed' if seed is None else f'seed {seed}'}"
            raise GeoladderError(f"row {row + 1}: the run {run}, is given twice")
        errors[seed] = float(np.log(y[row]))
    return runs


def _numbers(column: "pd.Series[str]", what: str, *, positive: bool = True, whole: bool = True) -> np.ndarray:
    values = pd.to_numeric(column, errors="coerce").to_numpy(float)
    wrong = ~np.isfinite(values)
    if positive:
        wrong |= values <= 0
    if whole:
        wrong |= values != np.floor(values)
    if wrong.any():
        row = int(wrong.argmax())
        raise GeoladderError(
            f"row {row + 1}: {column.name} must be {what}, got {column.iloc[row]!r} ({wrong.sum()} such rows)"
        )
    return values


def comparisons(claim: Claim, runs: Runs) -> list[Comparison]:
    """Every pair of arms, at every task and n of the claim; an arm that the claim favours is never a rival."""
    first, second = claim.sides
    unnamed = [c for c in Arm._fields if getattr(first, c) is None and getattr(second, c) is None]
    return [
        _compare(cell, better, than, arms)
        for cell, arms in sorted(runs.items())
        if claim.on.matches(*cell)
        for better, than in product(sorted(arms), repeat=2)
        if first.matches(better)
        and second.matches(than)
        and not first.matches(than)
        and all(getattr(better, column) == getattr(than, column) for column in unnamed)
    ]


def _compare(cell: Cell, better: Arm, than: Arm, arms: dict[Arm, Errors]) -> Comparison:
    errors, rivals = arms[better], arms[than]
    by_seed = {seed: error - rivals[seed] for seed, error in errors.items() if seed in rivals}
    if by_seed:
        effect = np.mean(list(by_seed.values()))
    else:
        effect = np.mean(list(errors.values())) - np.mean(list(rivals.values()))
    return Comparison(cell, better, than, by_seed, float(effect))


def unmatched(claim: Claim, runs: Runs) -> str:
    """Why a claim has no comparison at all."""
    arms = sorted({arm for cell in runs if claim.on.matches(*cell) for arm in runs[cell]})
    if not arms:
        return f"no run is at the task and n of `on`; the table has tasks {', '.join(sorted({c[0] for c in runs}))}"
    names = ("better", "than") if claim.better else ("best", "among")
    for key, selector in zip(names, claim.sides, strict=True):
        if not any(map(selector.matches, arms)):
            return f"{key} {selector} matches nothing: {_no_such(selector, arms)}"
    first, second = claim.sides
    return f"no task and n has both {names[0]} {first} and another arm of {names[1]} {second}"


def _no_such(selector: Selector, arms: list[Arm]) -> str:
    """The first column whose value none of the arms has."""
    for column, wanted in selector:
        values = {getattr(arm, column) for arm in arms}
        if wanted is not None and not values & set(wanted):
            return f"no run has {column} {' or '.join(wanted)}{nearest(wanted[0], values) if values else ''}"
    return "no run has these together"


def absent(claim: Claim, compared: Sequence[Comparison]) -> list[str]:
    """Tasks and n that the claim lists but no comparison covers."""
    have = {(c.cell[0], c.cell[2]) for c in compared}
    tasks = claim.on.task or sorted({task for task, _ in have})
    if claim.on.n is None:
        return [task for task in tasks if task not in {have_task for have_task, _ in have}]
    return [f"{task} n={n}" for task in tasks for n in claim.on.n if (task, n) not in have]


class Outcome(NamedTuple):
    """What a test of comparisons, or of a whole claim, gave.

    Attributes:
        effect: mean log ratio; of a `best` claim, against the rival that comes closest.
        low: lower end of its interval; None with too few seeds.
        high: upper end.
        p: for and against, before they are adjusted for other claims; empty where untestable.
        seeds: that have all comparisons; of a claim, fewest that a test of it rests on.
        obstacle: why the claim cannot hold, whatever the numbers; "" if it can.
    """

    effect: float
    low: float | None
    high: float | None
    p: tuple[float, ...]
    seeds: int
    obstacle: str = ""


def mean_effect(compared: Sequence[Comparison], limit: float, level: float) -> Outcome:
    """Mean over comparisons of one seed, then over the seeds that have all of them; Student's t over these."""
    shared = set(compared[0].by_seed).intersection(*(c.by_seed for c in compared))
    seeds = sorted(seed for seed in shared if seed is not None)
    values = np.array([np.mean([c.by_seed[seed] for c in compared]) for seed in seeds])
    if values.size < ENOUGH or np.ptp(values) < TIE:  # copies are not repeats
        return Outcome(float(np.mean([c.effect for c in compared])), None, None, (), len(seeds))
    below, above, both = (
        stats.ttest_1samp(values, limit, alternative=side) for side in ("less", "greater", "two-sided")
    )
    low, high = map(float, both.confidence_interval(level))
    return Outcome(float(values.mean()), low, high, (float(below.pvalue), float(above.pvalue)), len(seeds))


def grouped(compared: Sequence[Comparison], *fields: str) -> list[list[Comparison]]:
    """Comparisons with equal fields together, in order of their first appearance."""
    groups: dict[tuple[object, ...], list[Comparison]] = {}
    for comparison in compared:
        groups.setdefault(tuple(getattr(comparison, field) for field in fields), []).append(comparison)
    return list(groups.values())


def count_hits(claim: Claim, compared: Sequence[Comparison]) -> tuple[int, int]:
    """Comparisons (of `best`: tasks and n, against all rivals) that point the claimed way, and how many there are.

    A tie does so only where a margin is given.
    """
    edge = -TIE if claim.margin is None else claim.limit + TIE
    groups = [[c] for c in compared] if claim.better else grouped(compared, "cell", "better")
    return sum(all(c.effect < edge for c in group) for group in groups), len(groups)


def examine(claim: Claim, compared: list[Comparison], level: float) -> Outcome:
    """P-values for and against one claim, from its comparisons (at least one)."""
    averaged = [compared] if claim.better else grouped(compared, "better", "than")
    tests = means = [mean_effect(block, claim.limit, level) for block in averaged]
    if claim.scope == "every":
        tests = [mean_effect([comparison], claim.limit, level) for comparison in compared]
    testable = [test.p for test in tests if test.p]
    seeds = min(test.seeds for test in tests)
    obstacle = _obstacle(claim, compared, len(testable) < len(tests), seeds)
    p: tuple[float, ...] = ()
    if testable and (claim.scope == "every" or not obstacle):
        # One comparison of `every` is enough against the claim, but none may be missing for it.
        p_for = 1.0 if obstacle else max(pair[0] for pair in testable)
        p = p_for, min(1.0, len(tests) * min(pair[1] for pair in testable))
    closest = max(means, key=lambda mean: mean.effect)
    return closest._replace(p=p, seeds=seeds, obstacle=obstacle)


def _obstacle(claim: Claim, compared: list[Comparison], untestable: bool, seeds: int) -> str:
    reasons = []
    if untestable and not any(c.by_seed for c in compared):
        reasons.append("the arms share no seed")
    elif untestable and all(len(c.by_seed) <= 1 for c in compared):
        reasons.append("single runs: no measure of run-to-run noise")
    elif untestable and seeds < ENOUGH:
        have = f"{seeds} seed{'' if seeds == 1 else 's'} shared by all arms that are compared"
        reasons.append(f"{have}: an interval needs at least {ENOUGH}")
    elif untestable:
        reasons.append("seeds differ by nothing: copies of a run are not repeats")
    if missing := absent(claim, compared):
        reasons.append(f"no runs to compare at {', '.join(missing)}")
    return "; ".join(reasons)


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted for testing them together (Holm 1979): valid however they depend on one another."""
    order = np.argsort(p)
    times = np.arange(len(p), 0, -1)  # the smallest is one of all, the next one of those that are left
    raised = np.minimum(1, np.maximum.accumulate(np.take(p, order) * times))
    return raised[np.argsort(order)].tolist()
