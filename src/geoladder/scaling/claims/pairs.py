"""From a table of runs to pairs of arms that a claim compares: same task, n and seed.

Within a claim, an arm that it favours is never a rival, and a column that neither selector names has to be equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from geoladder.errors import GeoladderError
from geoladder.scaling.claims.language import Arm, Claim, no_such

REQUIRED = ["task", *Arm._fields, "n", "seed", "y"]
Cell = tuple[str, str, int]
"""Task, metric ("" when the table has none) and n."""
Runs = dict[Cell, dict[Arm, dict[int | None, float]]]
"""Log error by cell, arm and seed (None: the table gives none)."""


@dataclass(frozen=True)
class Comparison:
    """Two arms at one task and n.

    Attributes:
        cell: task, metric, n.
        better: the arm the claim favours.
        than: the other.
        by_seed: log ratio of errors by seed, of the seeds both arms have; None for runs without a seed.
        effect: mean of these; log ratio of the arms' geometric means where they share no seed.
    """

    cell: Cell
    better: Arm
    than: Arm
    by_seed: dict[int | None, float]
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
    y = _numbers(table, "y", "a positive number (an error: RMSE or 1 - accuracy)")
    n = _numbers(table, "n", "a positive integer", whole=True)
    blank = table.seed.isna() | (table.seed.astype(str).str.strip() == "")
    seeds = _numbers(
        table.assign(seed=table.seed.where(~blank, 1)), "seed", "an integer, or empty", whole=True
    )
    texts = [table[column].fillna("").astype(str) for column in ("task", *Arm._fields)]
    metrics = table.metric.fillna("").astype(str) if "metric" in table else [""] * len(table)
    runs: Runs = {}
    rows = zip(*texts, metrics, n, seeds, blank, y, strict=True)
    for row, (task, corpus, architecture, size, metric, shots, seed, unknown, error) in enumerate(rows):
        arm = Arm(corpus, architecture, size)
        errors = runs.setdefault((task, metric, int(shots)), {}).setdefault(arm, {})
        key = None if unknown else int(seed)
        if key in errors:
            named = "no seed" if key is None else f"seed {key}"
            raise GeoladderError(
                f"row {row + 1}: the run {task} {arm} n={int(shots)}, {named}, is given twice"
            )
        errors[key] = float(np.log(error))
    return runs


def _numbers(table: pd.DataFrame, column: str, what: str, *, whole: bool = False) -> np.ndarray:
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
    wrong = ~np.isfinite(values)
    if column != "seed":
        wrong |= values <= 0
    if whole:
        wrong |= values != np.floor(values)
    if wrong.any():
        row = int(wrong.argmax())
        raise GeoladderError(
            f"row {row + 1}: {column} must be {what}, got {table[column].iloc[row]!r} "
            f"({int(wrong.sum())} such rows)"
        )
    return values


def comparisons(claim: Claim, runs: Runs) -> list[Comparison]:
    """Every pair of arms, at every task and n of the claim; an arm that the claim favours is never a rival."""
    first, second = claim.first, claim.second
    equal = [k for k, c in enumerate(Arm._fields) if getattr(first, c) is None and getattr(second, c) is None]
    pairs = []
    for cell, arms in sorted(runs.items()):
        if not claim.on.matches(*cell):
            continue
        rivals = [arm for arm in sorted(arms) if second.matches(arm) and not first.matches(arm)]
        for arm in filter(first.matches, sorted(arms)):
            pairs += [
                _pair(cell, arm, rival, arms[arm], arms[rival])
                for rival in rivals
                if all(arm[k] == rival[k] for k in equal)
            ]
    return pairs


def _pair(
    cell: Cell, better: Arm, than: Arm, errors: dict[int | None, float], rival_errors: dict[int | None, float]
) -> Comparison:
    by_seed = {seed: errors[seed] - rival_errors[seed] for seed in errors if seed in rival_errors}
    means = np.mean(list(errors.values())) - np.mean(list(rival_errors.values()))
    effect = np.mean(list(by_seed.values())) if by_seed else means
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
            return f"{key} {selector} matches nothing: {no_such(selector, arms)}"
    return f"no task and n has both {names[0]} {claim.first} and another arm of {names[1]} {claim.second}"


def absent(claim: Claim, compared: Sequence[Comparison]) -> list[str]:
    """Tasks and n that the claim lists but no comparison covers."""
    have = {(c.cell[0], c.cell[2]) for c in compared}
    tasks = claim.on.task or sorted({task for task, _ in have})
    if claim.on.n is None:
        return [task for task in tasks if task not in {have_task for have_task, _ in have}]
    return [f"{task} n={n}" for task in tasks for n in claim.on.n if (task, n) not in have]
