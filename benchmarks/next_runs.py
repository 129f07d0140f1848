"""What the runs that `geoladder next` chooses save against repeating the grid, to halve alpha's interval.

Every draw simulates a table on a design, fits it, and buys runs in two ways: those chosen from that fit, and three
more copies of the design. Both are simulated under the planted law and fitted with profile intervals. A way that
misses one half is charged by the square of its miss, since width falls with the root of the information.

    python benchmarks/next_runs.py --points design.csv --draws 100 --out results/reference/next_runs.csv
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track

from geoladder.runs.atomic import atomic_path
from geoladder.scaling import fit, next_runs
from geoladder.scaling.fit.points import read_points
from geoladder.scaling.laws.forms import form_of
from geoladder.scaling.questions.next_runs import grid

TRUTH = {"E": 1.8172, "A": 477.8, "B": 2143.4, "alpha": 0.3473, "beta": 0.3672}
NOISE = 0.005
COST = "6*n*d"
LEVELS = 30
COPIES = 3
MOST_RUNS = 1


def design() -> pd.DataFrame:
    """240 runs spread as those of the digitised Chinchilla table."""
    rng = np.random.default_rng(0)
    return pd.DataFrame({"n": 10 ** rng.uniform(7.8, 10.2, 240), "d": 10 ** rng.uniform(9.0, 11.5, 240)})


def simulated(runs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The runs with errors under the planted law."""
    clean = TRUTH["E"] + TRUTH["A"] * runs.n ** -TRUTH["alpha"] + TRUTH["B"] * runs.d ** -TRUTH["beta"]
    return runs[["n", "d"]].assign(y=clean * np.exp(rng.normal(0, NOISE, len(runs))))


def width(table: pd.DataFrame) -> float:
    """Width of alpha's profile interval; every row is a run of its own."""
    low, high = fit(table.assign(seed=range(len(table))), seed="seed", bootstrap=0).intervals["profile"][
        "alpha"
    ]
    return np.inf if low is None or high is None else high - low


def draw(runs: pd.DataFrame, rng: np.random.Generator) -> dict[str, float]:
    """Costs and widths of both ways, on one simulated table."""
    table = simulated(runs, rng)
    law = fit(table.assign(seed=range(len(table))), seed="seed", bootstrap=0)
    levels = {role: np.geomspace(runs[role].min(), runs[role].max(), LEVELS).tolist() for role in ("n", "d")}
    read = read_points(
        table.assign(seed=range(len(table))), form_of("chinchilla"), {"n": "n", "d": "d"}, "y", seed="seed"
    )
    candidates = grid(levels, COST)
    choice = next_runs(law, "alpha", candidates, runs=read, cost="cost", most_runs=MOST_RUNS)
    bought = choice.runs.loc[choice.runs.index.repeat(choice.runs.more.astype(int))]
    low, high = law.intervals["profile"]["alpha"]
    today = high - low
    chosen = width(pd.concat([table, simulated(bought, rng)])) / today
    copies = width(pd.concat([table, *(simulated(runs, rng) for _ in range(COPIES))])) / today
    grid_cost = COPIES * float((6 * runs.n * runs.d).sum())
    charged = choice.cost * max(chosen / 0.5, 1) ** 2, grid_cost * min(copies / 0.5, 1) ** 2
    return {
        "chosen_cost": choice.cost,
        "chosen_width": chosen,
        "chosen_runs": len(bought),
        "grid_cost": grid_cost,
        "grid_width": copies,
        "ratio": charged[1] / charged[0],
    }


def main() -> None:
    """Simulate, write the table and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--points", type=Path, help="CSV of a design with n and d; default: 240 simulated sizes"
    )
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("results/reference/next_runs.csv"))
    options = parser.parse_args()
    runs = pd.read_csv(options.points) if options.points else design()
    rows = [draw(runs, np.random.default_rng([7, k])) for k in track(range(options.draws), "draws")]
    table = pd.DataFrame(rows)
    with atomic_path(options.out) as path:
        table.to_csv(path, index=False)
    print(table.median().to_string())
    print(f"cheaper by {table.ratio.median():.1f} times (worst draw {table.ratio.min():.1f})")


if __name__ == "__main__":
    main()
