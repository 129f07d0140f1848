"""The global optimum: every start refined, how many agree, and which other minima come close."""

from dataclasses import dataclass

import numpy as np

from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.laws.curves import Array

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
    """

    theta: Array
    objective: float
    settled: bool
    starts: int
    reached: float
    minima: list[Minimum]


def search(problem: Problem, extra: Array | None = None) -> Optimum:
    """Refine every start of the law, and `extra` (P,), and compare where they end."""
    starts = problem.starts() if extra is None else np.vstack([problem.starts(), extra])
    theta, objective, settled = problem.minimise(starts)
    order = np.argsort(objective)
    best = order[0]
    lowest = float(objective[best])
    within = objective <= lowest * (1 + SAME) + 1e-25
    others: list[int] = []
    for k in order[(objective[order] <= lowest * (1 + NEAR)) & settled[order] & ~within[order]]:
        if (np.abs(theta[[best, *others]] - theta[k]).max(axis=1) > APART).all():
            others.append(int(k))
    minima = [Minimum(float(objective[k] / lowest - 1), problem.named(theta[k])) for k in others]
    reached = float(within.mean())
    return Optimum(theta[best], lowest, bool(settled[within].any()), len(starts), reached, minima)
