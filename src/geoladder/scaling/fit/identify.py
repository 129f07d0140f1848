"""Can these points tell these parameters apart? Asked of the design first, then of the fit.

With two sizes the exponent, coefficient and floor of E + A n^-alpha see two numbers: infinitely many laws pass
through them, while a bootstrap reports a tight interval around an arbitrary one. No number of seeds helps.
"""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from geoladder.scaling.fit.criticism import Criticism
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
NARROW = 3.0
"""Sizes within this factor are one narrow range."""
TOGETHER = 0.99
"""Correlation of the logarithms of two sizes from which they are said to move together."""


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
        reasons += _shortage(form, counts) if rank < needed else _twins(form, read, fixed)
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


def _twins(form: PowerSum, read: Points, fixed: Collection[str]) -> list[str]:
    """Sizes on one rising line, each with a term of its own: exchanging the terms gives a law that fits as well."""
    alone = [powers for powers in form.terms.values() if len(powers) == 1]
    apart = len({next(iter(powers)) for powers in alone}) > 1 and len(form.exponents) > 1
    line = _line(read)
    if line is None or not apart or fixed or line[2] <= 0 or line[4] > np.log(form.level_ratio):
        return []
    first, second, slope, height, _ = line
    return [
        f"{first} and {second} move together in every run ({second} = {np.exp(height):.3g} {first}^{slope:.3g}): the "
        "terms of the two can be exchanged and fit as well; add runs off that line, or fit a law in one of them"
    ]


def fit_verdict(
    design: Identifiability,
    problem: Problem,
    theta: Array,
    profiled: Mapping[str, Interval],
    criticism: Criticism | None,
) -> Identifiability:
    """Judge an optimum (P,): what contradicts the law, its Jacobian, parameters at bounds, open profile intervals."""
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
    if reasons:
        reasons += [*_narrow(problem, theta), *_collinear(problem)]
    if criticism and criticism.lack_of_fit:
        reasons.append(criticism.verdict)
    reasons += problem.read.doubts or ([criticism.alike] if criticism and criticism.alike else [])
    verdict: Verdict = "weak" if reasons else "identified"
    return dataclasses.replace(design, verdict=verdict, reasons=reasons, condition=condition)


def _narrow(problem: Problem, theta: Array) -> list[str]:
    """Sizes that span little, and what that costs: errors of their exponents against those over a decade."""
    reasons = []
    for variable, sizes in problem.read.x.items():
        span = float(np.log(sizes.max() / sizes.min()))
        names = [powers[variable] for powers in problem.form.terms.values() if variable in powers]
        if not names or not 0 < span < np.log(NARROW):
            continue
        centre = float(np.log(sizes).mean())
        wide = np.exp(centre + (np.log(sizes) - centre) * np.log(10) / span)
        stretched = dataclasses.replace(problem.read, x=problem.read.x | {variable: wide})
        other = dataclasses.replace(problem, read=stretched)
        moved = problem.converted(theta[None], other)[0]
        costs = [_error(problem, theta, name) / _error(other, moved, name) for name in names]
        levels = np.unique(problem.read.levels[variable]).size
        listed = ", ".join(f"{name} {cost:.2g} times" for name, cost in zip(names, costs, strict=True))
        reasons.append(
            f"{variable} takes {levels} values within a factor of {np.exp(span):.3g}: a narrow range, over which "
            f"the standard error is, of {listed} that of as many runs over a factor of 10"
        )
    return reasons


def _error(problem: Problem, theta: Array, name: str) -> float:
    """Standard error of one parameter for scatter of 1, all free ones fitted."""
    free = problem.free
    basis = np.linalg.pinv(problem.slopes(theta)[:, free], rcond=1e-13)
    return float(np.linalg.norm(basis[list(np.array(problem.form.parameters)[free]).index(name)]))


def _line(read: Points) -> tuple[str, str, float, float, float] | None:
    """Two sizes that move together: their names, slope and height of the line of the logarithms, and the residue."""
    if len(read.x) < 2:
        return None
    first, second, *_ = read.x
    log_n, log_d = np.log(read.x[first]), np.log(read.x[second])
    slope, height = np.polyfit(log_n - log_n.mean(), log_d, 1)
    residue = float(np.ptp(log_d - slope * (log_n - log_n.mean()) - height))
    return first, second, float(slope), float(height - slope * log_n.mean()), residue


def _collinear(problem: Problem) -> list[str]:
    line = _line(problem.read)
    if line is None or abs(np.corrcoef(*(np.log(problem.read.x[v]) for v in line[:2]))[0, 1]) < TOGETHER:
        return []
    first, second, slope, height, _ = line
    return [
        f"{first} and {second} move together ({second} is about {np.exp(height):.3g} {first}^{slope:.2g}): what one "
        f"does cannot be told from what the other does; add runs off that line"
    ]
