"""Fitting a law to runs: one call in; optimum, intervals and a verdict on what the data can say out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from geoladder.scaling.fit.identify import design_verdict, fit_verdict
from geoladder.scaling.fit.points import Points, read_points
from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.fit.profile import Interval, profiles
from geoladder.scaling.fit.resample import Kind, bca, jackknife, percentile, reach, resample
from geoladder.scaling.fit.result import Bootstrap, Fit, Status
from geoladder.scaling.fit.search import Optimum, search
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import Form, form_of
from geoladder.scaling.laws.loss import Kind as LossKind
from geoladder.scaling.laws.loss import Loss

REDUCED = {"chinchilla": "product", "chinchilla_tied": "product", "saturating": "power"}
"""The law with straight lines in logarithms that two levels of a size can still carry."""
MANY_POINTS = 10
"""Points per parameter above which points are redrawn, not residuals."""
SEARCHES = 3


@dataclass(frozen=True)
class Settings:
    """How to fit.

    Attributes:
        loss: what is minimised.
        bootstrap: resamples; 0 for none.
        kind: what is redrawn; None: `cell` where seeds repeat cells, else `case` for many points, `residual` for
            few.
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
    loss: LossKind = "log_squared",
    delta: float | None = None,
    **settings: Any,  # noqa: ANN401
) -> Fit:
    """Fit a law, one of `FORMS` by name, to a table with a row per run.

    `n`, `d`, `u` and `y` name the columns of the sizes, where the law has them, and of the error; `seed`, `sd` and
    `levels`, its `planned`, are as in `read_points`, `loss` and `delta` as in `Loss`, `settings` the other fields of
    `Settings`.

    Raises:
        Refusal: the table cannot be fitted, with the reason.
    """
    law = form_of(form)
    columns = {role: name for role, name in (("n", n), ("d", d), ("u", u)) if name and role in law.variables}
    chosen = Settings(loss=Loss(loss, float("inf") if delta is None else delta), **settings)
    read = read_points(points, law, columns or {"n": n}, y, seed=seed, sd=sd, planned=levels)
    return fit_points(law, read, chosen)


def fit_points(law: Form, read: Points, settings: Settings) -> Fit:
    """Fit a law to checked runs; see `fit`."""
    design = design_verdict(law, read, settings.fixed)
    ranges = {role: (float(sizes.min()), float(sizes.max())) for role, sizes in read.x.items()}
    refused = Fit(
        law.name, law.equation, Status.NOT_IDENTIFIED, design, settings.loss, len(read.y), ranges=ranges
    )
    if design.verdict == "not_identified":
        return replace(refused, reduced=_reduced(law, read, settings))
    problem = Problem(law, read, settings.loss, settings.fixed)
    optimum, intervals = _searched(problem, settings)
    profiled = intervals.get("profile", {})
    residuals = problem.residuals(optimum.theta)
    dof = max(len(residuals) - int(problem.free.sum()), 1)
    bootstrap: Bootstrap | None = None
    draws: dict[str, Array] = {}
    if settings.bootstrap:
        bootstrap, draws, ends = _bootstrap(problem, optimum, settings)
        intervals |= ends
    status = Status.AT_BOUND if problem.at_bound(optimum.theta) else Status.CONVERGED
    return replace(
        refused,
        status=status if optimum.settled else Status.NOT_CONVERGED,
        identifiability=fit_verdict(design, problem, optimum.theta, profiled),
        params=problem.named(optimum.theta),
        objective=optimum.objective * settings.loss.multiple,
        intervals=intervals,
        starts=optimum.starts,
        reached=optimum.reached,
        minima=optimum.minima,
        noise=float(np.sqrt((read.weight * residuals**2).sum() / dof)),
        bootstrap=bootstrap,
        draws=draws,
        residuals=residuals,
    )


def _reduced(law: Form, read: Points, settings: Settings) -> Fit | None:
    """The simpler law the runs can carry in place of a refused one, if there is any."""
    if law.name not in REDUCED:
        return None
    trial = fit_points(form_of(REDUCED[law.name]), read, replace(settings, fixed={}))
    return None if trial.status is Status.NOT_IDENTIFIED else trial


def _searched(problem: Problem, settings: Settings) -> tuple[Optimum, dict[str, dict[str, Interval]]]:
    """The optimum and its profiles; begins again if a profile finds a better optimum than the search did."""
    optimum = search(problem)
    if not settings.profile or optimum.objective <= 0:
        return optimum, {}
    for _ in range(SEARCHES):
        intervals, better = profiles(problem, optimum, settings.level)
        if better is None:
            break
        optimum = search(problem, better)
    return optimum, {"profile": intervals}


def _bootstrap(
    problem: Problem, optimum: Optimum, settings: Settings
) -> tuple[Bootstrap, dict[str, Array], dict[str, dict[str, Interval]]]:
    """What was redrawn, draws by parameter, and intervals by kind and parameter."""
    names, theta, free = problem.form.parameters, optimum.theta, problem.free
    kind = settings.kind or _suitable(problem.read, len(names))
    resamples = resample(problem, theta, kind, settings.bootstrap, settings.rng)
    draws = dict(zip(names, problem.natural(resamples.theta).T, strict=True))
    scores = reach(settings.level, None if kind == "case" else max(len(problem.target) - int(free.sum()), 1))
    moved = [name for name, moves in zip(names, free, strict=True) if moves]
    intervals: dict[str, dict[str, Interval]] = {
        "bootstrap": {name: percentile(draws[name], scores) for name in moved}
    }
    # The jackknife of a nearly absolute loss is none.
    if settings.loss.kind != "huber" or kind == "case":
        left_out = dict(zip(names, jackknife(problem, theta).T, strict=True))
        best = problem.named(theta)
        intervals["bca"] = {name: bca(draws[name], best[name], left_out[name], scores) for name in moved}
    total = float(resamples.objective.sum()) * settings.loss.multiple
    return Bootstrap(kind, settings.bootstrap, settings.rng, total), draws, intervals


def _suitable(read: Points, parameters: int) -> Kind:
    """What to redraw: points when there are many; on a small designed grid every point was planned."""
    if read.repeated:
        return "cell"
    return "case" if len(read.y) >= MANY_POINTS * parameters else "residual"
