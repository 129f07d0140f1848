"""Labels of chips, for runs whose objective has tasks: the oracle's. `geoladder make-labels` writes them."""

import json
from pathlib import Path

import numpy as np
import torch

from geoladder.data.archives.npy import open_labels
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.runs.digest import intact
from geoladder.study.specs import PretrainSpec

PRIOR_CHIPS = 4096
"""Evenly spaced training chips whose labels tell the mean."""


class ChipLabels:
    """Labels of all chips of a folder, one memory map a task of the run; none, where it has no tasks."""

    def __init__(self, folder: Path | None, spec: PretrainSpec, chips: tuple[int, int]) -> None:
        """Open a folder of labels for so many `chips` of a side of so many pixels.

        Raises:
            GeoladderError: there is none, or it is of another spec or of other chips.
        """
        self._stored: dict[str, np.ndarray] = {}
        if not spec.objective.tasks:
            return
        if folder is None:
            raise GeoladderError("this run learns labels of chips: give their folder with --labels")
        count, px = chips
        made_for = _fingerprint(folder / "labels.json")
        if made_for != spec.labels:
            raise GeoladderError(
                f"{folder} has labels of spec {made_for}, but {spec.labels} is wanted; make them again with "
                "snakemake, or give the right --labels"
            )
        for task in spec.objective.tasks:
            file = intact(folder / f"{TASKS[task].label}.npy", whole=True)
            self._stored[task] = open_labels(file, (count, px, px))

    def read(self, chips: np.ndarray) -> dict[str, torch.Tensor]:
        """Labels (N, P, P) of chips by number (N,), by task, as the task's `read` gives them."""
        return {task: torch.from_numpy(TASKS[task].read(of[chips], 1.0)) for task, of in self._stored.items()}

    def priors(self, chips: np.ndarray) -> dict[str, list[float]]:
        """Outputs, by task, that predict the mean label of these chips."""
        some = chips[np.linspace(0, len(chips) - 1, min(PRIOR_CHIPS, len(chips))).astype(np.int64)]
        return {task: TASKS[task].prior(labels) for task, labels in self.read(some).items()}


def _fingerprint(path: Path) -> str:
    try:
        return str(json.loads(intact(path).read_text())["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise GeoladderError(
            f"{path} cannot be read ({problem!r}); write the labels with `geoladder make-labels`"
        ) from None
