"""What every curve must beat, on the same subsets: predictors that look at no pixel."""

from collections import defaultdict
from pathlib import Path

import torch

from geoladder.data.bench.nshot import test_rows
from geoladder.data.bench.reader import Bench
from geoladder.registry import TASKS
from geoladder.runs.atomic import write_json
from geoladder.runs.provenance import birth_certificate
from geoladder.study.specs import TrivialSpec
from geoladder.training.patches import subset_of, tile_names
from geoladder.training.score import Score


def trivial(spec: TrivialSpec, bench: Path, index: Path, split: Path, out: Path) -> None:
    """Judge two predictors that look at no pixel, only at the training labels: what every curve must beat.

    `zero` predicts a density of 0, or the first class everywhere; `mean` predicts the subset's mean density, or its
    class frequencies (so its map is the majority class). Patches are those of this n in `split`, a file of `geoladder
    split`. `out` has metrics by predictor, `zero_<metric>` and `mean_<metric>`.

    Raises:
        GeoladderError: the file of subsets does not fit.
    """
    task, opened = TASKS[spec.task], Bench(bench, index, spec.harmonise)
    training = opened.labels(spec.task, subset_of(opened, spec, split).train_rows)
    rows = test_rows(opened, spec.task, spec.test_patches)
    labels, buckets, tiles = (
        torch.from_numpy(opened.labels(spec.task, rows)),
        rows["bucket"],
        tile_names(rows),
    )
    metrics: dict[str, float] = {}
    by_bucket: dict[str, dict[str, float]] = defaultdict(dict)
    for name, predicted in task.constants(training, labels).items():
        score = Score(task)
        score.update(predicted, labels, buckets.to_numpy(), tiles)
        result = score.result()
        metrics |= {f"{name}_{key}": value for key, value in result["metrics"].items()}
        for bucket, values in result["by_bucket"].items():
            by_bucket[bucket] |= {f"{name}_{key}": value for key, value in values.items()}
    result = {
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": birth_certificate(spec.fingerprint),
        "metrics": metrics,
        "by_bucket": by_bucket,
        "train_patches": len(training),
        "test_patches": len(rows),
    }
    write_json(out, result)
