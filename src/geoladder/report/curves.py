"""Few-shot curves read from results.csv, and the effect of pretraining paired by seed."""

from typing import Literal

import pandas as pd
from scipy import stats

from geoladder.registry import ARCHITECTURES, TASKS
from geoladder.study.arms import SCRATCH

Measure = Literal["error", "skill"]
"""What curves show (lower is better) or gates compare (higher is better); the task says which metric that is."""
ARM = ["task", "corpus", "architecture", "size", "mode", "transfer"]
RUN = [*ARM, "seed", "n", "settled", "learnt"]
LEVEL = 0.95
EFFECT = [*ARM, "n", "seeds", "effect", "low", "high", "relative", "settled"]


def runs(results: pd.DataFrame, measure: Measure, stage: str) -> pd.DataFrame:
    """Fine-tuning runs of a stage, `finetune` or `gates`, with one metric per task: `RUN` columns and y.

    `learnt` says whether any step was better on the validation patches than the mean of the training labels.
    """
    rows = _of_metric(results, stage, "", measure).reset_index(drop=True)
    return rows.assign(settled=rows.settled.astype(bool), learnt=rows.best_step != 0)[[*RUN, "y"]]


def curves(results: pd.DataFrame, measure: Measure = "error") -> pd.DataFrame:
    """Every run of a few-shot curve, and not the gates' own: `RUN` columns and y."""
    return runs(results, measure, "finetune")


def starts(rows: pd.DataFrame) -> "pd.Series[str]":
    """How each run starts, in words: its corpus, and what was taken over of it if not all."""
    return rows.corpus.where(rows.transfer == "all", rows.corpus + ", " + rows.transfer + " alone")


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
        task, corpus, architecture, size, mode, transfer, n, seeds, effect (negative: pretraining helps), low, high
        (95 % Student's t interval of the paired mean; NaN for one seed), relative (effect / mean scratch error), and
        settled (whether all runs of both arms had; else the effect is also one of speed).
    """
    table = curves(results)
    keys = ["task", "architecture", "size", "mode", "n", "seed"]
    scratch = table.loc[table.corpus == SCRATCH, [*keys, "y", "settled"]]
    pairs = table[table.corpus != SCRATCH].merge(scratch, on=keys, suffixes=("", "_scratch"))
    pairs = pairs.dropna(subset=["y", "y_scratch"])  # a run that diverged has no error
    rows = []
    for names, pair in pairs.groupby([*ARM, "n"]):
        difference = (pair.y - pair.y_scratch).to_numpy()
        seeds, effect, half = difference.size, float(difference.mean()), float("nan")
        if seeds > 1:
            half = float(stats.t.ppf((1 + LEVEL) / 2, seeds - 1) * stats.sem(difference))
        settled = bool((pair.settled & pair.settled_scratch).all())
        relative = effect / pair.y_scratch.mean()
        rows.append((*names, seeds, effect, effect - half, effect + half, relative, settled))
    return pd.DataFrame(rows, columns=EFFECT)
