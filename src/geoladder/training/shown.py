"""What models predict at the few fixed test patches that figures show, the same for all models of a task."""

from pathlib import Path

import numpy as np
from torch import Tensor

from geoladder.registry.task import Task
from geoladder.runs.atomic import atomic_path

SHOWN_PATCHES = 8


def shown_places(test_patches: int) -> np.ndarray:
    """Places (8,) int64 of the patches shown, evenly among so many of `test_rows`; all of fewer."""
    return np.linspace(0, test_patches - 1, min(SHOWN_PATCHES, test_patches)).astype(np.int64)


def write_shown(out: Path, task: Task, places: np.ndarray, predicted: Tensor, labels: Tensor) -> None:
    """Write `out`, .npz: test_patch (row of `test_rows`), and the maps predicted and label, (8, P, P).

    `predicted` are those of the patches at `places` as `task.prediction` gives them, on the CPU.
    """
    maps = task.as_map(predicted).numpy()
    with atomic_path(out) as path:
        np.savez_compressed(path, test_patch=places, predicted=maps, label=labels.numpy())
