"""Options the verbs on tables of runs share: columns of a table, how laws are fitted, the report they write."""

import platform
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
    from geoladder.scaling.table import RunTable

Kind = Literal["case", "cell", "run", "residual"] | None
RunsFile = Annotated[Path, Parameter(help="one row per run: CSV, TSV, JSON lines or parquet")]
FitJson = Annotated[Path, Parameter(help="JSON written by `geoladder fit`")]
Report = Annotated[Path | None, Parameter(help="JSON to write")]
Level = Annotated[float, Parameter(help="of the intervals")]
Forms = Annotated[str, Parameter(help=f"laws, separated by commas: {', '.join(LAW_NAMES)}")]
LossName = Annotated[str, Parameter(help=f"what is minimised: {', '.join(LOSS_NAMES)}")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Runs:
    """Which columns of the table are what, and which of its rows count."""

    n: Annotated[str, Parameter(help="column of the first size, or a formula of columns")] = "n"
    d: Annotated[
        str | None, Parameter(help="column of the second size, or a formula such as 'FLOP/(6*N)'")
    ] = None
    u: Annotated[str | None, Parameter(help="column of unique data (law data_constrained)")] = None
    y: Annotated[str, Parameter(help="column of the error, or a formula such as '1 - accuracy'")] = "y"
    seed_col: Annotated[str | None, Parameter(help="column of seeds: repeats of a cell")] = None
    sd_col: Annotated[str | None, Parameter(help="column of standard errors of y")] = None
    run_col: Annotated[str | None, Parameter(help="column of runs, where rows are checkpoints of them")] = (
        None
    )
    levels_ratio: Annotated[
        float | None,
        Parameter(help="sizes within this ratio are one level (default 1.1, less in a narrow range)"),
    ] = None
    repeats: Annotated[
        bool, Parameter(help="rows of the same sizes, equal ones too, are runs made again, not copies")
    ] = False
    exclude: Annotated[
        tuple[str, ...],
        Parameter(help="leave out rows, such as 'y > 5' (names with spaces in `backticks`); repeatable"),
    ] = ()

    def read(self, file: Path, sizes: Iterable[str] = ()) -> "tuple[RunTable, list[dict[str, Any]]]":
        """The table without the rows excluded, and those rows with the expression that excluded them.

        Sizes such as `124M` become numbers in the columns of n, d, u and in `sizes`; a size or error that is written
        as a formula becomes a column.

        Raises:
            GeoladderError: no such file, no table, or an expression that cannot be evaluated.
        """
        from geoladder.scaling.table import read_table, with_sizes

        read = read_table(file)
        table = with_sizes(read.rows, [*filter(None, (self.n, self.d, self.u)), *sizes])
        excluded: list[dict[str, Any]] = []
        for expression in self.exclude:
            try:
                rows = table.query(expression).index
            except Exception as problem:  # noqa: BLE001 - an expression can fail in any way; the user wrote it
                raise GeoladderError(f"--exclude {expression!r} cannot be evaluated: {problem}") from None
            excluded += [{"row": int(row), "reason": expression} for row in rows]
            table = table.drop(rows)
        return replace(read, rows=self._with_formulas(table)), excluded

    def points(self, table: "pd.DataFrame", law: "Form") -> "tuple[dict[str, str], Points]":
        """Column of each role a law has, and the checked runs it is fitted to; raises Refusal."""
        from geoladder.scaling.fit.points import read_points
        from geoladder.scaling.fit.rising import refuse_rising

        named = {"n": self.n, "d": self.d, "u": self.u}
        columns = {role: column for role in law.variables or ("n",) if (column := named[role])}
        read = read_points(table, law, columns, self.y, **self.roles)
        refuse_rising(read, law, columns, self.y)
        return columns, read

    @property
    def roles(self) -> dict[str, Any]:
        """Columns other than sizes and error, and what counts as a level, as `read_points` takes them."""
        ratio = self.levels_ratio
        columns = {"seed": self.seed_col, "sd": self.sd_col, "run": self.run_col}
        return columns | {"levels_ratio": ratio, "repeats": self.repeats}

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


def write_report(
    out: Path | None, report: dict[str, Any], source: Path, sha256: str, settings: dict[str, Any]
) -> None:
    """Write a report, with what was read, its digest, and with which settings and versions; no file, no report."""
    from importlib.metadata import version

    if out is None:
        return
    provenance = {
        "source": str(source),
        "sha256": sha256,
        "settings": settings,
        "geoladder": __version__,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "scipy", "numba")},
    }
    write_json(out, report | {"provenance": provenance})


RUNS, FITTING = Runs(), Fitting()
