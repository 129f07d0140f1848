"""Tests of claims on repeated runs; the seed, not the run, is the unit of replication.

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
- `most`: as `mean`; the count of comparisons that point the claimed way comes on top, in `claims`.

With fewer than `ENOUGH` seeds there is an effect but neither interval nor p, and the reasons say so.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from geoladder.scaling.claims.language import Claim
from geoladder.scaling.claims.pairs import Comparison, absent

ENOUGH = 3
"""Seeds an interval needs: the t quantile of two is 12.7, which says nothing about any effect of interest."""
TIE = 1e-12
"""Largest log ratio that is no difference."""


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
    seeds = sorted(set.intersection(*(c.repeats for c in compared)))
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
        p_for = 1.0 if obstacle else max(p[0] for p in testable)
        p = p_for, min(1.0, len(tests) * min(p[1] for p in testable))
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
    return multipletests(p, method="holm")[1].tolist() if p else []
