"""Options of the verbs that read a CSV of runs, and what they make: a checked table, points, and how to fit."""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from geoladder import __version__
from geoladder.errors import GeoladderError
from geoladder.scaling.laws.forms import form_of

if TYPE_CHECKING:
    import pandas as pd

    from geoladder.scaling.fit.fit import Settings
    from geoladder.scaling.fit.points import Points
    from geoladder.scaling.fit.resample import Kind
    from geoladder.scaling.laws.loss import Kind as LossKind

HUBER_DELTA = 1e-3


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Runs:
    """Which columns of the CSV are what, and which of its rows count.

    Attributes:
        n: column of the first size.
        d: column of the second size, such as data.
        u: column of unique data (law data_constrained).
        y: column of the error.
        seed_col: column of seeds: repeats of a cell.
        sd_col: column of standard errors of y.
        exclude: leave out rows, such as 'y > 5' (names with spaces in `backticks`); repeatable.
    """

    n: str = "n"
    d: str | None = None
    u: str | None = None
    y: str = "y"
    seed_col: str | None = None
    sd_col: str | None = None
    exclude: list[str] = field(default_factory=list)

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
        return table, excluded

    def columns(self, form: str) -> dict[str, str]:
        """Column of each role a law has."""
        columns = {"n": self.n, "d": self.d, "u": self.u}
        return {role: column for role in form_of(form).variables or ("n",) if (column := columns[role])}

    def points(self, table: "pd.DataFrame", form: str) -> "Points":
        """The checked runs a law is fitted to; raises Refusal."""
        from geoladder.scaling.fit.points import read_points

        columns = self.columns(form)
        return read_points(table, form_of(form), columns, self.y, seed=self.seed_col, sd=self.sd_col)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How laws are fitted.

    Attributes:
        fix: hold a parameter, NAME=VALUE; repeatable.
        delta: of the Huber loss (default 1e-3).
        bootstrap: resamples; 0 for none.
        level: of the intervals.
        rng: seed of the bootstrap.
    """

    fix: list[str] = field(default_factory=list)
    delta: float | None = None
    bootstrap: int = 4000
    level: float = 0.95
    rng: int = 42

    def settings(self, loss: "LossKind", kind: "Kind | None" = None) -> "Settings":
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
        usual = HUBER_DELTA if loss == "huber" else float("inf")
        return Settings(
            loss=Loss(loss, usual if self.delta is None else self.delta),
            bootstrap=self.bootstrap,
            kind=kind,
            level=self.level,
            rng=self.rng,
            fixed=fixed,
        )


def provenance(source: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What was read, with its checksum, with which settings and versions."""
    from importlib.metadata import version

    return {
        "source": str(source),
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "settings": dict(settings),
        "geoladder": __version__,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "scipy", "numba")},
    }
