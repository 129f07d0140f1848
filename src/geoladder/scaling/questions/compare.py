"""Which law? Akaike weights over forms, the best put to the test, and whether groups of runs share exponents."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import optimize, stats

from geoladder.scaling.fit.covariance import Shares
from geoladder.scaling.fit.extrapolate import Held, hold_out
from geoladder.scaling.fit.fit import Settings, fit_points
from geoladder.scaling.fit.mixed import Variance, pooled
from geoladder.scaling.fit.points import Points, Refusal
from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.fit.result import Fit, Status
from geoladder.scaling.fit.trend import Trend, trend
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import PowerSum, form_of
from geoladder.scaling.laws.loss import Loss

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNDECIDED = 2.0
"""Laws whose AICc differ by less are not told apart (Burnham & Anderson 2002, section 2.6)."""
QUICK = Settings(bootstrap=0, profile=False)


@dataclass(frozen=True)
class Candidate:
    """One law among several: its AICc, how far that is above the best, and its Akaike weight.

    All three are None where there is no AICc, for the reason given.
    """

    form: str
    aicc: float | None = None
    delta: float | None = None
    weight: float | None = None
    reason: str = ""


def aicc(squares: float, points: int, parameters: int) -> float | None:
    """Corrected Akaike criterion of a least-squares fit; None where undefined.

    Hurvich & Tsai 1989: M log(S / M) + 2 K + 2 K (K + 1) / (M - K - 1), K = parameters + 1 for the variance;
    undefined for M <= K + 1.
    """
    k = parameters + 1
    if points <= k + 1 or squares <= 0:
        return None
    return float(points * np.log(squares / points) + 2 * k + 2 * k * (k + 1) / (points - k - 1))


def criterion_of(fit: Fit, held: int = 0) -> float | None:
    """AICc of a fit with so many parameters held, the variances of cells and runs counted and their likelihood's."""
    parameters, split = len(fit.params) - held, fit.variance
    if split is None or split.level == "row":
        return aicc(fit.objective or 0.0, fit.n_points, parameters)
    parameters += sum(value > 0 for value in (split.sigma_cell, split.sigma_run, split.memory))
    criterion = aicc(split.squares, fit.n_points, parameters)
    return None if criterion is None else criterion + split.log_det


def compare(read: Points, forms: Sequence[str], settings: Settings) -> list[Candidate]:
    """Fit several laws to the same runs; best first, refused ones last.

    Raises:
        Refusal: the loss is no likelihood AICc is defined for.
    """
    if settings.loss.robust:
        raise Refusal("AICc compares likelihoods of least-squares fits; compare with --loss log_squared")
    refused, usable = [], {}
    for name in dict.fromkeys(form_of(form).name for form in forms):
        fit = fit_points(form_of(name), read, settings)
        if fit.objective is None:
            refused.append(Candidate(name, reason="; ".join(fit.identifiability.reasons)))
            continue
        criterion = criterion_of(fit, len(settings.fixed))
        if criterion is None:
            reason = f"AICc is undefined: {fit.n_points} points, {len(fit.params)} parameters"
            refused.append(Candidate(name, reason=reason))
        else:
            usable[name] = criterion
    delta = np.array(list(usable.values())) - min(usable.values(), default=0.0)
    likelihood = np.exp(-0.5 * delta)
    weight = likelihood / likelihood.sum()
    candidates = [
        Candidate(name, criterion, float(above), float(share))
        for (name, criterion), above, share in zip(usable.items(), delta, weight, strict=True)
    ]
    return [*sorted(candidates, key=lambda candidate: usable[candidate.form]), *refused]


def verdict(candidates: Sequence[Candidate]) -> str:
    """One sentence on which laws remain."""
    left = [c.form for c in candidates if c.delta is not None and c.delta < UNDECIDED]
    if not left:
        return "no law can be compared on these points"
    if len(left) == 1:
        return f"{left[0]} is best by at least {UNDECIDED:g} units of AICc"
    return f"not told apart (AICc within {UNDECIDED:g}): {', '.join(left)}"


@dataclass(frozen=True)
class Contest:
    """Laws best first; trend of each size; the best law's runs held out along each of its sizes; its seeds."""

    laws: list[Candidate]
    verdict: str
    trends: list[Trend]
    held_out: dict[str, Held]
    seeds: Variance | None

    def to_frame(self) -> pd.DataFrame:
        """One row a law, best first: form, aicc, delta, weight, reason."""
        return pd.DataFrame([asdict(law) for law in self.laws])

    def plot(self, axes: "Axes | None" = None) -> "Axes":
        """Draw the weights of the laws."""
        from geoladder.scaling.plots import plot_contest

        return plot_contest(self, axes)

    def lines(self) -> list[str]:
        """For people."""
        rows = [f"{'law':18} {'AICc':>10} {'delta':>8} {'weight':>7}"]
        for c in self.laws:
            numbers = c.reason if c.aicc is None else f"{c.aicc:10.2f} {c.delta:8.2f} {c.weight:7.3f}"
            rows.append(f"{c.form:18} {numbers}")
        rows += [self.verdict, *(t.verdict for t in self.trends)]
        for role, hidden in self.held_out.items():
            outcome = "; ".join(hidden.skipped)
            if runs := hidden.runs:
                errors = ", ".join(f"{100 * run.error:+.2f} %" for run in runs[:6])
                hits = f"{sum(run.hit for run in runs)} of {len(runs)} hidden runs"
                outcome = f"{hits} inside the prediction interval; errors {errors}"
            rows.append(f"{self.laws[0].form} without the largest {role}: {outcome}")
        if seeds := self.seeds:
            errors = ", ".join(f"{k} {sd:.2g} ({seeds.plain[k]:.2g})" for k, sd in seeds.mixed.items())
            beside = f", between runs {seeds.sigma_run:.2%}" if seeds.sigma_run else ""
            rows.append(
                f"scatter between seeds {seeds.sigma_seed:.2%}, between cells {seeds.sigma_cell:.2%}{beside}; "
                f"standard errors with what they share (without): {errors}"
            )
        return rows


def contest(
    table: pd.DataFrame,
    read: Points,
    forms: Sequence[str],
    columns: Mapping[str, str],
    y: str,
    settings: Settings,
    roles: Mapping[str, Any] = MappingProxyType({}),
) -> Contest:
    """Compare laws on a table, and put the best to the test: does the error fall, are the largest runs predicted?

    `read` are the rows of the table, checked, with the `columns` of the law that has most roles; `roles` are other
    columns, as `read_points` takes them. The bootstrap of `settings` makes the prediction intervals.
    """
    blind = replace(settings, profile=False)
    quick = replace(blind, bootstrap=0)
    candidates = compare(read, forms, quick)
    best = form_of(candidates[0].form)
    sizes = {role: columns[role] for role in best.variables}
    held_out = {role: hold_out(table, best.name, sizes, y, role, blind, **roles) for role in sizes}
    winner = fit_points(best, read, quick)
    trends = [trend(read, role, settings.level) for role in read.x]
    return Contest(candidates, verdict(candidates), trends, held_out, winner.variance)


@dataclass(frozen=True)
class Shared:
    """Whether groups (architectures) share exponents: the shared ones, and AICc with shared and with separate ones.

    `p` is of the F test of shared against separate exponents.
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
    alone = {name: fit_points(law, read, QUICK) for name, read in groups.items()}
    for name, fit in alone.items():
        if fit.status is Status.NOT_IDENTIFIED:
            raise Refusal(f"{name}: {'; '.join(fit.identifiability.reasons)}")
    groups = {name: _observations(law, read, alone[name]) for name, read in groups.items()}
    alone = {name: fit_points(law, read, QUICK) for name, read in groups.items()}
    separate = sum(fit.objective or 0.0 for fit in alone.values())
    exponents = np.array([[fit.params[e] for e in law.exponents] for fit in alone.values()])
    optimum = optimize.minimize(  # type: ignore[call-overload]  # the stubs know no array of unknown rank
        lambda e: sum(_squares(law, read, e) for read in groups.values()),
        np.clip(np.median(exponents, axis=0), 0.02, 5.0),
        method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-12},
    )
    least = float(optimum.fun)
    points = sum(len(read.y) for read in groups.values())
    full = len(law.parameters) * len(groups)
    fewer = len(law.exponents) * (len(groups) - 1)
    free = max(points - full, 1)
    p = float(stats.f.sf(max(least - separate, 0.0) / fewer / (separate / free), fewer, free))
    common = dict(zip(law.exponents, optimum.x.tolist(), strict=True))
    if p < 1 - level:
        sentence = f"exponents differ between {', '.join(groups)} (p = {p:.3g})"
    else:
        sentence = f"no difference of exponents seen between {', '.join(groups)} (p = {p:.2f})"
    return Shared(common, p, aicc(least, points, full - fewer), aicc(separate, points, full), sentence)


def _observations(law: PowerSum, read: Points, fit: Fit) -> Points:
    """The runs, or where cells vary about the law the cells' means: what counts as independent."""
    split = fit.variance
    if split is None or split.level != "cell":
        return read
    means = pooled(Problem(law, read, Loss(), {}), Shares(cell=split.sigma_cell**2 / split.total**2))
    return means.read if means else read


def _squares(law: PowerSum, read: Points, exponents: Array) -> float:
    """Least sum of squares with the exponents held; infinite outside their bounds."""
    if (exponents < 0).any() or (exponents > 8).any():
        return float("inf")
    fixed = dict(zip(law.exponents, exponents.tolist(), strict=True))
    problem = Problem(law, read, Loss(), fixed)
    starts = problem.starts()
    starts[:, len(law.logged) :] = exponents
    _, objective, _ = problem.minimise(np.unique(starts.round(3), axis=0)[:4], warm=True)
    return float(2 * objective.min())
