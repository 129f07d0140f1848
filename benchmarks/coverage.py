"""How often nominal 95 % intervals of the exponent alpha hold the truth, by design of the grid and kind of interval.

Truth: the law of the Chinchilla fit with alpha .34 over two decades of N and D; log-normal noise. Writes a table:

    python benchmarks/coverage.py --draws 300 --out results/reference/coverage.csv
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track

from geoladder.runs.atomic import atomic_path
from geoladder.scaling.fit.fit import Status, fit

TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.34, "beta": 0.37}
DESIGNS = [(2, 3, 1), (2, 3, 3), (3, 3, 1), (3, 3, 3), (4, 3, 1), (4, 3, 3), (4, 5, 1), (5, 5, 1), (6, 6, 1)]
NOISE = 0.005
LOSSES = {"log_squared": {}, "huber": {"loss": "huber", "delta": 1e-3}}


def simulated(design: tuple[int, int, int], rng: np.random.Generator) -> pd.DataFrame:
    """One table of runs: n, d, seed, y."""
    sizes, data, seeds = design
    n, d = np.geomspace(5e7, 5e9, sizes), np.geomspace(1e9, 1e11, data)
    rows = pd.MultiIndex.from_product([n, d, range(seeds)], names=["n", "d", "seed"]).to_frame(index=False)
    clean = TRUTH["E"] + TRUTH["A"] * rows.n ** -TRUTH["alpha"] + TRUTH["B"] * rows.d ** -TRUTH["beta"]
    return rows.assign(y=clean * np.exp(rng.normal(0, NOISE, len(rows))))


def covered(design: tuple[int, int, int], loss: str, draws: int, bootstrap: int) -> list[dict[str, object]]:
    """Share of draws whose interval holds alpha, its median width, and how often it was open or refused."""
    intervals: dict[str, list[tuple[float, float]]] = {kind: [] for kind in ("profile", "bootstrap", "bca")}
    refused = 0
    for draw in range(draws):
        table = simulated(design, np.random.default_rng([draw, *design]))
        seed = "seed" if design[2] > 1 else None
        law = fit(table, seed=seed, bootstrap=bootstrap, rng=draw, **LOSSES[loss])
        if law.status is Status.NOT_IDENTIFIED:
            refused += 1
            continue
        for kind in law.intervals:
            low, high = law.intervals[kind]["alpha"]
            intervals[kind].append((-np.inf if low is None else low, np.inf if high is None else high))
    return [
        {
            "design": "x".join(map(str, design)),
            "loss": loss,
            "interval": kind,
            "draws": draws,
            "refused": refused / draws,
            "open": float(np.mean(~np.isfinite(rows).all(axis=1))) if rows else np.nan,
            "coverage": float(np.mean([a <= TRUTH["alpha"] <= b for a, b in rows])) if rows else np.nan,
            "median_width": float(np.median([b - a for a, b in rows])) if rows else np.nan,
        }
        for kind, rows in intervals.items()
        if rows or kind == "profile"
    ]


def main() -> None:
    """Simulate every design and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--bootstrap", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("results/reference/coverage.csv"))
    options = parser.parse_args()
    jobs = [(design, loss) for loss in LOSSES for design in DESIGNS]
    rows = []
    for design, loss in track(jobs, description="simulated designs"):
        rows += covered(design, loss, options.draws, options.bootstrap)
    table = pd.DataFrame(rows)
    with atomic_path(options.out) as path:
        table.to_csv(path, index=False)
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
