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

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import log1p

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from geoladder.scaling.claims.language import Claim
from geoladder.scaling.claims.pairs import Comparison, absent

ENOUGH = 3
"""Seeds an interval needs: the t quantile of two is 12.7, which says nothing about any effect of interest."""
SINGLE = "single runs: no measure of run-to-run noise"


@dataclass(frozen=True)
class Mean:
    """The mean effect over comparisons: its estimate, interval and one-sided p-values (None: too few seeds).

    Attributes:
        effect: mean log ratio.
        low: lower end of the interval.
        high: upper end.
        p: of the null hypotheses that the effect is not below, and not above, the threshold.
        seeds: that have all of these comparisons.
    """

    effect: float
    low: float | None
    high: float | None
    p: tuple[float, float] | None
    seeds: int


@dataclass(frozen=True)
class Tested:
    """A claim with its comparisons and p-values, before these are adjusted for other claims.

    Attributes:
        claim: what was tested.
        compared: its comparisons, at least one.
        p: for and against; None where untestable.
        mean: of a `best` claim, against the rival that comes closest.
        seeds: fewest that a test of this claim rests on.
        obstacle: why the claim cannot hold, whatever the numbers; "" if it can.
    """

    claim: Claim
    compared: list[Comparison]
    p: tuple[float, float] | None
    mean: Mean
    seeds: int
    obstacle: str


def threshold(claim: Claim) -> float:
    """Log ratio below which the claim is true."""
    return log1p(claim.margin or 0.0)


def one_sided(values: np.ndarray, limit: float) -> tuple[float, float] | None:
    """P-values of Student's t for a mean below, and above, a limit.

    None for fewer than `ENOUGH` values, or values without spread: copies are not repeats.
    """
    if values.size < ENOUGH or np.ptp(values) < 1e-12:
        return None
    return (
        float(stats.ttest_1samp(values, limit, alternative="less").pvalue),
        float(stats.ttest_1samp(values, limit, alternative="greater").pvalue),
    )


def mean_effect(compared: Sequence[Comparison], limit: float, level: float) -> Mean:
    """Mean over comparisons of one seed, then over the seeds that have all of them."""
    seeds = sorted(set.intersection(*(c.repeats for c in compared)))
    values = np.array([np.mean([c.by_seed[seed] for c in compared]) for seed in seeds])
    p = one_sided(values, limit)
    if p is None:
        return Mean(float(np.mean([c.effect for c in compared])), None, None, None, len(seeds))
    low, high = stats.ttest_1samp(values, limit).confidence_interval(level)
    return Mean(float(values.mean()), float(low), float(high), p, len(seeds))


def grouped(compared: Sequence[Comparison], key: Callable[[Comparison], Hashable]) -> list[list[Comparison]]:
    """Comparisons with equal keys together, in order of their first appearance."""
    groups: dict[Hashable, list[Comparison]] = defaultdict(list)
    for comparison in compared:
        groups[key(comparison)].append(comparison)
    return list(groups.values())


def count_hits(claim: Claim, compared: Sequence[Comparison]) -> tuple[int, int]:
    """Comparisons (of `best`: tasks and n, against all rivals) that point the claimed way, and how many there are."""
    groups = grouped(compared, lambda c: (c.cell, c.better, c.than if claim.better else None))
    return sum(all(as_claimed(claim, c) for c in group) for group in groups), len(groups)


def as_claimed(claim: Claim, comparison: Comparison) -> bool:
    """Whether a comparison points the claimed way; a tie does so only where a margin is given."""
    if claim.margin is None:
        return comparison.effect < -1e-12
    return comparison.effect <= threshold(claim) + 1e-12


def examine(claim: Claim, compared: list[Comparison], level: float) -> Tested:
    """P-values for and against one claim, from its comparisons (at least one)."""
    limit = threshold(claim)
    # Averaged are all comparisons of `better`, and those with one rival of `best`.
    blocks = grouped(compared, lambda c: None if claim.better else (c.better, c.than))
    means = [mean_effect(block, limit, level) for block in blocks]
    closest = max(means, key=lambda m: m.effect)
    if claim.scope == "every":
        pairs = [one_sided(np.array([c.by_seed[s] for s in sorted(c.repeats)]), limit) for c in compared]
        seeds = min(len(c.repeats) for c in compared)
    else:
        pairs = [m.p for m in means]
        seeds = min(m.seeds for m in means)
    testable = [pair for pair in pairs if pair is not None]
    obstacle = _obstacle(claim, compared, len(testable) < len(pairs), seeds)
    if not testable or (obstacle and claim.scope != "every"):
        return Tested(claim, compared, None, closest, seeds, obstacle)
    # One comparison of `every` is enough against the claim, but none may be missing for it.
    p_for = 1.0 if obstacle else max(pair[0] for pair in testable)
    p_against = min(1.0, len(pairs) * min(pair[1] for pair in testable))
    return Tested(claim, compared, (p_for, p_against), closest, seeds, obstacle)


def _obstacle(claim: Claim, compared: list[Comparison], untestable: bool, seeds: int) -> str:
    reasons = []
    if untestable:
        if all(len(c.by_seed) <= 1 for c in compared):
            reasons.append(SINGLE if any(c.by_seed for c in compared) else "the arms share no seed")
        elif seeds < ENOUGH:
            have = f"{seeds} seed{'' if seeds == 1 else 's'} shared by all arms that are compared"
            reasons.append(f"{have}: an interval needs at least {ENOUGH}")
        else:
            reasons.append("seeds differ by nothing: copies of a run are not repeats")
    if missing := absent(claim, compared):
        reasons.append(f"no runs to compare at {', '.join(missing)}")
    return "; ".join(reasons)


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted for testing them together (Holm 1979): valid however they depend on one another."""
    return multipletests(p, method="holm")[1].tolist() if p else []
