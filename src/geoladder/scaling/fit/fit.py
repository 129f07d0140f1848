"""Fitting a law to runs: one call in; optimum, intervals and a verdict on what the data can say out."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from geoladder.scaling.fit.identify import Identifiability, design_verdict, fit_verdict
from geoladder.scaling.fit.points import Points, read_points
from geoladder.scaling.fit.problem import Problem, lay_out
from geoladder.scaling.fit.profile import Interval, Profiler
from geoladder.scaling.fit.resample import Kind, bca, jackknife, percentile, reach, resample
from geoladder.scaling.fit.result import Bootstrap, Fit, Status
from geoladder.scaling.fit.search import Optimum, named, search
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import Form, form_of
from geoladder.scaling.laws.loss import Kind as LossKind
from geoladder.scaling.laws.loss import Loss

REDUCED = {"chinchilla": "product", "chinchilla_tied": "product", "saturating": "power"}
"""The law with straight lines in logarithms that two levels of a size can still carry."""
AT_BOUND = 1e-6
MANY_POINTS = 10
"""Points per parameter above which points are redrawn, not residuals."""


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
    """Fit a law to a table of runs.

    Args:
        points: one row per run.
        form: name of the law, see `geoladder.scaling.laws.forms.FORMS`.
        n: column of the first size.
        d: column of the second size, used where the law has one.
        u: column of unique data, used by `data_constrained`.
        y: column of the error, positive.
        seed: column of seeds; runs of one cell with different seeds are repeated measures.
        sd: column of standard errors of y.
        levels: column with the planned level of a size that wobbles about its plan (`{"d": "fraction"}`).
        loss: `log_squared`, `huber`, `squared` or `log1p_squared`.
        delta: of the Huber loss.
        settings: fields of `Settings` but `loss`.

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
    verdict = design_verdict(law, read.x, read.levels, settings.fixed)
    if verdict.verdict == "not_identified":
        return _refused(law, read, settings, verdict)
    problem = _holding(lay_out(law, read.x), settings.fixed)
    optimum = search(problem, read, settings.loss, settings.fixed)
    profiles: dict[str, Interval] = {}
    if settings.profile and optimum.objective > 0:
        optimum, profiles = _profiles(problem, optimum, read, settings)
    theta = optimum.theta
    value, _ = problem.evaluate(theta[None])
    residuals = settings.loss.target(value[0]) - settings.loss.target(read.y)
    free = int((optimum.low < optimum.high).sum())
    intervals: dict[str, dict[str, Interval]] = {"profile": profiles} if profiles else {}
    draws: dict[str, Array] = {}
    record = None
    if settings.bootstrap:
        record, draws, ends = _bootstrap(problem, optimum, read, settings)
        intervals |= ends
    resting = _resting(law, optimum)
    verdict = fit_verdict(verdict, problem, theta, resting, _open(profiles, settings.fixed), read.weight)
    huber = settings.loss.kind == "huber"
    return Fit(
        form=law.name,
        equation=law.equation,
        status=_status(optimum, resting),
        identifiability=verdict,
        loss=settings.loss,
        params=named(problem, theta),
        objective=optimum.objective * (1 if huber else 2),
        intervals=intervals,
        n_points=len(read.y),
        starts=optimum.starts,
        reached=optimum.reached,
        minima=optimum.minima,
        noise=float(np.sqrt((read.weight * residuals**2).sum() / max(len(residuals) - free, 1))),
        ranges=_ranges(read),
        bootstrap=record,
        draws=draws,
        residuals=residuals,
    )


def _refused(law: Form, read: Points, settings: Settings, verdict: Identifiability) -> Fit:
    other = REDUCED.get(law.name)
    reduced = None
    if other is not None:
        trial = fit_points(form_of(other), read, dataclasses.replace(settings, fixed={}))
        reduced = None if trial.status is Status.NOT_IDENTIFIED else trial
    return Fit(
        form=law.name,
        equation=law.equation,
        status=Status.NOT_IDENTIFIED,
        identifiability=verdict,
        loss=settings.loss,
        n_points=len(read.y),
        ranges=_ranges(read),
        reduced=reduced,
    )


def _ranges(read: Points) -> dict[str, tuple[float, float]]:
    return {role: (float(v.min()), float(v.max())) for role, v in read.x.items()}


def _holding(problem: Problem, fixed: Mapping[str, float]) -> Problem:
    for name in fixed:
        problem = problem.isolating(name)
    return problem


def _profiles(
    problem: Problem, optimum: Optimum, read: Points, settings: Settings
) -> tuple[Optimum, dict[str, Interval]]:
    """Profile every parameter; begin again if a profile finds a better optimum than the search did."""
    for _ in range(3):
        profiler = Profiler(problem, optimum, read, settings.loss, settings.level)
        intervals = {name: profiler.interval(name) for name in problem.form.parameters}
        if profiler.better is None:
            break
        optimum = search(problem, read, settings.loss, settings.fixed, profiler.better[None])
    return optimum, intervals


def _bootstrap(
    problem: Problem, optimum: Optimum, read: Points, settings: Settings
) -> tuple[Bootstrap, dict[str, Array], dict[str, dict[str, Interval]]]:
    kind = settings.kind or _suitable(read, len(problem.form.parameters))
    resamples = resample(problem, optimum, read, settings.loss, kind, settings.bootstrap, settings.rng)
    natural, names = problem.natural(resamples.theta), problem.form.parameters
    # The jackknife of a nearly absolute loss is none.
    smooth = settings.loss.kind != "huber" or kind == "case"
    left_out = jackknife(problem, optimum, read, settings.loss) if smooth else None
    best = problem.natural(optimum.theta[None])[0]
    free = optimum.low < optimum.high
    z = reach(settings.level, None if kind == "case" else max(len(read.y) - int(free.sum()), 1))
    plain: dict[str, Interval] = {}
    corrected: dict[str, Interval] = {}
    for k, name in enumerate(names):
        if free[k]:
            plain[name] = percentile(natural[:, k], z)
            if left_out is not None:
                corrected[name] = bca(natural[:, k], best[k], left_out[:, k], z)
    scale = 1 if settings.loss.kind == "huber" else 2
    record = Bootstrap(kind, settings.bootstrap, settings.rng, float(resamples.objective.sum()) * scale)
    draws = {name: natural[:, k] for k, name in enumerate(names)}
    return record, draws, {"bootstrap": plain} | ({"bca": corrected} if smooth else {})


def _suitable(read: Points, parameters: int) -> Kind:
    """What to redraw: points when there are many; on a small designed grid every point was planned."""
    if read.repeated:
        return "cell"
    return "case" if len(read.y) >= MANY_POINTS * parameters else "residual"


def _resting(law: Form, optimum: Optimum) -> list[str]:
    free = optimum.low < optimum.high
    near = (optimum.theta <= optimum.low + AT_BOUND) | (optimum.theta >= optimum.high - AT_BOUND)
    return [name for name, rests in zip(law.parameters, free & near, strict=True) if rests]


def _open(profiles: Mapping[str, Interval], fixed: Mapping[str, float]) -> list[str]:
    sentences = []
    for name, (low, high) in profiles.items():
        if name in fixed or (low is not None and high is not None):
            continue
        side = "on both sides" if low is None and high is None else "below" if low is None else "above"
        sentences.append(f"the profile interval of {name} is open {side}")
    return sentences


def _status(optimum: Optimum, resting: list[str]) -> Status:
    if not optimum.settled:
        return Status.NOT_CONVERGED
    return Status.AT_BOUND if resting else Status.CONVERGED
