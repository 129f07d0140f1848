"""The global optimum: every start refined, how many agree, and which other minima come close."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from geoladder.errors import GeoladderError
from geoladder.scaling.fit.points import Points
from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.loss import Loss

SAME = 1e-6
"""Relative difference of objectives up to which two starts count as having reached the same optimum."""
NEAR = 0.01
"""Other minima are listed when their objective is within this share of the best."""
APART = 0.01
"""Two minima differ when a fitted parameter differs by more than this."""


@dataclass(frozen=True)
class Minimum:
    """Another local minimum: its objective relative to the best, and its parameters in the units of the data."""

    excess: float
    params: dict[str, float]


@dataclass(frozen=True)
class Optimum:
    """Where the search ended.

    Attributes:
        theta: (P,) fitted parameters of the problem.
        objective: sum of the losses.
        settled: whether a start that reached the optimum ended by itself.
        starts: number of starts.
        reached: share of them that reached the optimum.
        minima: other distinct minima whose objective is within 1 %.
        low: (P,) lower bounds.
        high: (P,) upper bounds.
    """

    theta: Array
    objective: float
    settled: bool
    starts: int
    reached: float
    minima: list[Minimum]
    low: Array
    high: Array


def hold(problem: Problem, low: Array, high: Array, fixed: Mapping[str, float]) -> tuple[Array, Array]:
    """Bounds with some parameters held at values in the units of the data.

    Raises:
        GeoladderError: the law has no such parameter, or it must be positive.
    """
    names = problem.form.parameters
    low, high = low.copy(), high.copy()
    for name, value in fixed.items():
        if name not in names:
            raise GeoladderError(f"{problem.form.name} has no parameter '{name}'; it has: {', '.join(names)}")
        if problem.is_log(name) and value <= 0:
            raise GeoladderError(f"{name} is held at {value}; it must be positive")
        low[names.index(name)] = high[names.index(name)] = np.log(value) if problem.is_log(name) else value
    return low, high


def search(
    problem: Problem, read: Points, loss: Loss, fixed: Mapping[str, float], extra: Array | None = None
) -> Optimum:
    """Refine every start of the law and compare where they end.

    Args:
        problem: the law at its points; parameters in `fixed` must be ones it can hold.
        read: the runs.
        loss: what is summed.
        fixed: parameters held, in the units of the data.
        extra: (S, P) further starts.
    """
    low, high = hold(problem, *problem.bounds(read.y), fixed)
    starts = problem.starts(read.y)
    if extra is not None:
        starts = np.vstack([starts, extra])
    solution = problem.minimise(starts, low, high, loss.target(read.y), read.weight, loss)
    order = np.argsort(solution.objective)
    best = order[0]
    lowest = float(solution.objective[best])
    within = solution.objective <= lowest * (1 + SAME) + 1e-25
    minima: list[int] = []
    for k in order[(solution.objective[order] <= lowest * (1 + NEAR)) & solution.settled[order]]:
        apart = np.abs(solution.theta[[best, *minima]] - solution.theta[k]).max(axis=1) > APART
        if apart.all() and not within[k]:
            minima.append(int(k))
    listed = [
        Minimum(float(solution.objective[k] / lowest - 1), named(problem, solution.theta[k])) for k in minima
    ]
    return Optimum(
        solution.theta[best],
        lowest,
        bool(solution.settled[within].any()),
        len(starts),
        float(within.mean()),
        listed,
        low,
        high,
    )


def named(problem: Problem, theta: Array) -> dict[str, float]:
    """One set of parameters (P,) by name, in the units of the data."""
    return dict(zip(problem.form.parameters, problem.natural(theta[None])[0].tolist(), strict=True))
