"""From a table of runs to pairs of arms that a claim compares: same task, n and seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from geoladder.errors import GeoladderError
from geoladder.scaling.claims.language import Arm, Claim, Selector
from geoladder.suggest import nearest

REQUIRED = ["task", *Arm._fields, "n", "seed", "y"]
Cell = tuple[str, str, int]
"""Task, metric ("" when the table has none) and n."""
Errors = dict[int | None, float]
"""Log error by seed; None for a run without one."""
Runs = dict[Cell, dict[Arm, Errors]]


@dataclass(frozen=True)
class Comparison:
    """Two arms at one task and n.

    Attributes:
        cell: task, metric, n.
        better: the arm the claim favours.
        than: the other.
        by_seed: log ratio of errors by seed, of the seeds both arms have.
        effect: mean of these; log ratio of the arms' geometric means where they share no seed.
    """

    cell: Cell
    better: Arm
    than: Arm
    by_seed: Errors
    effect: float

    @property
    def repeats(self) -> set[int]:
        """Seeds both arms have."""
        return {seed for seed in self.by_seed if seed is not None}

    def __str__(self) -> str:
        """Where, and against whom."""
        return f"{self.cell[0]} n={self.cell[2]} against {self.than}"


def load_runs(path: Path | str) -> pd.DataFrame:
    """Read a CSV table of runs; names stay text ("none" and "NA" too), an empty field is empty.

    Raises:
        GeoladderError: no such file, an empty one, or one that is not CSV.
    """
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise GeoladderError(f"no table of runs at {path}") from None
    except pd.errors.EmptyDataError:
        raise GeoladderError(f"{path} is empty; it needs a header and one row a run") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as problem:
        raise GeoladderError(f"{path} is not a CSV table: {problem}") from None


def read_runs(table: pd.DataFrame) -> Runs:
    """Check a table of runs and look its errors up by cell, arm and seed.

    Raises:
        GeoladderError: missing columns, no rows, an error that is not a positive number, an n or seed that is not an
            integer (a seed may be empty), or one run given twice.
    """
    if missing := [column for column in REQUIRED if column not in table]:
        raise GeoladderError(f"the table of runs lacks {', '.join(missing)}; it needs {', '.join(REQUIRED)}")
    if table.empty:
        raise GeoladderError("the table of runs has no rows")
    y = _numbers(table.y, "a positive number (an error: RMSE or 1 - accuracy)", whole=False)
    n = _numbers(table.n, "a positive integer")
    blank = table.seed.fillna("").astype(str).str.strip() == ""
    seeds = _numbers(table.seed.where(~blank, 0), "an integer, or empty", positive=False)
    texts = table.reindex(columns=["task", "metric", *Arm._fields]).fillna("").astype(str)
    runs: Runs = {}
    rows = zip(texts.itertuples(index=False, name=None), n, seeds, blank, y, strict=True)
    for row, ((task, metric, *columns), shots, number, unknown, error) in enumerate(rows):
        arm, seed = Arm(*columns), None if unknown else int(number)
        errors = runs.setdefault((task, metric, int(shots)), {}).setdefault(arm, {})
        if seed in errors:
            run = f"{task} {arm} n={int(shots)}, {'no seed' if unknown else f'seed {seed}'}"
            raise GeoladderError(f"row {row + 1}: the run {run}, is given twice")
        errors[seed] = float(np.log(error))
    return runs


def _numbers(column: "pd.Series[str]", what: str, *, positive: bool = True, whole: bool = True) -> np.ndarray:
    values = pd.to_numeric(column, errors="coerce").to_numpy(float)
    wrong = ~np.isfinite(values) | (positive & (values <= 0)) | (whole & (values != np.floor(values)))
    if wrong.any():
        row = int(wrong.argmax())
        raise GeoladderError(
            f"row {row + 1}: {column.name} must be {what}, got {column.iloc[row]!r} ({wrong.sum()} such rows)"
        )
    return values


def comparisons(claim: Claim, runs: Runs) -> list[Comparison]:
    """Every pair of arms, at every task and n of the claim; an arm that the claim favours is never a rival."""
    first, second = claim.first, claim.second
    unnamed = [c for c in Arm._fields if getattr(first, c) is None and getattr(second, c) is None]
    return [
        _compare(cell, better, than, arms)
        for cell, arms in sorted(runs.items())
        if claim.on.matches(*cell)
        for better, than in product(sorted(arms), repeat=2)
        if first.matches(better)
        and second.matches(than)
        and not first.matches(than)
        and all(getattr(better, column) == getattr(than, column) for column in unnamed)
    ]


def _compare(cell: Cell, better: Arm, than: Arm, arms: dict[Arm, Errors]) -> Comparison:
    errors, rivals = arms[better], arms[than]
    by_seed = {seed: error - rivals[seed] for seed, error in errors.items() if seed in rivals}
    if by_seed:
        effect = np.mean(list(by_seed.values()))
    else:
        effect = np.mean(list(errors.values())) - np.mean(list(rivals.values()))
    return Comparison(cell, better, than, by_seed, float(effect))


def unmatched(claim: Claim, runs: Runs) -> str:
    """Why a claim has no comparison at all."""
    cells = [arms for cell, arms in runs.items() if claim.on.matches(*cell)]
    if not cells:
        return f"no run is at the task and n of `on`; the table has tasks {', '.join(sorted({c[0] for c in runs}))}"
    arms = sorted({arm for cell in cells for arm in cell})
    names = ("better", "than") if claim.better else ("best", "among")
    for key, selector in zip(names, (claim.first, claim.second), strict=True):
        if not any(map(selector.matches, arms)):
            return f"{key} {selector} matches nothing: {_no_such(selector, arms)}"
    return f"no task and n has both {names[0]} {claim.first} and another arm of {names[1]} {claim.second}"


def _no_such(selector: Selector, arms: list[Arm]) -> str:
    """The first column whose value none of the arms has."""
    for column, wanted in selector:
        values = {getattr(arm, column) for arm in arms}
        if wanted is not None and not values & set(wanted):
            return f"no run has {column} {' or '.join(wanted)}{nearest(wanted[0], values) if values else ''}"
    return "no run has these together"


def absent(claim: Claim, compared: Sequence[Comparison]) -> list[str]:
    """Tasks and n that the claim lists but no comparison covers."""
    have = {(c.cell[0], c.cell[2]) for c in compared}
    tasks = claim.on.task or sorted({task for task, _ in have})
    if claim.on.n is None:
        return [task for task in tasks if task not in {have_task for have_task, _ in have}]
    return [f"{task} n={n}" for task in tasks for n in claim.on.n if (task, n) not in have]
