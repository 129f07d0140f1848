"""Where the best learning rate of each rung lies, from a sweep, and how far it moves within a family.

Rates are compared at the family's base width, as the study gives them; if the width rule holds, the best
base rate is the same for all rungs. The best rate is the vertex of a parabola in the logarithm of the rate, fitted to
losses averaged over seeds: to the lowest, its neighbours, and whatever lies between points that are nearly as low,
since on a plateau it is chance which one is the lowest.
"""

import numpy as np
import pandas as pd

from geoladder.errors import GeoladderError
from geoladder.registry import ARCHITECTURES
from geoladder.registry.ladder import rung

ALLOWED = 2.0
"""Largest over smallest best base rate of a family for which one rate may serve all its rungs."""
PLATEAU = 0.02
"""Losses that exceed the lowest by no more than this share count as nearly as low: about twice the standard error of
a difference between means of eight seeds."""
DRAWS, BOOTSTRAP_SEED = 1000, 0
TAILS = (0.025, 0.975)


def swept_losses(results: pd.DataFrame) -> pd.DataFrame:
    """Validation losses of a sweep, from its results.csv; raises GeoladderError where no run is in it.

    Returns:
        architecture, size, width, base_lr (at the family's base width), seed, loss.
    """
    runs = results[(results["metric"] == "val_loss") & (results["stage"] == "sweep")]
    if runs.empty:
        raise GeoladderError(
            "no run of a learning-rate sweep; run a study with a `sweep`, such as studies/lr.yaml"
        )
    rungs = list(zip(runs["architecture"], runs["size"], strict=True))
    table = runs.assign(width=[rung(*names).width for names in rungs], loss=runs["value"])
    table["base_lr"] = table["lr"] * table["width"] / [ARCHITECTURES[name].base_width for name, _ in rungs]
    columns = ["architecture", "size", "width", "base_lr", "seed", "loss"]
    return table[columns].sort_values(["architecture", "width", "base_lr", "seed"], ignore_index=True)


def best_rates(losses: pd.DataFrame) -> pd.DataFrame:
    """Best base rate of each rung, from `swept_losses`, and whether it moves within the family.

    Returns:
        architecture, size, width, best_base_lr with best_low and best_high (95 % of bootstrap draws over seeds; NaN
        for a single seed), at_edge (the best point is the lowest or highest rate tried, which is then given),
        best_loss (mean over seeds at the best point), shared_lr (the rate tried that is best for all rungs of the
        family together), regret (loss there over best_loss, minus 1); and of the family: ratio (largest over smallest
        best rate), ratio_low, ratio_high, and verdict (`stays` within `ALLOWED`, `moves`, or `undecided`).
    """
    families = losses.groupby("architecture", sort=False)
    return pd.concat([_family(of_family) for _, of_family in families], ignore_index=True)


def _family(losses: pd.DataFrame) -> pd.DataFrame:
    names = ["architecture", "size", "width"]
    tables = {
        key: rows.pivot_table(index="seed", columns="base_lr", values="loss", dropna=False)
        for key, rows in losses.groupby(names, sort=False)
    }
    rates = next(iter(tables.values())).columns.to_numpy()
    means = np.array([table.mean().to_numpy() for table in tables.values()])
    best = [_vertex(np.log2(rates), mean) for mean in means]
    lowest = np.nanmin(means, axis=1)
    shared = int(np.nanargmin(np.log(means).sum(0)))
    table = pd.DataFrame(list(tables), columns=names).assign(
        best_base_lr=[2.0**rate for rate, _ in best],
        at_edge=[edge for _, edge in best],
        best_loss=lowest,
        shared_lr=rates[shared],
        regret=means[:, shared] / lowest - 1,
    )
    draws = _draws([table.to_numpy() for table in tables.values()], np.log2(rates))
    table[["best_low", "best_high"]] = 2.0 ** np.quantile(draws, TAILS, axis=1).T
    ratio = table["best_base_lr"].max() / table["best_base_lr"].min()
    low, high = 2.0 ** np.quantile(draws.max(0) - draws.min(0), TAILS)
    verdict = "stays" if high <= ALLOWED else "moves" if low > ALLOWED else "undecided"
    return table.assign(ratio=ratio, ratio_low=low, ratio_high=high, verdict=verdict)


def _draws(grids: list[np.ndarray], log_rates: np.ndarray) -> np.ndarray:
    """Best log2 rates of the rungs (rungs, DRAWS) when the seeds of each are drawn again; NaN for a single seed."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    draws = np.full((len(grids), DRAWS), np.nan)
    if min(map(len, grids)) > 1:
        for place, grid in enumerate(grids):
            for draw, seeds in enumerate(rng.integers(len(grid), size=(DRAWS, len(grid)))):
                draws[place, draw], _ = _vertex(log_rates, grid[seeds].mean(0))
    return draws


def _vertex(log_rates: np.ndarray, losses: np.ndarray) -> tuple[float, bool]:
    """Minimum of a parabola over the plateau and its shoulders; the lowest point itself at an edge."""
    finite = np.where(np.isfinite(losses), losses, np.inf)
    lowest = int(np.argmin(finite))
    low = np.flatnonzero(finite <= (1 + PLATEAU) * finite[lowest])
    near = slice(min(lowest - 1, low[0]), max(lowest + 1, low[-1]) + 1)
    if not 0 < lowest < len(losses) - 1 or not np.isfinite(losses[near]).all():
        return float(log_rates[lowest]), True
    curvature, slope, _ = np.polyfit(log_rates[near] - log_rates[lowest], losses[near], 2)
    if curvature <= 0:
        return float(log_rates[lowest]), False
    vertex = log_rates[lowest] - slope / (2 * curvature)
    return float(np.clip(vertex, log_rates[0], log_rates[-1])), False
