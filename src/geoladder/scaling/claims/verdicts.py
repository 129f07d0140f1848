"""Verdicts on claims: a list of sentences about runs, put to one table of runs and answered together.

Both one-sided hypotheses of every claim (see `inference`) make one Holm family, two a claim: with probability
`level` at least, no `holds` and no `fails` of a call is wrong, however the claims depend on one another. That is for
normal log ratios; that `most` counts more than half is a description on top, not a test. Intervals are of single
claims, unadjusted, so one may exclude zero where the verdict is `undecided`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path
from geoladder.scaling.claims import inference
from geoladder.scaling.claims.inference import Comparison, Outcome, load_runs
from geoladder.scaling.claims.language import Claim, load_claims

log = logging.getLogger(__name__)

Answer = Literal["holds", "fails", "undecided", "untested"]


@dataclass(frozen=True)
class Verdict:
    """What the runs say of one claim.

    Attributes:
        verdict: holds, fails, undecided, or untested where no runs match.
        as_plotted: how many comparisons point the claimed way, noise or not.
        comparisons: pairs of arms at one task and n.
        seeds: fewest that a test of this claim rests on.
        effect_percent: mean relative difference of error; negative favours the claim. Of `best`: against the rival
            that comes closest.
        low_percent: lower end of its interval at the level asked for, unadjusted; None without enough seeds.
        high_percent: upper end.
        p: the smaller of the two one-sided p-values, for and against.
        p_adjusted: the same by Holm over both p-values of all claims of the call.
        reason: what decided, or what is missing.
        details: the comparisons.
    """

    id: str
    text: str
    verdict: Answer
    as_plotted: str = ""
    comparisons: int = 0
    seeds: int = 0
    effect_percent: float | None = None
    low_percent: float | None = None
    high_percent: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    reason: str = ""
    details: tuple[Comparison, ...] = ()


def evaluate(claims: Sequence[Claim], table: pd.DataFrame, level: float = 0.95) -> list[Verdict]:
    """Answer claims from a table of runs: task, corpus, architecture, size, n, seed, y and perhaps metric.

    Args:
        claims: to be tested together; their p-values are adjusted for one another.
        table: one row a run; y is an error, lower is better; an empty seed is a run without repeats.
        level: of the intervals, and one minus the chance of any wrong verdict among all.

    Raises:
        GeoladderError: a level outside (0, 1), or a bad table (see `read_runs`).
    """
    if not 0 < level < 1:
        raise GeoladderError(f"level must lie between 0 and 1, got {level}")
    runs = inference.read_runs(table)
    pairs = [inference.comparisons(claim, runs) for claim in claims]
    outcomes = [
        inference.examine(claim, compared, level) if compared else None
        for claim, compared in zip(claims, pairs, strict=True)
    ]
    adjusted = iter(inference.holm([p for outcome in outcomes if outcome for p in outcome.p]))
    verdicts = []
    for claim, compared, outcome in zip(claims, pairs, outcomes, strict=True):
        if outcome is None:
            reason = inference.unmatched(claim, runs)
            verdicts.append(Verdict(claim.id, claim.text, "untested", reason=reason))
        else:
            p_adjusted = [next(adjusted) for _ in outcome.p]
            verdicts.append(_verdict(claim, compared, outcome, p_adjusted, 1 - level))
    return verdicts


def _verdict(
    claim: Claim, compared: list[Comparison], outcome: Outcome, adjusted: list[float], alpha: float
) -> Verdict:
    answer: Answer = "undecided"
    reason = outcome.obstacle or "no significant difference in either direction"
    p = p_adjusted = None
    if outcome.p:
        favoured = outcome.p[0] <= outcome.p[1]
        side = 0 if favoured else 1
        p, p_adjusted = outcome.p[side], adjusted[side]
        if p_adjusted <= alpha:
            answer, reason = _decide(claim, compared, favoured)
    return Verdict(
        id=claim.id,
        text=claim.text,
        verdict=answer,
        as_plotted=_as_plotted(claim, compared),
        comparisons=len(compared),
        seeds=outcome.seeds,
        effect_percent=_percent(outcome.effect),
        low_percent=None if outcome.low is None else _percent(outcome.low),
        high_percent=None if outcome.high is None else _percent(outcome.high),
        p=p,
        p_adjusted=p_adjusted,
        reason=reason,
        details=tuple(compared),
    )


def _decide(claim: Claim, compared: list[Comparison], favoured: bool) -> tuple[Answer, str]:
    """The answer and its reason, once a direction is significant."""
    if claim.scope == "every":
        extreme = max(compared, key=lambda c: c.effect)
        shown = f"{extreme.cell[0]} n={extreme.cell[2]} against {extreme.than} ({_percent(extreme.effect):+.2g} %)"
        return ("holds", f"weakest at {shown}") if favoured else ("fails", f"worst at {shown}")
    hits, total = inference.count_hits(claim, compared)
    if claim.scope == "most" and favoured != (2 * hits > total):
        return "undecided", "the mean and the count of comparisons disagree"
    return ("holds", "the mean is as claimed") if favoured else ("fails", "the mean is the opposite")


def _as_plotted(claim: Claim, compared: list[Comparison]) -> str:
    hits, total = inference.count_hits(claim, compared)
    better = sum(c.effect < -inference.TIE for c in compared)
    ties = sum(abs(c.effect) <= inference.TIE for c in compared)
    if claim.margin is not None:
        within = f"{hits}/{total} not worse by more than {100 * claim.margin:g} %"
        return f"{within} (better {better}, equal {ties}, worse {len(compared) - better - ties})"
    count = (
        f"best in {hits}/{total}" if claim.best else f"{hits}/{total} comparisons in the claimed direction"
    )
    return f"{count} ({ties} equal)" if ties else count


def _percent(log_ratio: float) -> float:
    return float(100 * np.expm1(log_ratio))


def verdict_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row a claim, in the order given, with every field of `Verdict` but `details`."""
    columns = [field.name for field in fields(Verdict) if field.name != "details"]
    table = pd.DataFrame([vars(verdict) for verdict in verdicts], columns=columns)
    numbers = [c for c in columns if c.endswith("percent") or c.startswith("p")]
    return table.astype(dict.fromkeys(numbers, float))


def run_claims(claims: Path, table: Path, out: Path, level: float = 0.95) -> list[Verdict]:
    """Answer the claims of a YAML file from a CSV table of runs; write the verdicts as .csv or .json.

    Raises:
        GeoladderError: `out` has another suffix, or bad input (see `load_claims`, `load_runs`, `evaluate`).
    """
    if out.suffix not in {".csv", ".json"}:
        raise GeoladderError(f"verdicts are written as .csv or .json, not to {out}")
    stated, runs = load_claims(claims), load_runs(table)
    try:
        verdicts = evaluate(stated, runs, level)
    except GeoladderError as problem:
        raise GeoladderError(f"{claims} on {table}: {problem}") from None
    answers = verdict_table(verdicts)
    with atomic_path(out) as temporary:
        if out.suffix == ".csv":
            answers.to_csv(temporary, index=False)
        else:
            temporary.write_text(answers.to_json(orient="records", indent=1, force_ascii=False) + "\n")
    log.info("%s: %s", out, ", ".join(f"{v.id} {v.verdict}" for v in verdicts))
    return verdicts
