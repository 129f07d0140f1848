"""From command-line options to a checked table of runs, and to how it is fitted."""

import argparse
import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoladder import __version__
from geoladder.errors import GeoladderError

if TYPE_CHECKING:
    import pandas as pd

    from geoladder.scaling.fit.fit import Settings
    from geoladder.scaling.fit.points import Points

Options = argparse.Namespace
HUBER_DELTA = 1e-3


def add_points_options(parser: argparse.ArgumentParser, loss: str) -> None:
    """Options of verbs that read a CSV of runs."""
    add = parser.add_argument
    add("points", type=Path, help="CSV, one row per run")
    add("--n", default="n", help="column of the first size (default n)")
    add("--d", help="column of the second size, such as data")
    add("--u", help="column of unique data (law data_constrained)")
    add("--y", default="y", help="column of the error (default y)")
    add("--seed-col", help="column of seeds: repeats of a cell")
    add("--sd-col", help="column of standard errors of y")
    add(
        "--exclude",
        action="append",
        default=[],
        metavar="EXPRESSION",
        help="leave out rows, such as 'y > 5' (names with spaces in `backticks`); repeatable",
    )
    add("--fix", action="append", default=[], metavar="NAME=VALUE", help="hold a parameter; repeatable")
    add("--loss", default=loss, help=f"huber, log_squared, squared or log1p_squared (default {loss})")
    add("--delta", type=float, help="of the Huber loss (default 1e-3)")
    add("--bootstrap", type=int, default=4000, help="resamples (default 4000); 0 for none")
    add("--level", type=float, default=0.95, help="of the intervals (default 0.95)")
    add("--rng", type=int, default=42, help="seed of the bootstrap (default 42)")


def table_of(options: Options) -> "tuple[pd.DataFrame, list[dict[str, Any]]]":
    """The CSV without the rows excluded, and those rows with the expression that excluded them.

    Raises:
        GeoladderError: no such file, no CSV, or an expression that cannot be evaluated.
    """
    import pandas as pd

    try:
        table = pd.read_csv(options.points)
    except (OSError, ValueError) as problem:
        raise GeoladderError(f"{options.points} cannot be read as CSV: {problem}") from None
    excluded: list[dict[str, Any]] = []
    for expression in options.exclude:
        try:
            out = table.query(expression)
        except Exception as problem:  # noqa: BLE001 - an expression can fail in any way; the user wrote it
            raise GeoladderError(f"--exclude {expression!r} cannot be evaluated: {problem}") from None
        excluded += [{"row": int(k) + 1, "reason": expression} for k in out.index]
        table = table.drop(out.index)
    return table, excluded


def columns_of(options: Options, form: str) -> dict[str, str]:
    """Column of each role a law has."""
    from geoladder.scaling.laws.forms import form_of

    given = {"n": options.n, "d": options.d, "u": options.u}
    return {role: given[role] for role in form_of(form).variables or ("n",) if given[role]}


def points_of(options: Options, table: "pd.DataFrame", form: str) -> "Points":
    """The checked runs a law is fitted to; raises Refusal."""
    from geoladder.scaling.fit.points import read_points
    from geoladder.scaling.laws.forms import form_of

    return read_points(
        table,
        form_of(form),
        columns_of(options, form),
        options.y,
        seed=options.seed_col,
        sd=options.sd_col,
    )


def settings_of(options: Options) -> "Settings":
    """How to fit; raises GeoladderError for options that make no sense."""
    from geoladder.scaling.fit.fit import Settings
    from geoladder.scaling.laws.loss import Loss

    if options.bootstrap < 0 or not 0 < options.level < 1:
        raise GeoladderError(
            f"--bootstrap {options.bootstrap} --level {options.level}: resamples are 0 or more, the level lies "
            "between 0 and 1"
        )
    fixed = {}
    for text in options.fix:
        name, _, value = text.partition("=")
        try:
            fixed[name.strip()] = float(value)
        except ValueError:
            raise GeoladderError(f"--fix {text}: write NAME=VALUE, such as --fix E=1.7") from None
    usual = HUBER_DELTA if options.loss == "huber" else float("inf")
    return Settings(
        loss=Loss(options.loss, usual if options.delta is None else options.delta),
        bootstrap=options.bootstrap,
        kind=getattr(options, "bootstrap_kind", None),
        level=options.level,
        rng=options.rng,
        fixed=fixed,
    )


def provenance(options: Options) -> dict[str, Any]:
    """What was read, with its checksum, with which options and versions."""
    source: Path = getattr(options, "points", None) or options.fit
    return {
        "source": str(source),
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "settings": {
            key: str(value) if isinstance(value, Path) else value
            for key, value in vars(options).items()
            if key not in {"run", "log"}
        },
        "geoladder": __version__,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "scipy", "numba")},
    }
