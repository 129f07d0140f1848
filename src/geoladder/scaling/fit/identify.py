"""Can these points tell these parameters apart? Asked of the design first, then of the fit.

With two sizes the exponent, coefficient and floor of E + A n^-alpha see two numbers: infinitely many laws pass
through them, while a bootstrap reports a tight interval around an arbitrary one. No number of seeds helps.
"""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from geoladder.scaling.fit.points import Points, block_mean, cells_of
from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.fit.profile import Interval
from geoladder.scaling.laws.curves import Array, Curve
from geoladder.scaling.laws.forms import Form, PowerSum
from geoladder.scaling.laws.loss import Loss

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


def design_verdict(form: Form, read: Points, fixed: Collection[str]) -> Identifiability:
    """Judge a design before anything is fitted; `fixed` names the parameters held."""
    counts = {variable: int(np.unique(read.levels[variable]).size) for variable in form.variables}
    needed = len(form.parameters) - len(fixed)
    reasons = []
    rank = needed
    if isinstance(form, Curve):
        distinct = int(cells_of([read.levels[v] for v in form.variables]).max()) + 1
        if distinct < needed:
            reasons.append(
                f"{form.equation} has {needed} parameters and the design {distinct} distinct points; add sizes"
            )
    elif form.variables:
        rank = _generic_rank(form, read, fixed)
        reasons += _shortage(form, counts) if rank < needed else []
    if len(read.y) <= needed:
        reasons.append(
            f"{len(read.y)} points for {needed} parameters leave nothing to judge the fit by; "
            f"at least {needed + 1} are needed"
        )
    return Identifiability("not_identified" if reasons else "identified", reasons, counts, rank, None)


def _generic_rank(form: PowerSum, read: Points, fixed: Collection[str]) -> int:
    """Rank of the Jacobian at a law whose terms are of equal size: what the design alone allows."""
    middle = {v: np.exp(block_mean(np.log(read.x[v]), read.levels[v])) for v in form.variables}
    theta = np.zeros(len(form.parameters))
    theta[len(form.logged) :] = 0.3 + 0.1 * np.arange(len(form.exponents))
    rows = Problem(form, dataclasses.replace(read, x=middle), Loss(), {}).log_slopes(theta)
    rows = rows[:, [name not in fixed for name in form.parameters]]
    lengths = np.linalg.norm(rows, axis=0)
    if not (lengths > 0).all():
        return int((lengths > 0).sum())
    singular = np.linalg.svd(rows / lengths, compute_uv=False)
    return int((singular > RANK_TOLERANCE * singular[0]).sum())


def _shortage(form: PowerSum, counts: Mapping[str, int]) -> list[str]:
    need = 3 if len(form.terms) > 1 else 2  # beside another term, two values cannot tell an exponent
    reasons = [
        f"{variable} takes {count} distinct {'value' if count == 1 else 'values'}: its coefficient, its "
        f"exponent and the floor need at least {need}; add runs at another {variable}, best far from these"
        for variable, count in counts.items()
        if count < need
    ]
    return reasons or ["the variables move together: no two parameters of theirs can be told apart"]


def fit_verdict(
    design: Identifiability, problem: Problem, theta: Array, profiled: Mapping[str, Interval]
) -> Identifiability:
    """Judge an optimum (P,): the condition of its Jacobian, parameters at bounds, open profile intervals."""
    at_bound = problem.at_bound(theta)
    rows = problem.log_slopes(theta) * np.sqrt(problem.read.weight)[:, None]
    lengths = np.linalg.norm(rows, axis=0)
    alive = lengths > FLAT_SHARE * lengths.max()
    condition = None
    if alive.all():
        singular = np.linalg.svd(rows / lengths, compute_uv=False)
        condition = float(singular[0] / max(singular[-1], 1e-300))
    reasons = [f"{name} rests on its bound: its value is a limit, not an estimate" for name in at_bound]
    for name, (low, high) in profiled.items():
        if name not in problem.fixed and None in (low, high):
            side = "on both sides" if low is None and high is None else "below" if low is None else "above"
            reasons.append(f"the profile interval of {name} is open {side}")
    if condition is None and not at_bound:
        names = [name for name, moves in zip(problem.form.parameters, alive, strict=True) if not moves]
        reasons.append(f"{', '.join(names)} hardly moves the curve at these points")
    elif condition is not None and condition > CONDITION_LIMIT:
        reasons += [f"parameters are nearly exchangeable: the condition of the Jacobian is {condition:.1e}"]
    verdict: Verdict = "weak" if reasons else "identified"
    return dataclasses.replace(design, verdict=verdict, reasons=reasons, condition=condition)
