"""Which law? Akaike weights over forms, and whether groups of runs share exponents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from geoladder.scaling.fit.fit import Settings, fit_points
from geoladder.scaling.fit.points import Points, Refusal
from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.fit.result import Status
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import PowerSum, form_of
from geoladder.scaling.laws.loss import Loss

UNDECIDED = 2.0
"""Laws whose AICc differ by less are not told apart (Burnham & Anderson 2002, section 2.6)."""


@dataclass(frozen=True)
class Candidate:
    """One law among several.

    Attributes:
        form: its name.
        aicc: None where undefined.
        delta: AICc above the best.
        weight: Akaike weight among the candidates that have one.
        reason: why there is no AICc.
    """

    form: str
    aicc: float | None
    delta: float | None
    weight: float | None
    reason: str


def aicc(squares: float, points: int, parameters: int) -> float | None:
    """Corrected Akaike criterion of a least-squares fit; None where undefined.

    Hurvich & Tsai 1989: M log(S / M) + 2 K + 2 K (K + 1) / (M - K - 1), K = parameters + 1 for the variance;
    undefined for M <= K + 1.
    """
    k = parameters + 1
    if points <= k + 1 or squares <= 0:
        return None
    return float(points * np.log(squares / points) + 2 * k + 2 * k * (k + 1) / (points - k - 1))


def compare(read: Points, forms: Sequence[str], settings: Settings) -> list[Candidate]:
    """Fit several laws to the same runs; best first, refused ones last.

    Raises:
        Refusal: the loss is no likelihood AICc is defined for.
    """
    if settings.loss.kind == "huber":
        raise Refusal("AICc compares likelihoods of least-squares fits; compare with --loss log_squared")
    criteria: dict[str, tuple[float | None, str]] = {}
    for name in dict.fromkeys(form_of(form).name for form in forms):
        fit = fit_points(form_of(name), read, settings)
        if fit.objective is None:
            criteria[name] = None, "; ".join(fit.identifiability.reasons)
            continue
        criterion = aicc(fit.objective, fit.n_points, len(fit.params) - len(settings.fixed))
        undefined = f"AICc is undefined: {fit.n_points} points, {len(fit.params)} parameters"
        criteria[name] = criterion, undefined if criterion is None else ""
    values = np.array([c for c, _ in criteria.values() if c is not None])
    total = np.exp(-0.5 * (values - values.min())).sum() if values.size else 1.0
    rows = []
    for name, (criterion, reason) in criteria.items():
        delta = None if criterion is None else float(criterion - values.min())
        weight = None if delta is None else float(np.exp(-0.5 * delta) / total)
        rows.append(Candidate(name, criterion, delta, weight, reason))
    return sorted(rows, key=lambda c: np.inf if c.aicc is None else c.aicc)


def verdict(candidates: Sequence[Candidate]) -> str:
    """One sentence on which laws remain."""
    left = [c.form for c in candidates if c.delta is not None and c.delta < UNDECIDED]
    if not left:
        return "no law can be compared on these points"
    if len(left) == 1:
        return f"{left[0]} is best by at least {UNDECIDED:g} units of AICc"
    return f"not told apart (AICc within {UNDECIDED:g}): {', '.join(left)}"


@dataclass(frozen=True)
class Shared:
    """Whether groups (architectures) share exponents.

    Attributes:
        exponents: the shared ones.
        p: of the F test of shared against separate exponents.
        aicc_shared: criterion with shared exponents.
        aicc_separate: criterion with separate ones.
        verdict: a plain sentence.
    """

    exponents: dict[str, float]
    p: float
    aicc_shared: float | None
    aicc_separate: float | None
    verdict: str


def shared_exponents(form: str, groups: Mapping[str, Points], level: float = 0.95) -> Shared:
    """Fit a law to each group with exponents of its own, and with common ones.

    Raises:
        Refusal: fewer than two groups, or a group whose design does not identify the law.
    """
    law = form_of(form)
    if not isinstance(law, PowerSum) or not law.exponents or len(groups) < 2:
        raise Refusal("sharing exponents needs a law with exponents and at least two groups")
    settings = Settings(bootstrap=0, profile=False)
    alone = {name: fit_points(law, read, settings) for name, read in groups.items()}
    for name, fit in alone.items():
        if fit.status is Status.NOT_IDENTIFIED:
            raise Refusal(f"{name}: {'; '.join(fit.identifiability.reasons)}")
    separate = sum(fit.objective or 0.0 for fit in alone.values())
    exponents = np.array([[fit.params[e] for e in law.exponents] for fit in alone.values()])
    start = np.clip(np.median(exponents, axis=0), 0.02, 5.0)
    optimum = optimize.minimize(  # type: ignore[call-overload]  # the stubs know no array of unknown rank
        lambda e: float(sum(_held(law, read, e) for read in groups.values())),
        start,
        method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-12},
    )
    least = float(optimum.fun)
    points = sum(len(read.y) for read in groups.values())
    full = len(law.parameters) * len(groups)
    fewer = len(law.exponents) * (len(groups) - 1)
    ratio = max(least - separate, 0.0) / fewer / (separate / max(points - full, 1))
    p = float(stats.f.sf(ratio, fewer, max(points - full, 1)))
    common = dict(zip(law.exponents, optimum.x.tolist(), strict=True))
    sentence = (
        f"exponents differ between {', '.join(groups)} (p = {p:.3g})"
        if p < 1 - level
        else f"no difference of exponents seen between {', '.join(groups)} (p = {p:.2f})"
    )
    return Shared(common, p, aicc(least, points, full - fewer), aicc(separate, points, full), sentence)


def _held(law: PowerSum, read: Points, exponents: Array) -> float:
    """Least sum of squares with the exponents held; infinite outside their bounds."""
    if (exponents < 0).any() or (exponents > 8).any():
        return float("inf")
    held = dict(zip(law.exponents, exponents.tolist(), strict=True))
    problem = Problem(law, read, Loss(), held)
    starts = problem.starts()
    starts[:, len(law.logged) :] = exponents
    _, objective, _ = problem.minimise(np.unique(starts.round(3), axis=0)[:4], warm=True)
    return float(2 * objective.min())
