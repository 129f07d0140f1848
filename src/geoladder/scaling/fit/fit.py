"""Fitting a law to runs: one call in; optimum, intervals and a verdict on what the data can say out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from geoladder.scaling.fit.criticism import criticise
from geoladder.scaling.fit.effects import effects_of
from geoladder.scaling.fit.identify import design_verdict, fit_verdict
from geoladder.scaling.fit.mixed import Variance, mixed_law
from geoladder.scaling.fit.points import Points, read_points
from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.fit.profile import Interval, profiles
from geoladder.scaling.fit.resample import Kind, bca, jackknife, percentile, reach, resample
from geoladder.scaling.fit.result import Bootstrap, Fit, Minimum, Status
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import Form, form_of
from geoladder.scaling.laws.loss import Kind as LossKind
from geoladder.scaling.laws.loss import Loss

REDUCED = {
    "chinchilla": ("product", "saturating"),
    "chinchilla_tied": ("product", "saturating"),
    "saturating": ("power",),
}
"""Laws that fewer levels can still carry, straight lines in logarithms first; the last, sizes that move together."""
MANY_POINTS = 10
"""Points per parameter from which points are redrawn; on a small designed grid every point was planned."""
SAME = 1e-6
"""Relative difference of objectives up to which two starts count as having reached the same optimum."""
NEAR = 0.01
"""Other minima are listed when their objective is within this share of the best."""
APART = 0.01
"""Two minima differ when a fitted parameter differs by more than this."""
RESTS = 1e-8
"""A fit that lowers its objective by a smaller share, begun again, is at its optimum."""
SEARCHES = 3
"""The search begins again, at most so often, where a profile comes upon a better optimum."""


@dataclass(frozen=True)
class Settings:
    """How to fit.

    Attributes:
        loss: what is minimised.
        bootstrap: resamples; 0 for none.
        kind: what is redrawn; None: `run` where runs of several rows vary (`case` where they are many), `cell`
            where seeds repeat cells, else `case` for many points, `residual` for few.
        profile: whether profile intervals are wanted; without them open intervals go unnoticed.
        level: of all intervals.
        rng: seed of the bootstrap.
        fixed: parameters held at values, in the units of the data.
    """

    loss: Loss = field(default_factory=Loss)
    bootstrap: int = 400
    kind: Kind | None = None
    profile: bool = True
    level: float = 0.95
    rng: int = 42
    fixed: Mapping[str, float] = field(default_factory=dict)


def fit(
    points: pd.DataFrame,
    form: str = "chinchilla",
    *,
    n: str = "n",
    d: str | None = "d",
    u: str | None = "u",
    y: str = "y",
    seed: str | None = None,
    sd: str | None = None,
    levels: Mapping[str, str] | None = None,
    run: str | None = None,
    levels_ratio: float | None = None,
    repeats: bool = False,
    loss: LossKind = "log_squared",
    delta: float | None = None,
    **settings: Any,  # noqa: ANN401
) -> Fit:
    """Fit a law, one of `FORMS` by name, to a table with a row per run.

    `n`, `d`, `u` and `y` name the columns of the sizes, where the law has them, and of the error; `seed`, `sd`,
    `run`, `levels_ratio`, `repeats` and `levels`, its `planned`, are as in `read_points`, `loss` and `delta` as in
    `Loss`, `settings` the other fields of `Settings`.

    Raises:
        Refusal: the table cannot be fitted, with the reason.
    """
    law = form_of(form)
    columns = {role: name for role, name in (("n", n), ("d", d), ("u", u)) if name and role in law.variables}
    chosen = Settings(loss=Loss.of(loss, delta), **settings)
    more: dict[str, Any] = {
        "seed": seed,
        "sd": sd,
        "run": run,
        "levels_ratio": levels_ratio,
        "repeats": repeats,
    }
    read = read_points(points, law, columns or {"n": n}, y, planned=levels, **more)
    return fit_points(law, read, chosen)


def fit_points(law: Form, read: Points, settings: Settings) -> Fit:
    """Fit a law to checked runs; see `fit`."""
    design = design_verdict(law, read, settings.fixed)
    ranges = {role: (float(sizes.min()), float(sizes.max())) for role, sizes in read.x.items()}
    refused = Fit(
        law.name, law.equation, Status.NOT_IDENTIFIED, design, settings.loss, len(read.y), ranges=ranges
    )
    if design.verdict == "not_identified":
        others = (
            fit_points(form_of(name), read, replace(settings, fixed={})) for name in REDUCED.get(law.name, ())
        )
        return replace(refused, reduced=next((other for other in others if other.params), None))
    plain = Problem(law, read, settings.loss, settings.fixed)
    theta, objective, report = _search(plain)
    problem, variance = plain, None
    if objective > 0 and (read.repeated or read.runs is not None):
        problem, theta, objective, variance = mixed_law(plain, theta, objective)
    intervals: dict[str, dict[str, Interval]] = {}
    if settings.profile and objective > 0:
        for _ in range(SEARCHES):
            intervals["profile"], better = profiles(problem, theta, objective, settings.level, variance)
            if better is None:
                break
            theta, objective, report = _search(problem, better)
    report |= {"params": problem.named(theta), "objective": objective * settings.loss.multiple}
    if settings.bootstrap:
        report["bootstrap"], report["draws"], ends = _bootstrap(problem, theta, settings, variance)
        intervals |= ends
    criticism = criticise(plain, problem, theta, settings.level) if objective > 0 and law.variables else None
    residuals = plain.residuals(theta)
    dof = max(len(residuals) - int(plain.free.sum()), 1)
    independent = float(np.sqrt((read.weight * residuals**2).sum() / dof))
    gap = settings.loss.value(plain.target + residuals) - read.y
    return replace(
        refused,
        identifiability=fit_verdict(design, problem, theta, intervals.get("profile", {}), criticism),
        intervals=intervals,
        noise=variance.total if variance and problem is not plain else independent,
        residuals=residuals,
        r2=float(1 - (gap**2).sum() / ((read.y - read.y.mean()) ** 2).sum()) if np.ptp(read.y) > 0 else None,
        rmse=float(np.sqrt((gap**2).mean())),
        variance=variance,
        criticism=criticism,
        effects=effects_of(plain, variance) if variance else None,
        **report,
    )


def _search(problem: Problem, extra: Array | None = None) -> tuple[Array, float, dict[str, Any]]:
    """The global optimum: every start refined, and `extra` (P,), how many agree, which other minima come close.

    Returns:
        Parameters (P,), the sum of losses, and what a `Fit` says of them, by the names of its fields.
    """
    starts = problem.starts() if extra is None else np.vstack([problem.starts(), extra])
    theta, objective, settled = problem.minimise(starts)
    best = int(objective.argmin())
    if not settled[best]:
        settled[best] = _rests(problem, theta, objective, best)
    order = np.argsort(objective)
    lowest = float(objective[best])
    within = objective <= lowest * (1 + SAME) + 1e-25
    others: list[int] = []
    for k in order[(objective[order] <= lowest * (1 + NEAR)) & settled[order] & ~within[order]]:
        if (np.abs(theta[[best, *others]] - theta[k]).max(axis=1) > APART).all():
            others.append(int(k))
    status = Status.AT_BOUND if problem.at_bound(theta[best]) else Status.CONVERGED
    report = {
        "status": status if settled[within].any() else Status.NOT_CONVERGED,
        "starts": len(starts),
        "reached": float(within.mean()),
        "minima": [Minimum(float(objective[k] / lowest - 1), problem.named(theta[k])) for k in others],
    }
    return theta[best], lowest, report


def _rests(problem: Problem, theta: Array, objective: Array, best: int) -> bool:
    """Whether the best of several fits, begun again where it ended, gains nothing; it is replaced where it does."""
    for _ in range(SEARCHES):
        before = objective[best]
        end, value, done = problem.minimise(theta[[best]], warm=True)
        if value[0] < before:
            theta[best], objective[best] = end[0], value[0]
        if done[0] or objective[best] >= before * (1 - RESTS):
            return True
    return False


def _bootstrap(
    problem: Problem, theta: Array, settings: Settings, variance: Variance | None
) -> tuple[Bootstrap, dict[str, Array], dict[str, dict[str, Interval]]]:
    """What was redrawn, draws by parameter, and intervals by kind and parameter."""
    names, free, read = problem.form.parameters, problem.free, problem.read
    many = len(read.y) >= MANY_POINTS * len(names)
    usual: Kind = "cell" if variance and read.runs is None else "case" if many else "residual"
    if variance and variance.level == "run":
        usual = "case" if variance.groups >= MANY_POINTS * len(names) else "run"
    kind = settings.kind or usual
    refitted, objectives = resample(problem, theta, kind, settings.bootstrap, settings.rng)
    draws = dict(zip(names, problem.natural(refitted).T, strict=True))
    moved = [name for name, moves in zip(names, free, strict=True) if moves]
    dof = dict.fromkeys(moved, float(max(len(read.y) - len(moved), 1)))
    dof = dof if variance is None else variance.dof
    scores = {name: reach(settings.level, None if kind == "case" else dof[name]) for name in moved}
    intervals: dict[str, dict[str, Interval]] = {
        "bootstrap": {name: percentile(draws[name], scores[name]) for name in moved}
    }
    # The jackknife of a nearly absolute loss is none.
    if not settings.loss.robust or kind == "case":
        left_out = dict(zip(names, jackknife(problem, theta).T, strict=True))
        best = problem.named(theta)
        intervals["bca"] = {
            name: bca(draws[name], best[name], left_out[name], scores[name]) for name in moved
        }
    total = float(objectives.sum()) * settings.loss.multiple
    fewest = None if kind == "case" else min(dof.values(), default=None)
    return Bootstrap(kind, settings.bootstrap, settings.rng, total, fewest), draws, intervals
