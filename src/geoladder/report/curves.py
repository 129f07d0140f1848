"""Few-shot curves read from results.csv, and the effect of pretraining paired by seed."""

from typing import Literal

import pandas as pd
from scipy import stats

from geoladder.registry import ARCHITECTURES, TASKS
from geoladder.study.study import SCRATCH

Measure = Literal["error", "skill"]
"""What curves show (lower is better) or gates compare (higher is better); the task says which metric that is."""
ARM = ["task", "corpus", "architecture", "size"]
RUN = [*ARM, "seed", "n", "samples_seen"]
LEVEL = 0.95
EFFECT = [*ARM, "n", "seeds", "effect", "low", "high", "relative"]


def runs(results: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Fine-tuning runs with one metric per task: `RUN` columns and y."""
    return _of_metric(results, "finetune", "", measure)[[*RUN, "y"]].reset_index(drop=True)


def curves(results: pd.DataFrame, measure: Measure = "error") -> pd.DataFrame:
    """Every run of a few-shot curve, and not the gates' own, which see more samples: `RUN` columns and y."""
    rows = runs(results, measure)
    return rows[rows.samples_seen.isin(rows.samples_seen.mode()[:1])]


def of_baseline(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Which runs are of an architecture that is only ever fine-tuned from scratch, beside every grid."""
    return rows.architecture.isin([name for name, entry in ARCHITECTURES.items() if entry.baseline])


def predict_mean(results: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """The mean of the training labels, predicted everywhere, on the same subsets: task, seed, n, y."""
    return _of_metric(results, "trivial", "mean_", measure)[["task", "seed", "n", "y"]]


def _of_metric(results: pd.DataFrame, stage: str, prefix: str, measure: Measure) -> pd.DataFrame:
    """Rows of one stage over all buckets with the metric of their task; raises GeoladderError for an unknown task."""
    rows = results[(results.stage == stage) & (results.bucket == "all")]
    metrics = {task: prefix + getattr(TASKS[task], measure) for task in rows.task.unique()}
    return rows[rows.metric == rows.task.map(metrics)].rename(columns={"value": "y"})


def pretraining_effect(results: pd.DataFrame) -> pd.DataFrame:
    """Error of the pretrained minus error of the scratch arm on the same subset, paired by seed.

    Returns:
        task, corpus, architecture, size, n, seeds, effect (negative: pretraining helps), low, high (95 %
        Student's t interval of the paired mean; NaN for one seed), relative (effect / mean scratch error).
    """
    table = curves(results)
    keys = ["task", "architecture", "size", "n", "seed"]
    scratch = table.loc[table.corpus == SCRATCH, [*keys, "y"]]
    pairs = table[table.corpus != SCRATCH].merge(scratch, on=keys, suffixes=("", "_scratch"))
    pairs = pairs.dropna(subset=["y", "y_scratch"])  # a run that diverged has no error
    rows = []
    for names, pair in pairs.groupby([*ARM, "n"]):
        difference = (pair.y - pair.y_scratch).to_numpy()
        seeds, effect, half = difference.size, float(difference.mean()), float("nan")
        if seeds > 1:
            half = float(stats.t.ppf((1 + LEVEL) / 2, seeds - 1) * stats.sem(difference))
        rows.append((*names, seeds, effect, effect - half, effect + half, effect / pair.y_scratch.mean()))
    return pd.DataFrame(rows, columns=EFFECT)
