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


def marked(rows: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """The rows, one or more for a point (arm and n), with a column `worse_than`.

    It names the predictors whose mean error over the point's seeds is lower than the point's, or is empty.
    """
    pairs = curves(results).merge(rivals(results), on=["task", "seed", "n"], suffixes=("", "_rival"))
    means = pairs.groupby([*POINT, "predictor"], sort=False)[["y", "y_rival"]].mean()
    worse = means[means.y > means.y_rival].reset_index("predictor")
    names = worse.groupby(POINT).predictor.agg(", ".join).rename("worse_than")
    return rows.join(names, on=POINT).fillna({"worse_than": ""})


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
    return marked(
        points.assign(low=points["mean"] - half, high=points["mean"] + half).join(ends, on=POINT), results
    )
