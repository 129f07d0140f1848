"""What curves must beat: predictors that need no network, on the same subsets, and which points they beat."""

import numpy as np
import pandas as pd
from scipy import stats

from geoladder.registry import TASKS
from geoladder.report.curves import ARM, LEVEL, curves

PREDICTORS = ("zero", "mean", "linear", "boosted")
"""Of `training.baselines`: the last two see the bands of single pixels."""
POINT = [*ARM, "n"]


def rivals(results: pd.DataFrame) -> pd.DataFrame:
    """Test error of each predictor on each subset: task, seed, n, predictor, y."""
    rows = results[(results.stage == "trivial") & (results.bucket == "all")]
    error = rows.task.map(lambda task: TASKS[task].error)
    errors = [rows[rows.metric == f"{name}_" + error].assign(predictor=name) for name in PREDICTORS]
    return pd.concat(errors).rename(columns={"value": "y"})[["task", "seed", "n", "predictor", "y"]]


def marked(rows: pd.DataFrame, errors: pd.DataFrame, results: pd.DataFrame, point: list[str]) -> pd.DataFrame:
    """The rows with a column `worse_than`.

    It names the predictors whose mean error is lower than that of a row's point, on the same subsets, or is empty.
    `errors` are runs (task, seed and n of the subset, y), and `point` the columns that say which point a row, or a
    run, is of.
    """
    if rows.empty:  # its columns have no types to join by
        return rows.assign(worse_than="")
    pairs = errors.merge(rivals(results), on=["task", "seed", "n"], suffixes=("", "_rival"))
    means = pairs.groupby([*point, "predictor"], sort=False)[["y", "y_rival"]].mean()
    worse = means[means.y > means.y_rival].reset_index("predictor")
    names = worse.groupby(point).predictor.agg(", ".join).rename("worse_than")
    return rows.join(names, on=point).fillna({"worse_than": ""})


def judged(points: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Points of curves (columns mean, std, seeds) with intervals and `worse_than`.

    `low` and `high` are 95 % by Student's t over the seeds, NaN for one seed; `tile_low` and `tile_high` 95 % by a
    bootstrap over test tiles, their means over the seeds, which share the tiles.
    """
    with np.errstate(invalid="ignore"):
        half = stats.t.ppf((1 + LEVEL) / 2, points.seeds - 1) * points["std"] / np.sqrt(points.seeds)
    rows = results[(results.stage == "finetune") & (results.bucket == "all")]
    errors = rows[rows.metric == rows.task.map(lambda task: TASKS[task].error)]
    ends = errors.groupby(POINT)[["low", "high"]].mean().add_prefix("tile_")
    with_ends = points.assign(low=points["mean"] - half, high=points["mean"] + half).join(ends, on=POINT)
    return marked(with_ends, curves(results), results, POINT)
