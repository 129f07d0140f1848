"""What linear heads predict at the few fixed test patches that figures show, the same as for fine-tuned models."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from geoladder.data.bench.nshot import test_rows
from geoladder.models.build import logits_of_shares
from geoladder.registry import TASKS
from geoladder.runs.atomic import atomic_path
from geoladder.study.downstream_specs import LinearSpec
from geoladder.training.ridge import Head
from geoladder.training.tap_reader import TapReader

SHOWN_PATCHES = 8


def show_heads(reader: TapReader, spec: LinearSpec, heads: Mapping[int, Head], out: Path) -> None:
    """Write `out`/n<n>.npz for the head of each n: test_patch (row of `test_rows`), predicted and label (8, P, P)."""
    task, rows = TASKS[spec.task], test_rows(reader.bench, spec.task, spec.test_patches)
    shown = np.linspace(0, len(rows) - 1, min(SHOWN_PATCHES, len(rows))).astype(np.int64)
    # Rows of the pool are in the order of the bench, in which the reader gives patches.
    batches = list(reader.batches(rows.iloc[shown].assign(task=spec.task)))
    features = torch.cat([batch.features for batch in batches])
    labels = torch.cat([batch.labels for batch in batches]).numpy()
    for n, head in heads.items():
        weights = head.weights.float()
        shares = functional.conv2d(features, weights[:-1].T[..., None, None], weights[-1]).cpu()
        maps = task.as_map(task.prediction(logits_of_shares(shares))).numpy()
        with atomic_path(out / f"n{n}.npz") as path:
            np.savez_compressed(path, test_patch=shown, predicted=maps, label=labels)
