"""The verbs that work on any CSV. They know nothing of studies; heavy imports wait until one runs."""

import hashlib
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from geoladder import __version__
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import write_json
from geoladder.scaling.laws import LAW_NAMES, LOSS_NAMES

if TYPE_CHECKING:
    import pandas as pd

    from geoladder.scaling.fit.fit import Settings
    from geoladder.scaling.fit.points import Points
    from geoladder.scaling.laws.forms import Form

Kind = Literal["case", "cell", "run", "residual"] | None
RunsCsv = Annotated[Path, Parameter(help="CSV, one row per run")]
FitJson = Annotated[Path, Parameter(help="JSON written by `geoladder fit`")]
Report = Annotated[Path | None, Parameter(help="JSON to write")]
Level = Annotated[float, Parameter(help="of the intervals")]
Forms = Annotated[str, Parameter(help=f"laws, separated by commas: {', '.join(LAW_NAMES)}")]
LossName = Annotated[str, Parameter(help=f"what is minimised: {', '.join(LOSS_NAMES)}")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Runs:
    """Which columns of the CSV are what, and which of its rows count."""

    n: Annotated[str, Parameter(help="column of the first size, or a formula of columns")] = "n"
    d: Annotated[
        str | None, Parameter(help="column of the second size, or a formula such as 'FLOP/(6*N)'")
    ] = None
    u: Annotated[str | None, Parameter(help="column of unique data (law data_constrained)")] = None
    y: Annotated[str, Parameter(help="column of the error")] = "y"
    seed_col: Annotated[str | None, Parameter(help="column of seeds: repeats of a cell")] = None
    sd_col: Annotated[str | None, Parameter(help="column of standard errors of y")] = None
    run_col: Annotated[str | None, Parameter(help="column of runs, where rows are checkpoints of them")] = (
        None
    )
    levels_ratio: Annotated[
        float | None,
        Parameter(help="sizes within this ratio are one level (default 1.1, less in a narrow range)"),
    ] = None
    exclude: Annotated[
        tuple[str, ...],
        Parameter(help="leave out rows, such as 'y > 5' (names with spaces in `backticks`); repeatable"),
    ] = ()

    def read(self, csv: Path) -> "tuple[pd.DataFrame, list[dict[str, Any]]]":
        """The CSV without the rows excluded, and those rows with the expression that excluded them.

        Raises:
            GeoladderError: no such file, no CSV, or an expression that cannot be evaluated.
        """
        import pandas as pd

        try:
            table = pd.read_csv(csv)
        except (OSError, ValueError) as problem:
            raise GeoladderError(f"{csv} cannot be read as CSV: {problem}") from None
        excluded: list[dict[str, Any]] = []
        for expression in self.exclude:
            try:
                rows = table.query(expression).index
            except Exception as problem:  # noqa: BLE001 - an expression can fail in any way; the user wrote it
                raise GeoladderError(f"--exclude {expression!r} cannot be evaluated: {problem}") from None
            excluded += [{"row": int(row) + 1, "reason": expression} for row in rows]
            table = table.drop(rows)
        return self._with_formulas(table), excluded

    def points(self, table: "pd.DataFrame", law: "Form") -> "tuple[dict[str, str], Points]":
        """Column of each role a law has, and the checked runs it is fitted to; raises Refusal."""
        from geoladder.scaling.fit.points import read_points

        named = {"n": self.n, "d": self.d, "u": self.u}
        columns = {role: column for role in law.variables or ("n",) if (column := named[role])}
        return columns, read_points(table, law, columns, self.y, **self.roles)

    @property
    def roles(self) -> dict[str, Any]:
        """Columns other than sizes and error, and what counts as a level, as `read_points` takes them."""
        ratio = self.levels_ratio
        return {"seed": self.seed_col, "sd": self.sd_col, "run": self.run_col, "levels_ratio": ratio}

    def _with_formulas(self, table: "pd.DataFrame") -> "pd.DataFrame":
        """The table with a column for each size or error that is a formula, named as it is written."""
        from geoladder.scaling.expressions import column

        formulas = [name for name in (self.n, self.d, self.u, self.y) if name and set(name) & set("+-*/()`")]
        return table.assign(**{name: column(table, name) for name in formulas if name not in table})


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How laws are fitted."""

    fix: Annotated[tuple[str, ...], Parameter(help="hold a parameter, NAME=VALUE; repeatable")] = ()
    delta: Annotated[float | None, Parameter(help="of the Huber loss (default 1e-3)")] = None
    bootstrap: Annotated[int, Parameter(help="resamples; 0 for none")] = 400
    level: Level = 0.95
    rng: Annotated[int, Parameter(help="seed of the bootstrap")] = 42

    def settings(self, loss: str, kind: Kind = None) -> "Settings":
        """Settings of a fit that minimises `loss`; raises GeoladderError for options that make no sense."""
        from geoladder.scaling.fit.fit import Settings
        from geoladder.scaling.laws.loss import Loss

        if self.bootstrap < 0 or not 0 < self.level < 1:
            raise GeoladderError(
                f"--bootstrap {self.bootstrap} --level {self.level}: resamples are 0 or more, the level lies "
                "between 0 and 1"
            )
        fixed = {}
        for text in self.fix:
            name, _, value = text.partition("=")
            try:
                fixed[name.strip()] = float(value)
            except ValueError:
                raise GeoladderError(f"--fix {text}: write NAME=VALUE, such as --fix E=1.7") from None
        minimised = Loss.of(loss, self.delta)  # type: ignore[arg-type]  # checked there
        return Settings(minimised, self.bootstrap, kind, level=self.level, rng=self.rng, fixed=fixed)


def _write(out: Path | None, report: dict[str, Any], source: Path, settings: dict[str, Any]) -> None:
    """Write a report, with what was read, its checksum, and with which settings and versions; no file, no report."""
    from importlib.metadata import version

    if out is None:
        return
    provenance = {
        "source": str(source),
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "settings": settings,
        "geoladder": __version__,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "scipy", "numba")},
    }
    write_json(out, report | {"provenance": provenance})


RUNS, FITTING = Runs(), Fitting()


def fit(
    points: RunsCsv,
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
    """Fit a scaling law to a CSV of runs."""
    from geoladder.scaling.fit import record
    from geoladder.scaling.fit.fit import fit_points
    from geoladder.scaling.fit.points import Refusal
    from geoladder.scaling.laws.forms import form_of

    law = form_of(form)
    table, excluded = runs.read(points)
    _, checked = runs.points(table, law)
    result = fit_points(law, checked, fitting.settings(loss, bootstrap_kind))
    settings = asdict(runs) | asdict(fitting) | {"form": form, "loss": loss, "bootstrap_kind": bootstrap_kind}
    _write(out, record.to_json(result) | {"excluded": excluded}, points, settings)
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
    points: RunsCsv,
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
    from geoladder.scaling.laws.forms import form_of
    from geoladder.scaling.questions.compare import contest, shared_exponents
    from geoladder.scaling.questions.crossover import crossovers

    table, excluded = runs.read(points)
    laws = [name.strip() for name in forms.split(",")]
    richest = max(map(form_of, laws), key=lambda law: len(law.variables))
    last = form_of(laws[-1])
    columns, checked = runs.points(table, richest)
    settings = fitting.settings(loss)
    outcome = contest(table, checked, laws, columns, runs.y, settings, runs.roles)
    lines, shared, crossings = outcome.lines(), None, []
    if by:
        if by not in table:
            raise GeoladderError(f"no column {by}; there are: {', '.join(map(str, table.columns))}")
        groups = {str(group): runs.points(rows, last)[1] for group, rows in table.groupby(by)}
        shared = shared_exponents(last.name, groups, settings.level)
        crossings = crossovers({group: fit_points(last, rows, settings) for group, rows in groups.items()})
        lines.append(shared.verdict)
        lines += [f"{c['first']} (1) and {c['second']} (2): {c['verdict']}" for c in crossings]
    print("\n".join(lines))  # noqa: T201
    answers = {"shared_exponents": shared and asdict(shared), "crossovers": crossings, "excluded": excluded}
    options = asdict(runs) | asdict(fitting) | {"forms": forms, "loss": loss, "by": by}
    _write(out, asdict(outcome) | answers, points, options)


def frontier(
    fit: FitJson,
    /,
    *,
    flops: Annotated[list[float], Parameter(consume_multiple=True, help="budgets C, one or more")],
    flops_per: Annotated[float, Parameter(help="C / (N D); 6 is dense training")] = 6.0,
    out: Report = None,
) -> None:
    """Find the best sizes for a budget, from a fitted law."""
    from geoladder.scaling.fit import record
    from geoladder.scaling.questions.compute import allocate

    law = record.read(fit)
    allocations = [allocate(law, budget, flops_per) for budget in flops]
    for best in allocations:
        far = f"; {' and '.join(best.outside)} outside the sizes fitted" if best.outside else ""
        print(f"C = {best.flops:.3g}: N = {best.n}, D = {best.d}, D/N = {best.d_per_n}, y = {best.y}{far}")  # noqa: T201
    print(f"N* grows as C^{allocations[0].exponent}")  # noqa: T201
    report = {"allocations": [asdict(best) for best in allocations]}
    _write(out, report, fit, {"flops": flops, "flops_per": flops_per})


def isoflop(
    points: Annotated[Path, Parameter(help="CSV, one row per run; a budget needs three sizes")],
    /,
    *,
    flops: Annotated[str, Parameter(help="column of the budgets C")] = "flops",
    n: Annotated[str, Parameter(help="column of the parameters")] = "n",
    y: Annotated[str, Parameter(help="column of the errors")] = "y",
    level: Level = 0.95,
    rng: Annotated[int, Parameter(help="seed of the intervals' draws")] = 42,
    out: Report = None,
) -> None:
    """Find the best N of each budget from runs alone, and how it grows."""
    from geoladder.scaling.questions.compute import Estimate
    from geoladder.scaling.questions.compute import isoflop as minima_of

    curves = minima_of(Runs().read(points)[0], flops, n, y, level=level, rng=rng)
    for best in curves.minima:
        size = Estimate(best.n, best.low, best.high)
        far = "" if best.inside else "; outside the sizes run"
        print(f"C = {best.flops:.3g}: N = {size}, y = {best.y:.3g} of {best.points} runs{far}")  # noqa: T201
    if line := curves.line:
        print(f"N* = {line.coefficient:.3g} C^{Estimate(line.slope, line.low, line.high)}")  # noqa: T201
    else:
        print("fewer than two budgets have a minimum inside the sizes run: no exponent")  # noqa: T201
    _write(out, asdict(curves), points, {"flops": flops, "n": n, "y": y, "level": level, "rng": rng})


def claims(
    claims: Annotated[Path, Parameter(help="YAML of claims, such as studies/claims/paper.yaml")],
    table: Annotated[Path, Parameter(help="CSV with task, corpus, architecture, size, n, seed, y")],
    /,
    *,
    out: Annotated[Path, Parameter(help="CSV or JSON to write")],
    level: Level = 0.95,
) -> None:
    """Judge claims on a table of few-shot runs."""
    from geoladder.scaling.claims.verdicts import run_claims

    for verdict in run_claims(claims, table, out, level):
        print(f"{verdict.id}: {verdict.verdict}. {verdict.as_plotted}. {verdict.reason}".strip())  # noqa: T201
