"""The verbs that work on any CSV: fit, predict, compare, frontier, claims. They know nothing of studies.

Unusual: numpy is imported, for the help of `fit` to list the laws; all else waits until a verb runs.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from geoladder.errors import GeoladderError
from geoladder.runs.atomic import write_json
from geoladder.scaling.fit.options import Fitting, Runs, provenance
from geoladder.scaling.laws.forms import FORMS, form_of
from geoladder.scaling.laws.loss import Kind as LossKind

if TYPE_CHECKING:
    from geoladder.scaling.questions.frontier import Estimate

RUNS, FITTING = Runs(), Fitting()
LAWS = "constant,product,chinchilla_tied,chinchilla"


def fit(
    points: Path,
    /,
    runs: Runs = RUNS,
    fitting: Fitting = FITTING,
    *,
    out: Path,
    form: Annotated[str, Parameter(help=f"the law: {', '.join(FORMS)}")] = "chinchilla",
    loss: LossKind = "huber",
    bootstrap_kind: Literal["case", "cell", "residual"] | None = None,
) -> None:
    """Fit a scaling law to a CSV of runs.

    Args:
        points: CSV, one row per run.
        runs: columns and rows.
        fitting: how.
        out: JSON to write.
        form: see there.
        loss: what is minimised.
        bootstrap_kind: what is redrawn (default: by the number of runs and seeds).
    """
    from geoladder.scaling.fit import record
    from geoladder.scaling.fit.fit import fit_points
    from geoladder.scaling.fit.points import Refusal
    from geoladder.scaling.fit.result import Status

    law = form_of(form)
    table, excluded = runs.read(points)
    result = fit_points(law, runs.points(table, form), fitting.settings(loss, bootstrap_kind))
    settings = asdict(runs) | asdict(fitting) | {"form": form, "loss": loss, "bootstrap_kind": bootstrap_kind}
    record.write(result, out, excluded=excluded, provenance=provenance(points, settings))
    print(record.summary(result))  # noqa: T201
    if result.status is Status.NOT_IDENTIFIED:
        raise Refusal(f"{law.equation} was not fitted; {out} holds the reasons and no parameters")


def predict(
    fit: Path,
    /,
    *,
    n: float | None = None,
    d: float | None = None,
    u: float | None = None,
    level: float = 0.95,
) -> None:
    """Say what a fitted law expects of a run not made.

    Args:
        fit: JSON written by `geoladder fit`.
        n: first size.
        d: second size.
        u: unique data.
        level: of the intervals.
    """
    import numpy as np

    from geoladder.scaling.fit import record

    law = record.read(fit)
    roles = form_of(law.form).variables
    sizes = {
        role: np.array([size])
        for role, size in (("n", n), ("d", d), ("u", u))
        if role in roles and size is not None
    }
    if law.params and set(roles) - set(sizes):
        raise GeoladderError(f"{law.equation} needs --{' and --'.join(roles)}")
    line = f"y = {law.predict(**sizes)[0]:.6g}"
    if law.draws:
        band, run = law.band(level, **sizes), law.prediction(level, **sizes)
        line += (
            f"; the law [{band[0][0]:.6g}, {band[1][0]:.6g}], a new run [{run[0][0]:.6g}, {run[1][0]:.6g}]"
        )
    decades = law.decades_outside(**sizes)[0]
    if decades > 0:
        line += f"; {decades:.1f} decades outside the sizes fitted"
    print(line)  # noqa: T201


def compare(
    points: Path,
    /,
    runs: Runs = RUNS,
    fitting: Fitting = FITTING,
    *,
    forms: Annotated[str, Parameter(help=f"laws, separated by commas: {', '.join(FORMS)}")] = LAWS,
    loss: LossKind = "log_squared",
    by: str | None = None,
    out: Path | None = None,
) -> None:
    """Say which law fits best, and whether it predicts the largest runs.

    Args:
        points: CSV, one row per run.
        runs: columns and rows.
        fitting: how.
        forms: see there.
        loss: what is minimised.
        by: column of groups: do they share the last law's exponents, where do they cross?
        out: JSON to write.
    """
    from geoladder.scaling.fit.fit import fit_points
    from geoladder.scaling.questions.compare import shared_exponents
    from geoladder.scaling.questions.contest import contest
    from geoladder.scaling.questions.crossover import crossovers

    table, excluded = runs.read(points)
    laws = [name.strip() for name in forms.split(",")]
    richest = max(laws, key=lambda name: len(form_of(name).variables))
    checked, settings = runs.points(table, richest), fitting.settings(loss)
    outcome = contest(table, checked, laws, runs.columns(richest), runs.y, settings, runs.seed_col)
    lines, shared, crossings = outcome.lines(), None, []
    if by:
        if by not in table:
            raise GeoladderError(f"no column {by}; there are: {', '.join(map(str, table.columns))}")
        groups = {str(group): runs.points(rows, laws[-1]) for group, rows in table.groupby(by)}
        shared = shared_exponents(laws[-1], groups, settings.level)
        fits = {group: fit_points(form_of(laws[-1]), rows, settings) for group, rows in groups.items()}
        crossings = crossovers(fits)
        lines += [shared.verdict, *(f"{a} (1) and {b} (2): {cross.verdict}" for a, b, cross in crossings)]
    print("\n".join(lines))  # noqa: T201
    if out:
        report = asdict(outcome) | {
            "shared_exponents": shared and asdict(shared),
            "crossovers": [{"first": a, "second": b, **asdict(cross)} for a, b, cross in crossings],
            "excluded": excluded,
        }
        options = asdict(runs) | asdict(fitting) | {"forms": forms, "loss": loss, "by": by}
        write_json(out, report | {"provenance": provenance(points, options)})


def frontier(
    fit: Path,
    /,
    *,
    flops: Annotated[list[float], Parameter(consume_multiple=True)],
    flops_per: float = 6.0,
    out: Path | None = None,
) -> None:
    """Find the best sizes for a budget, from a fitted law.

    Args:
        fit: JSON written by `geoladder fit`.
        flops: budgets C, one or more.
        flops_per: C / (N D); 6 is dense training.
        out: JSON to write.
    """
    from geoladder.scaling.fit import record
    from geoladder.scaling.questions.frontier import allocate

    law = record.read(fit)
    allocations = [allocate(law, budget, flops_per) for budget in flops]
    for best in allocations:
        far = f"; {' and '.join(best.outside)} outside the sizes fitted" if best.outside else ""
        print(f"C = {best.flops:.3g}: N = {_said(best.n)}, D = {_said(best.d)}, y = {_said(best.y)}{far}")  # noqa: T201
    print(f"N* grows as C^{_said(allocations[0].exponent)}")  # noqa: T201
    if out:
        source = provenance(fit, {"flops": flops, "flops_per": flops_per})
        write_json(out, {"allocations": [asdict(best) for best in allocations], "provenance": source})


def isoflop(
    points: Path,
    /,
    *,
    flops: str = "flops",
    n: str = "n",
    y: str = "y",
    level: float = 0.95,
    rng: int = 42,
    out: Path | None = None,
) -> None:
    """Find the best N of each budget from runs alone, and how it grows.

    Args:
        points: CSV, one row per run; a budget needs three sizes.
        flops: column of the budgets C.
        n: column of the parameters.
        y: column of the errors.
        level: of the intervals.
        rng: seed of the intervals' draws.
        out: JSON to write.
    """
    from geoladder.scaling.questions.isoflop import isoflop as minima_of

    curves = minima_of(Runs().read(points)[0], flops, n, y, level=level, rng=rng)
    for best in curves.minima:
        ends = "" if best.low is None else f" [{best.low:.3g}, {best.high:.3g}]"
        far = "" if best.inside else "; outside the sizes run"
        print(f"C = {best.flops:.3g}: N = {best.n:.3g}{ends}, y = {best.y:.3g} of {best.points} runs{far}")  # noqa: T201
    line = curves.line
    if line is None:
        print("fewer than two budgets have a minimum inside the sizes run: no exponent")  # noqa: T201
    else:
        ends = "" if line.low is None else f" [{line.low:.3g}, {line.high:.3g}]"
        print(f"N* = {line.coefficient:.3g} C^{line.slope:.3g}{ends}")  # noqa: T201
    if out:
        settings = {"flops": flops, "n": n, "y": y, "level": level, "rng": rng}
        write_json(out, asdict(curves) | {"provenance": provenance(points, settings)})


def claims(claims: Path, table: Path, /, *, out: Path, level: float = 0.95) -> None:
    """Judge claims on a table of few-shot runs.

    Args:
        claims: YAML of claims, such as studies/claims/paper.yaml.
        table: CSV with task, corpus, architecture, size, n, seed, y.
        out: CSV or JSON to write.
        level: of the intervals.
    """
    from geoladder.scaling.claims.verdicts import run_claims

    for verdict in run_claims(claims, table, out, level):
        print(f"{verdict.id}: {verdict.verdict}. {verdict.as_plotted}. {verdict.reason}".strip())  # noqa: T201


def _said(estimate: "Estimate") -> str:
    if estimate.low is None:
        return f"{estimate.value:.3g}"
    high = "unbounded" if estimate.high is None else f"{estimate.high:.3g}"
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {high}]"
