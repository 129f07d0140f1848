"""Can these points tell these parameters apart? Asked of the design first, then of the fit.

With two sizes the exponent, coefficient and floor of E + A n^-alpha see two numbers: infinitely many laws pass
through them, while a bootstrap reports a tight interval around an arbitrary one. No number of seeds helps.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from geoladder.scaling.fit.problem import Problem, lay_out
from geoladder.scaling.laws.curves import Array, Curve
from geoladder.scaling.laws.forms import Form, PowerSum

Verdict = Literal["identified", "weak", "not_identified"]
RANK_TOLERANCE = 1e-7
CONDITION_LIMIT = 1e4
FLAT_SHARE = 1e-3


@dataclass(frozen=True)
class Identifiability:
    """What the design and the fit can say.

    Attributes:
        verdict: `identified`; `weak`: some interval is open, or the Jacobian is nearly singular; `not_identified`:
            the design cannot tell the parameters apart, whatever the errors were.
        reasons: why the verdict is not `identified`.
        levels: distinct values of each variable.
        rank: of the Jacobian at the design.
        condition: of the Jacobian with columns of unit length, at the optimum; None where nothing was fitted.
    """

    verdict: Verdict
    reasons: list[str]
    levels: dict[str, int]
    rank: int
    condition: float | None


def levels_of(values: Array, ratio: float) -> Array:
    """Number of the level of each value: a new level starts where a value exceeds `ratio` times the level's least."""
    order = np.argsort(values)
    level = np.empty(len(values), dtype=np.int64)
    current, start = 0, values[order[0]]
    for k in order:
        if values[k] > start * ratio:
            current, start = current + 1, values[k]
        level[k] = current
    return level


def block_mean(values: Array, blocks: Array) -> Array:
    """(M,) mean of each value's block; `blocks` (M,) are numbers from 0."""
    return (np.bincount(blocks, weights=values) / np.maximum(np.bincount(blocks), 1))[blocks]


def design_verdict(
    form: Form, x: Mapping[str, Array], levels: Mapping[str, Array], fixed: Collection[str] = ()
) -> Identifiability:
    """Judge a design before anything is fitted.

    Args:
        form: the law.
        x: (M,) values by variable.
        levels: (M,) number of the level by variable, from the plan or from `levels_of`.
        fixed: names of parameters held fixed.
    """
    counts = {variable: int(np.unique(levels[variable]).size) for variable in form.variables}
    points = len(next(iter(levels.values()))) if levels else len(next(iter(x.values())))
    needed = len(form.parameters) - len(fixed)
    reasons = []
    rank = needed
    if isinstance(form, PowerSum) and form.variables:
        middle = {v: np.exp(block_mean(np.log(x[v]), levels[v])) for v in form.variables}
        rank = _generic_rank(form, middle, fixed)
        if rank < needed:
            reasons += _shortage(form, counts)
    elif isinstance(form, Curve):
        distinct = len(np.unique(np.stack([levels[v] for v in form.variables]), axis=1).T)
        if distinct < needed:
            reasons.append(
                f"{form.equation} has {needed} parameters and the design {distinct} distinct points; add sizes"
            )
    if points <= needed:
        reasons.append(
            f"{points} points for {needed} parameters leave nothing to judge the fit by; "
            f"at least {needed + 1} are needed"
        )
    return Identifiability("not_identified" if reasons else "identified", reasons, counts, rank, None)


def _generic_rank(form: PowerSum, x: Mapping[str, Array], fixed: Collection[str]) -> int:
    """Rank of the Jacobian at a law whose terms are of equal size: what the design alone allows."""
    problem = lay_out(form, x)
    theta = np.zeros(len(form.parameters))
    theta[len(form.coefficients) :] = 0.3 + 0.1 * np.arange(len(form.exponents))
    value, rows = problem.evaluate(theta[None])
    free = [k for k, name in enumerate(form.parameters) if name not in fixed]
    scaled = rows[0][:, free] / value[0][:, None]
    lengths = np.linalg.norm(scaled, axis=0)
    if not (lengths > 0).all():
        return int((lengths > 0).sum())
    singular = np.linalg.svd(scaled / lengths, compute_uv=False)
    return int((singular > RANK_TOLERANCE * singular[0]).sum())


def _shortage(form: PowerSum, counts: Mapping[str, int]) -> list[str]:
    reasons = []
    for variable, count in counts.items():
        need = 3 if form.with_floor(variable) else 2
        if count < need:
            reasons.append(
                f"{variable} takes {count} distinct {'value' if count == 1 else 'values'}: its coefficient, its "
                f"exponent and the floor need at least {need}; add runs at another {variable}, best far from these"
            )
    return reasons or ["the variables move together: no two parameters of theirs can be told apart"]


def fit_verdict(
    design: Identifiability,
    problem: Problem,
    theta: Array,
    at_bound: list[str],
    open_ends: list[str],
    weight: Array,
) -> Identifiability:
    """Judge a fit: the condition of its Jacobian, parameters at bounds, open profile intervals.

    Args:
        design: the design's verdict, `identified`.
        problem: the law at its points.
        theta: (P,) the optimum.
        at_bound: names of parameters that rest on a bound.
        open_ends: sentences about profile intervals that do not close.
        weight: (M,) weights.
    """
    value, rows = problem.evaluate(theta[None])
    scaled = rows[0] / value[0][:, None] * np.sqrt(weight)[:, None]
    lengths = np.linalg.norm(scaled, axis=0)
    alive = lengths > FLAT_SHARE * lengths.max()
    singular = np.linalg.svd(scaled[:, alive] / lengths[alive], compute_uv=False)
    condition = float(singular[0] / max(singular[-1], 1e-300)) if alive.all() else float("inf")
    reasons = [f"{name} rests on its bound: its value is a limit, not an estimate" for name in at_bound]
    reasons += open_ends
    if not alive.all() and not at_bound:
        names = [n for n, a in zip(problem.form.parameters, alive, strict=True) if not a]
        reasons.append(f"{', '.join(names)} hardly moves the curve at these points")
    elif np.isfinite(condition) and condition > CONDITION_LIMIT:
        reasons.append(
            f"parameters are nearly exchangeable: the condition of the Jacobian is {condition:.1e}"
        )
    return Identifiability(
        "weak" if reasons else "identified",
        reasons,
        design.levels,
        design.rank,
        condition if np.isfinite(condition) else None,
    )
