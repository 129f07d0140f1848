"""Does downstream error follow pretraining loss? Rank correlations over the cells of a family.

Spearman's, since nothing says that the relation is straight. Intervals are by Bonett and Wright (Psychometrika 65,
23-28, 2000): Fisher's z with variance (1 + r^2 / 2) / (cells - 3). Cells of several seeds count one by one.
"""

import numpy as np
import pandas as pd
from scipy import stats

from geoladder.report.curves import LEVEL
from geoladder.report.laws import pretrain_points
from geoladder.report.linear_effect import linear_errors

CELL = ["corpus", "fraction", "architecture", "size", "seed"]
FEWEST_CELLS = 5
"""Of a correlation with an interval."""


def errors_and_losses(results: pd.DataFrame) -> pd.DataFrame:
    """Each pretrained cell under linear heads: `CELL`, task, n, error (mean over draws) and loss (of pretraining)."""
    errors = linear_errors(results).groupby([*CELL, "task", "n"]).y.mean().rename("error").reset_index()
    losses = pretrain_points(results, "total")[[*CELL, "y"]].rename(columns={"y": "loss"})
    return errors.merge(losses, on=CELL)


def error_law(results: pd.DataFrame) -> pd.DataFrame:
    """Correlations by family, task and n.

    Returns:
        task, architecture, n, cells, correlation (Spearman's, of loss and error; 1: a lower loss always goes with a
        lower error), low and high (95 %; NaN for fewer than `FEWEST_CELLS` cells), and verdict in words.
    """
    rows = []
    for names, cells in errors_and_losses(results).groupby(["task", "architecture", "n"]):
        correlation, low, high = rank_correlation(cells.loss.to_numpy(), cells.error.to_numpy())
        rows.append((*names, len(cells), correlation, low, high, _verdict(low, high)))
    columns = ["task", "architecture", "n", "cells", "correlation", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def rank_correlation(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Spearman's correlation of vectors (N,) and its 95 % interval; NaN where there are too few, or no spread."""
    if len(x) < FEWEST_CELLS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan, np.nan, np.nan
    correlation = float(stats.spearmanr(x, y).statistic)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * np.sqrt((1 + correlation**2 / 2) / (len(x) - 3))
    # Equal orders would have no error; they count as half way to the next largest correlation there is.
    largest = 1 - 6 / (len(x) ** 3 - len(x))
    centre = np.arctanh(np.clip(correlation, -largest, largest))
    low, high = np.tanh([centre - half, centre + half])
    return correlation, float(low), float(high)


def _verdict(low: float, high: float) -> str:
    if np.isnan(low):
        return "too few cells"
    if low > 0:
        return "error follows loss"
    return "error runs against loss" if high < 0 else "undecided"
