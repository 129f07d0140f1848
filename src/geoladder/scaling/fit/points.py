"""A table of runs as arrays a law can be fitted to, or a plain refusal."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geoladder.errors import GeoladderError
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import Form
from geoladder.suggest import closest

LARGEST = 1e100
"""Of a size or an error; no law can be fitted in float64 far beyond."""

NARROWEST_SHARE = 0.1
"""Sizes nearer than this share of their range, in logarithms, are one level, however narrow the range is."""
RUN_NAMES = {"run", "run_id", "run_name", "checkpoint", "ckpt", "step", "steps"}
"""Columns so named tell rows of one run apart, or the runs themselves."""


class Refusal(GeoladderError):
    """The table cannot answer the question; the message says why and what would."""


@dataclass(frozen=True)
class Points:
    """Checked runs.

    Attributes:
        x: (M,) values by variable.
        y: (M,) errors.
        weight: (M,) weights with mean 1.
        levels: (M,) number of the level by variable.
        cells: (M,) number of the design cell: the combination of levels.
        repeated: whether runs of one cell differ by their seed.
        runs: (M,) number of the run each row is a checkpoint of; None where every row is a run of its own.
        doubts: signs in the table that rows are not independent although nothing says so.
    """

    x: dict[str, Array]
    y: Array
    weight: Array
    levels: dict[str, Array]
    cells: Array
    repeated: bool
    runs: Array | None = None
    doubts: tuple[str, ...] = ()


def levels_of(values: Array, ratio: float, given: float | None = None) -> Array:
    """Number of the level of each value: a new level starts where a value exceeds `ratio` times the level's least.

    Where all sizes lie close together the ratio is at most the tenth root of their range, so that five sizes within a
    factor of 1.2 are five levels; a ratio `given` by the user holds as it is.
    """
    ordered = np.sort(values)
    widest = given or min(ratio, (ordered[-1] / ordered[0]) ** NARROWEST_SHARE)
    starts = [ordered[0]]
    for value in ordered:
        if value > starts[-1] * widest:
            starts.append(value)
    return np.searchsorted(starts, values, side="right") - 1


def cells_of(levels: list[Array]) -> Array:
    """(M,) number of the combination of levels (M,) of each run, from 0."""
    return np.unique(np.stack(levels), axis=1, return_inverse=True)[1].reshape(-1)


def block_mean(values: Array, blocks: Array) -> Array:
    """(M,) mean of each value's block; `blocks` (M,) are numbers from 0."""
    return (np.bincount(blocks, weights=values) / np.maximum(np.bincount(blocks), 1))[blocks]


def read_points(
    table: pd.DataFrame,
    form: Form,
    columns: Mapping[str, str],
    y: str,
    *,
    seed: str | None = None,
    sd: str | None = None,
    planned: Mapping[str, str] | None = None,
    run: str | None = None,
    levels_ratio: float | None = None,
    repeats: bool = False,
) -> Points:
    """Check a table and take the columns a law needs.

    Args:
        table: one row per run.
        form: the law.
        columns: column of each role (`n`, `d`, `u`); roles the law does not use still shape the cells.
        y: column of the error.
        seed: column that names repeats of a cell.
        sd: column with the standard error of y (from a test set or from seeds); points weigh (y / sd)^2.
        planned: column with the planned level of a variable that wobbles about its plan. All runs of a level are
            given its geometric mean: which data a seed happened to draw matters more than how many, and a law free
            to read the wobble bends to the seeds' luck.
        run: column that names the run a row is a checkpoint of.
        levels_ratio: ratio up to which sizes count as one level; None: see `levels_of`.
        repeats: rows of the same sizes, equal ones too, are runs made again, although no column says so.

    Raises:
        Refusal: missing or non-numeric columns, values that are not positive, doubled rows, a constant y, a variable
            with one value, fewer points than parameters, runs that contradict seeds, or a ratio below 1.
    """
    planned = planned or {}
    if levels_ratio is not None and not levels_ratio >= 1:
        raise Refusal(
            f"levels that differ by a ratio of {levels_ratio} make no sense; it is 1 or more, such as 1.1"
        )
    missing = [role for role in form.variables if role not in columns]
    if missing:
        raise Refusal(
            f"{form.equation} needs a column for {', '.join(missing)}; say which, as in --{missing[0]} COLUMN"
        )
    names = dict.fromkeys([*columns.values(), y, seed or y, sd or y, run or y, *planned.values()])
    check_columns(table, names)
    _refuse_unsettled(table, list(columns.values()), y)
    x = {role: positive_numbers(table, name) for role, name in columns.items()}
    values = positive_numbers(table, y)
    weight = (values / positive_numbers(table, sd)) ** 2 if sd else np.ones(len(values))
    if not repeats:
        _refuse_doubles(
            table, [*columns.values(), *dict.fromkeys([seed or run or y, run or seed or y])], seed
        )
    _refuse_few(values, y, form)
    runs = _runs_of(table, run, seed) if run else None
    levels = {
        role: levels_of(sizes, form.level_ratio, levels_ratio)
        for role, sizes in x.items()
        if role not in planned
    }
    for role in x.keys() & planned.keys():
        levels[role] = pd.factorize(table[planned[role]])[0].astype(np.int64)
        x[role] = np.exp(block_mean(np.log(x[role]), levels[role]))
    for role in form.variables:
        if np.unique(levels[role]).size < 2:
            raise Refusal(
                f"{columns[role]} takes one value ({x[role][0]:g}) in all {len(values)} rows: nothing can be said "
                f"about how {y} depends on it; add runs at two more values, or fit a law without it"
            )
    again = repeats and not seed
    cells = cells_of([np.unique(x[role], return_inverse=True)[1] if again else levels[role] for role in x])
    repeated = bool(np.bincount(cells).max() > 1) if seed or again else False
    doubts = () if run else _unnamed_runs(table)
    return Points(x, values, weight / weight.mean(), levels, cells, repeated, runs, doubts)


def _runs_of(table: pd.DataFrame, run: str, seed: str | None) -> Array | None:
    """(M,) number of the run of each row; None where every row is a run of its own."""
    if table[run].isna().any():
        row = table.index[int(table[run].isna().to_numpy().argmax())]
        raise Refusal(f"row {row}: {run} is empty; every row needs the run it belongs to")
    if seed:
        seeds = table.groupby(run)[seed].nunique(dropna=False)
        if (seeds > 1).any():
            name = seeds.index[seeds > 1][0]
            listed = ", ".join(map(str, table.loc[table[run] == name, seed].unique()[:4]))
            raise Refusal(
                f"{run} {name} has rows of {seeds[name]} seeds ({seed} {listed}); one run has one seed: give the "
                "runs of every seed names of their own"
            )
    numbers = pd.factorize(table[run])[0].astype(np.int64)
    return numbers if numbers.max() + 1 < len(numbers) else None


def _unnamed_runs(table: pd.DataFrame) -> tuple[str, ...]:
    """What columns say of rows that share a run, where no column of runs was named."""
    names = [name for name in table.columns if str(name).lower() in RUN_NAMES and table[name].nunique() > 1]
    shared = [name for name in names if table[name].duplicated().any()]
    return tuple(
        f"the column {name} has {table[name].nunique()} values in {len(table)} rows: rows of one run are not "
        "independent; name the column of runs (--run-col)"
        for name in shared[:1]
    )


def check_columns(table: pd.DataFrame, names: Iterable[str]) -> None:
    """Make sure that a table has these columns; raises Refusal that says which ones are nearest to those it lacks."""
    present = list(map(str, table.columns))
    absent = [name for name in names if name not in table]
    if absent:
        near = {name: closest(name, present) for name in absent}
        words = [f"{name} (did you mean '{other}'?)" if other else name for name, other in near.items()]
        raise Refusal(f"no column {', '.join(words)}; there are: {', '.join(present)}")


def positive_numbers(table: pd.DataFrame, name: str) -> Array:
    """(M,) float64 values of a column; raises Refusal that names the row, by the table's index, of one that is none.

    Tables read from files have the number of the row in the file as index (`geoladder.scaling.table`).
    """
    column = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~((column >= 1 / LARGEST) & (column <= LARGEST)))
    if bad.size:
        raise Refusal(
            f"row {table.index[bad[0]]}: {name} is {table[name].iloc[bad[0]]} ({bad.size} such rows); sizes, errors "
            f"and standard errors must be positive numbers between {1 / LARGEST:g} and {LARGEST:g}: mend the rows or "
            "leave them out with a reason"
        )
    return column


def _refuse_unsettled(table: pd.DataFrame, sizes: list[str], y: str) -> None:
    """Rows whose column `settled` is false are of runs that ended while their validation loss still fell."""
    if "settled" not in table:
        return
    unsettled = table[table["settled"].astype(str).str.lower() == "false"]
    if len(unsettled):
        first = ", ".join(f"{name} = {unsettled[name].iloc[0]:g}" for name in sizes)
        raise Refusal(
            f"{len(unsettled)} of {len(table)} rows are of runs that had not settled (first: {first}): their {y} "
            f"says how far a run came in its steps, so how it depends on {' and '.join(sizes)} cannot be said; train "
            "longer (finetune.epochs, max_steps), or leave these rows out with a reason"
        )


def _refuse_few(values: Array, y: str, form: Form) -> None:
    if len(values) < len(form.parameters):
        raise Refusal(
            f"{len(values)} points for the {len(form.parameters)} parameters of {form.equation}; "
            f"at least {len(form.parameters) + 1} are needed, or a law with fewer parameters"
        )
    if form.variables and len(values) > 1 and np.ptp(values) <= 1e-12 * values.max():
        raise Refusal(f"{y} is {values[0]:g} in every row: there is no scaling to fit")


def _refuse_doubles(table: pd.DataFrame, key: list[str], seed: str | None) -> None:
    doubled = table.duplicated(key, keep=False)
    if doubled.any():
        first = table.loc[doubled].iloc[0]
        where = ", ".join(f"{name}={first[name]}" for name in key)
        raise Refusal(
            f"{int(doubled.sum())} rows are doubled (first: {where}); a run counts once: "
            + (
                "give repeats their own seed"
                if seed
                else "drop the copies, name the column of seeds, or say that they are --repeats"
            )
        )
