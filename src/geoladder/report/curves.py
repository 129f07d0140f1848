"""Few-shot curves read from results.csv, and the effect of pretraining paired by seed."""

from typing import Literal

import pandas as pd
from scipy import stats

from geoladder.registry import ARCHITECTURES, TASKS

Measure = Literal["error", "skill"]
"""What curves show (lower is better) or gates compare (higher is better); the task says which metric that is."""
SCRATCH = "scratch"
RUN = ["task", "corpus", "architecture", "size", "seed", "n", "samples_seen"]
EFFECT = ["task", "corpus", "architecture", "size", "n", "seeds", "effect", "low", "high", "relative"]


def runs(results: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Fine-tuning runs with one metric per task: `RUN` columns and y."""
    rows = results[(results.stage == "finetune") & (results.bucket == "all")]
    rows = rows[rows.metric == _metrics(rows, measure)]
    return rows.rename(columns={"value": "y"})[[*RUN, "y"]].reset_index(drop=True)


def curves(results: pd.DataFrame) -> pd.DataFrame:
    """Test error of every run of a few-shot curve: `RUN` columns and y."""
    return on_curves(runs(results, "error"))


def on_curves(results: pd.DataFrame) -> pd.DataFrame:
    """Runs without the gates' own, which see more samples: the runs with the most common `samples_seen`."""
    return results[results.samples_seen.isin(results.samples_seen.mode()[:1])]


def of_baseline(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Which runs are of an architecture that is only ever fine-tuned from scratch, beside every grid."""
    return rows.architecture.isin([name for name, entry in ARCHITECTURES.items() if entry.baseline])


def trivial(results: pd.DataFrame, predictor: str, measure: Measure) -> pd.DataFrame:
    """A trivial predictor (`zero` or `mean`) on the same subsets: task, seed, n, y."""
    rows = results[(results.stage == "trivial") & (results.bucket == "all")]
    rows = rows[rows.metric == predictor + "_" + _metrics(rows, measure)]
    return rows.rename(columns={"value": "y"})[["task", "seed", "n", "y"]]


def _metrics(rows: pd.DataFrame, measure: Measure) -> "pd.Series[str]":
    """Name of the task's metric in every row; raises GeoladderError for a task that is not here any more."""
    return rows.task.map({task: getattr(TASKS[task], measure) for task in rows.task.unique()})


def pretraining_effect(results: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Error of the pretrained minus error of the scratch arm on the same subset, paired by seed.

    Returns:
        task, corpus, architecture, size, n, seeds, effect (negative: pretraining helps), low, high (Student's t
        interval of the paired mean; NaN for one seed), relative (effect / mean scratch error).
    """
    table = curves(results)
    keys = ["task", "architecture", "size", "n", "seed"]
    scratch = table[table.corpus == SCRATCH].set_index(keys).y
    rows = []
    pretrained = table[table.corpus != SCRATCH]
    for names, arm in pretrained.groupby(["task", "corpus", "architecture", "size", "n"]):
        error = arm.set_index(keys).y
        difference = (error - scratch.reindex(error.index)).dropna().to_numpy()
        if not difference.size:
            continue
        effect, half = float(difference.mean()), float("nan")
        if difference.size > 1:
            half = float(stats.t.ppf((1 + level) / 2, difference.size - 1) * stats.sem(difference))
        rows.append(
            dict(zip(("task", "corpus", "architecture", "size", "n"), names, strict=True))
            | {"seeds": difference.size, "effect": effect, "low": effect - half, "high": effect + half}
            | {"relative": effect / float(scratch.reindex(error.index).mean())}
        )
    return pd.DataFrame(rows, columns=EFFECT)
