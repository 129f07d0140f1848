"""The verbs that work on any table of runs. They know nothing of studies; heavy imports wait until one runs."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from geoladder.errors import GeoladderError
from geoladder.scaling.laws import LAW_NAMES
from geoladder.scaling.options import (
    FITTING,
    RUNS,
    FitJson,
    Fitting,
    Forms,
    Kind,
    Level,
    LossName,
    Report,
    Runs,
    RunsFile,
    write_report,
)


def fit(
    points: RunsFile,
    /,
    runs: Runs = RUNS,
    fitting: Fitting = FITTING,
    *,
    out: Annotated[Path, Parameter(help="JSON to write")],
    form: Annotated[str, Parameter(help=f"the law: {', '.join(LAW_NAMES)}")] = "chinchilla",
    loss: LossName = "log_squared",
    bootstrap_kind: Annotated[
        Kind, Parameter(help="what is redrawn (default: by the number of runs and seeds)")
    ] = None,
) -> None:
    """Fit a scaling law to a table of runs."""
    from geoladder.scaling.fit import record
    from geoladder.scaling.fit.fit import fit_points
    from geoladder.scaling.fit.points import Refusal
    from geoladder.scaling.laws.forms import form_of

    law = form_of(form)
    table, excluded = runs.read(points)
    _, checked = runs.points(table.rows, law)
    result = fit_points(law, checked, fitting.settings(loss, bootstrap_kind))
    settings = asdict(runs) | asdict(fitting) | {"form": form, "loss": loss, "bootstrap_kind": bootstrap_kind}
    write_report(out, record.to_json(result) | {"excluded": excluded}, points, table.sha256, settings)
    print(record.summary(result))  # noqa: T201
    if not result.params:
        raise Refusal(f"{law.equation} was not fitted; {out} holds the reasons and no parameters")


def predict(
    *fits: FitJson,
    n: Annotated[float | None, Parameter(help="first size")] = None,
    d: Annotated[float | None, Parameter(help="second size")] = None,
    u: Annotated[float | None, Parameter(help="unique data")] = None,
    level: Level = 0.95,
) -> None:
    """Say what a fitted law expects of a run not made; of several laws of the same runs, their average too."""
    import numpy as np

    from geoladder.scaling.fit import record
    from geoladder.scaling.laws.forms import form_of
    from geoladder.scaling.questions.average import averaged

    if not fits:
        raise GeoladderError(
            "predict needs a fit, or several to average: geoladder predict FIT.json --n SIZE"
        )
    laws = [record.read(fit) for fit in fits]
    sizes = {role: np.array([size]) for role, size in (("n", n), ("d", d), ("u", u)) if size is not None}
    for law in laws:
        roles = form_of(law.form).variables
        if law.params and set(roles) - set(sizes):
            raise GeoladderError(f"{law.equation} needs --{' and --'.join(roles)}")
        name = f"{law.form}: " if len(laws) > 1 else ""
        print(name + record.prediction(law, level, {role: sizes[role] for role in roles if role in sizes}))  # noqa: T201
    if len(laws) > 1:
        mean = averaged(laws, level, **sizes)
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in mean.weights.items())
        (low, high), run = mean.band, mean.run
        line = f"average ({weights}): y = {mean.value:.6g}; the law [{low:.6g}, {high:.6g}]"
        print(f"{line}, a new run [{run[0]:.6g}, {run[1]:.6g}]")  # noqa: T201


def compare(
    points: RunsFile,
    /,
    runs: Runs = RUNS,
    fitting: Fitting = FITTING,
    *,
    forms: Forms = "constant,product,chinchilla_tied,chinchilla",
    loss: LossName = "log_squared",
    by: Annotated[
        str | None,
        Parameter(help="column of groups: do they share the last law's exponents, where do they cross?"),
    ] = None,
    out: Report = None,
) -> None:
    """Say which law fits best, and whether it predicts the largest runs."""
    from geoladder.scaling.fit.fit import fit_points
    from geoladder.scaling.fit.points import check_columns
    from geoladder.scaling.laws.forms import form_of
    from geoladder.scaling.questions.compare import contest, shared_exponents
    from geoladder.scaling.questions.crossover import crossovers

    table, excluded = runs.read(points)
    laws = [name.strip() for name in forms.split(",")]
    richest = max(map(form_of, laws), key=lambda law: len(law.variables))
    last = form_of(laws[-1])
    columns, checked = runs.points(table.rows, richest)
    settings = fitting.settings(loss)
    outcome = contest(table.rows, checked, laws, columns, runs.y, settings, runs.roles)
    lines, shared, crossings = outcome.lines(), None, []
    if by:
        check_columns(table.rows, [by])
        groups = {str(group): runs.points(rows, last)[1] for group, rows in table.rows.groupby(by)}
        shared = shared_exponents(last.name, groups, settings.level)
        crossings = crossovers({group: fit_points(last, rows, settings) for group, rows in groups.items()})
        lines.append(shared.verdict)
        lines += [f"{c['first']} (1) and {c['second']} (2): {c['verdict']}" for c in crossings]
    print("\n".join(lines))  # noqa: T201
    answers = {"shared_exponents": shared and asdict(shared), "crossovers": crossings, "excluded": excluded}
    options = asdict(runs) | asdict(fitting) | {"forms": forms, "loss": loss, "by": by}
    write_report(out, asdict(outcome) | answers, points, table.sha256, options)
