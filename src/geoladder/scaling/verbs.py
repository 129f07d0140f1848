"""The verbs that work on any CSV: fit, predict, compare, frontier, isoflop, claims. They know nothing of studies."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoladder.errors import GeoladderError
from geoladder.scaling.fit.options import (
    Options,
    add_points_options,
    columns_of,
    points_of,
    provenance,
    settings_of,
    table_of,
)

if TYPE_CHECKING:
    from geoladder.scaling.questions.frontier import Estimate

LAWS = "constant,product,chinchilla_tied,chinchilla"


def add_verbs(verbs: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the parsers of these verbs to the command line's."""
    parser = verbs.add_parser("fit", help="fit a scaling law to a CSV of runs")
    add_points_options(parser, loss="huber")
    parser.add_argument("--form", default="chinchilla", help="the law (default chinchilla)")
    parser.add_argument("--bootstrap-kind", choices=("case", "cell", "residual"), help="what is redrawn")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.set_defaults(run=_fit)
    parser = verbs.add_parser("predict", help="what a fitted law says of a run not made")
    parser.add_argument("fit", type=Path, help="JSON written by `geoladder fit`")
    for role, text in (("n", "first size"), ("d", "second size"), ("u", "unique data")):
        parser.add_argument(f"--{role}", type=float, help=text)
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals (default 0.95)")
    parser.set_defaults(run=_predict)
    parser = verbs.add_parser("compare", help="which law fits best, and does it predict the largest runs?")
    add_points_options(parser, loss="log_squared")
    parser.add_argument("--forms", default=LAWS, help=f"laws, separated by commas (default {LAWS})")
    parser.add_argument(
        "--by", help="column of groups: do they share the last law's exponents, where do they cross?"
    )
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.set_defaults(run=_compare)
    parser = verbs.add_parser("frontier", help="best N and D for a budget, from a fitted law")
    parser.add_argument("fit", type=Path, help="JSON written by `geoladder fit`")
    parser.add_argument("--flops", type=float, nargs="+", required=True, help="budgets C")
    parser.add_argument("--flops-per", type=float, default=6.0, help="C / (N D); default 6, dense training")
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.set_defaults(run=_frontier)
    parser = verbs.add_parser("isoflop", help="best N of each budget from runs alone, and how it grows")
    parser.add_argument("points", type=Path, help="CSV, one row per run; a budget needs three sizes")
    for column, text in (("flops", "budgets C"), ("n", "parameters"), ("y", "errors")):
        parser.add_argument(f"--{column}", default=column, help=f"column of the {text} (default {column})")
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals (default 0.95)")
    parser.add_argument("--rng", type=int, default=42, help="seed of the intervals' draws (default 42)")
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.set_defaults(run=_isoflop, exclude=[])
    parser = verbs.add_parser("claims", help="judge claims on a table of few-shot runs")
    parser.add_argument("claims", type=Path, help="YAML of claims, such as studies/claims/paper.yaml")
    parser.add_argument("table", type=Path, help="CSV with task, corpus, architecture, size, n, seed, y")
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals (default 0.95)")
    parser.add_argument("--out", type=Path, required=True, help="CSV or JSON to write")
    parser.set_defaults(run=_claims)


def _fit(options: Options) -> None:
    from geoladder.scaling.fit import record
    from geoladder.scaling.fit.fit import fit_points
    from geoladder.scaling.fit.points import Refusal
    from geoladder.scaling.fit.result import Status
    from geoladder.scaling.fit.summary import summary
    from geoladder.scaling.laws.forms import form_of

    law = form_of(options.form)
    table, excluded = table_of(options)
    found = fit_points(law, points_of(options, table, options.form), settings_of(options))
    record.write(found, options.out, excluded=excluded, provenance=provenance(options))
    print(summary(found))  # noqa: T201
    if found.status is Status.NOT_IDENTIFIED:
        raise Refusal(f"{law.equation} was not fitted; {options.out} holds the reasons and no parameters")


def _predict(options: Options) -> None:
    import numpy as np

    from geoladder.scaling.fit import record
    from geoladder.scaling.fit.predict import extrapolated
    from geoladder.scaling.laws.forms import form_of

    fit = record.read(options.fit)
    at: dict[str, np.ndarray] = {
        role: np.array([value])
        for role in ("n", "d", "u")
        if (value := getattr(options, role)) is not None and role in form_of(fit.form).variables
    }
    if fit.params and set(form_of(fit.form).variables) - set(at):
        raise GeoladderError(f"{fit.equation} needs --{' and --'.join(form_of(fit.form).variables)}")
    line = f"y = {fit.predict(**at)[0]:.6g}"
    if fit.draws:
        law, run = fit.band(options.level, **at), fit.prediction(options.level, **at)
        line += f"; the law [{law[0][0]:.6g}, {law[1][0]:.6g}], a new run [{run[0][0]:.6g}, {run[1][0]:.6g}]"
    decades = extrapolated(fit, at)[0]
    if decades > 0:
        line += f"; {decades:.1f} decades outside the sizes fitted"
    print(line)  # noqa: T201


def _compare(options: Options) -> None:
    from geoladder.scaling.fit.fit import fit_points
    from geoladder.scaling.laws.forms import form_of
    from geoladder.scaling.questions.compare import shared_exponents
    from geoladder.scaling.questions.contest import contest
    from geoladder.scaling.questions.crossover import crossovers

    table, excluded = table_of(options)
    forms = [name.strip() for name in options.forms.split(",")]
    richest = max(forms, key=lambda name: len(form_of(name).variables))
    read, settings = points_of(options, table, richest), settings_of(options)
    found = contest(table, read, forms, columns_of(options, richest), options.y, settings, options.seed_col)
    lines, shared, crossings = found.lines(), None, []
    if options.by:
        if options.by not in table:
            raise GeoladderError(f"no column {options.by}; there are: {', '.join(map(str, table.columns))}")
        groups = {str(k): points_of(options, rows, forms[-1]) for k, rows in table.groupby(options.by)}
        shared = shared_exponents(forms[-1], groups, settings.level)
        crossings = crossovers({k: fit_points(form_of(forms[-1]), g, settings) for k, g in groups.items()})
        lines += [shared.verdict, *(f"{a} (1) and {b} (2): {found.verdict}" for a, b, found in crossings)]
    print("\n".join(lines))  # noqa: T201
    if options.out:
        also = {
            "shared_exponents": None if shared is None else dataclasses.asdict(shared),
            "crossovers": [
                {"first": a, "second": b, **dataclasses.asdict(found)} for a, b, found in crossings
            ],
        }
        _write(options, found.to_json() | also | {"excluded": excluded})


def _frontier(options: Options) -> None:
    from geoladder.scaling.fit import record
    from geoladder.scaling.questions.frontier import allocate

    fit = record.read(options.fit)
    found = [allocate(fit, flops, options.flops_per) for flops in options.flops]
    for best in found:
        far = f"; {' and '.join(best.outside)} outside the sizes fitted" if best.outside else ""
        print(f"C = {best.flops:.3g}: N = {_said(best.n)}, D = {_said(best.d)}, y = {_said(best.y)}{far}")  # noqa: T201
    print(f"N* grows as C^{_said(found[0].exponent)}")  # noqa: T201
    if options.out:
        _write(options, {"allocations": [dataclasses.asdict(a) for a in found]})


def _isoflop(options: Options) -> None:
    from geoladder.scaling.questions.isoflop import isoflop

    table, _ = table_of(options)
    curves = isoflop(table, options.flops, options.n, options.y, level=options.level, rng=options.rng)
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
    if options.out:
        _write(options, dataclasses.asdict(curves))


def _claims(options: Options) -> None:
    from geoladder.scaling.claims.verdicts import run_claims

    for verdict in run_claims(options.claims, options.table, options.out, options.level):
        print(f"{verdict.id}: {verdict.verdict}. {verdict.as_plotted}. {verdict.reason}".strip())  # noqa: T201


def _said(estimate: "Estimate") -> str:
    if estimate.low is None:
        return f"{estimate.value:.3g}"
    high = "unbounded" if estimate.high is None else f"{estimate.high:.3g}"
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {high}]"


def _write(options: Options, content: dict[str, Any]) -> None:
    from geoladder.runs.atomic import write_json

    write_json(options.out, content | {"provenance": provenance(options)})
