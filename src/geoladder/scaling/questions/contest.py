"""Several laws on one table: which fits, does the error fall at all, and does the best predict the largest runs?"""

import dataclasses
from collections.abc import Mapping, Sequence

import pandas as pd

from geoladder.scaling.fit.extrapolate import Held, hold_out
from geoladder.scaling.fit.fit import Settings, fit_points
from geoladder.scaling.fit.points import Points
from geoladder.scaling.fit.trend import Components, Trend, components, trend
from geoladder.scaling.laws.forms import form_of
from geoladder.scaling.questions.compare import Candidate, compare, verdict


@dataclasses.dataclass(frozen=True)
class Contest:
    """Laws best first; trend of each size; the best law's runs held out along each of its sizes; its seeds."""

    laws: list[Candidate]
    verdict: str
    trends: list[Trend]
    held_out: dict[str, Held]
    seeds: Components | None

    def lines(self) -> list[str]:
        """For people."""
        rows = [f"{'law':18} {'AICc':>10} {'delta':>8} {'weight':>7}"]
        for c in self.laws:
            numbers = c.reason if c.aicc is None else f"{c.aicc:10.2f} {c.delta:8.2f} {c.weight:7.3f}"
            rows.append(f"{c.form:18} {numbers}")
        rows += [self.verdict, *(t.verdict for t in self.trends)]
        for role, hidden in self.held_out.items():
            head = f"{self.laws[0].form} without the largest {role}: "
            hits = sum(run.hit for run in hidden.runs)
            errors = ", ".join(f"{100 * run.error:+.2f} %" for run in hidden.runs[:6])
            tail = f"{hits} of {len(hidden.runs)} hidden runs inside the prediction interval; errors {errors}"
            rows.append(head + (tail if hidden.runs else "; ".join(hidden.skipped)))
        if self.seeds:
            errors = ", ".join(
                f"{name} {self.seeds.mixed[name]:.2g} ({self.seeds.plain[name]:.2g})"
                for name in self.seeds.mixed
            )
            rows.append(
                f"scatter between seeds {self.seeds.sigma_seed:.2%}, between cells {self.seeds.sigma_cell:.2%}; "
                f"standard errors with the cells' share (without): {errors}"
            )
        return rows


def contest(
    table: pd.DataFrame,
    read: Points,
    forms: Sequence[str],
    columns: Mapping[str, str],
    y: str,
    settings: Settings,
    seed: str | None = None,
) -> Contest:
    """Compare laws on a table, and put the best to the test.

    Args:
        table: one row per run.
        read: the same, checked, with the roles of the law that has most.
        forms: names of the laws.
        columns: column of each role.
        y: column of the error.
        settings: how to fit; its bootstrap makes the prediction intervals.
        seed: column of seeds.
    """
    quick = dataclasses.replace(settings, bootstrap=0, profile=False)
    candidates = compare(read, forms, quick)
    best = form_of(candidates[0].form)
    roles = {role: columns[role] for role in best.variables}
    blind = dataclasses.replace(settings, profile=False)
    hidden = {role: hold_out(table, best.name, roles, y, role, blind, seed=seed) for role in roles}
    winner = fit_points(best, read, quick)
    seeds = components(winner, read) if read.repeated and winner.params else None
    trends = [trend(read, role, settings.level) for role in read.x]
    return Contest(candidates, verdict(candidates), trends, hidden, seeds)
