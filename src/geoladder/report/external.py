"""External models judged: an arm that does not beat the mean of its training labels has not been fine-tuned.

Published curves of such models are partly worse than predicting zero (arXiv 2506.14765, TerraMind and Prithvi on
roads and buildings). That says that training failed, and nothing of what the model has learnt.
"""

import pandas as pd

from geoladder.registry import ARCHITECTURES
from geoladder.report.curves import ARM, curves, predict_mean

LEARNT = "learnt"
FAILED = "failed fine-tuning: {}; this judges the training, not the model"
NO_BETTER = "no better than the mean of the training labels"
NO_STEP = "in {} of {} seeds no step was better on validation patches than the mean of the training labels"
COLUMNS = [*ARM, "n", "seeds", "learnt", "error", "mean_error", "difference", "verdict"]


def external_arms(results: pd.DataFrame) -> pd.DataFrame:
    """Every n of the arms of external architectures, from results.csv.

    Returns:
        task, corpus, architecture, size, mode, transfer, n, seeds, learnt (seeds in which a step was better on the
        validation patches than the mean predictor a run starts as), error and mean_error (of the arm and of
        predicting the mean, both averaged over the same seeds), difference (negative: the arm is better), verdict in
        words: `LEARNT` where it is better and all seeds have learnt, or which of the two failed.
    """
    names = [name for name, entry in ARCHITECTURES.items() if entry.external]
    runs = curves(results)
    mean = predict_mean(results, "error").rename(columns={"y": "mean_error"})
    pairs = runs[runs.architecture.isin(names)].merge(mean, on=["task", "seed", "n"])
    arms = pairs.groupby([*ARM, "n"], as_index=False).agg(
        seeds=("seed", "size"),
        learnt=("learnt", "sum"),
        error=("y", "mean"),
        mean_error=("mean_error", "mean"),
    )
    arms["difference"] = arms.error - arms.mean_error
    arms["verdict"] = list(map(_verdict, arms.difference, arms.learnt, arms.seeds))
    return arms[COLUMNS]


def _verdict(difference: float, learnt: int, seeds: int) -> str:
    if learnt < seeds:
        return FAILED.format(NO_STEP.format(seeds - learnt, seeds))
    # An arm that diverged has no error, and has not learnt either.
    return LEARNT if difference < 0 else FAILED.format(NO_BETTER)
