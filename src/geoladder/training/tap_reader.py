"""Patches of the bench as a frozen encoder sees them: each is read and encoded once, whoever uses it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geoladder.data.bench.reader import Bench
from geoladder.models.backbone import Backbone
from geoladder.models.taps import tap_features
from geoladder.training.patches import PixelInput

BATCH_BYTES = 64 << 20
"""Of features at full resolution that are made at a time."""
PATCH = ["entry", "slot"]
"""What names a patch of the bench."""


class TapBatch(NamedTuple):
    """Some patches with labels of one task."""

    task: str
    uses: pd.DataFrame
    """Rows that name these patches, patch after patch, with `at`, the place of the patch in the batch."""
    features: Tensor
    """(B, F, P, P) float32, on the device of the backbone."""
    labels: Tensor
    """(B, P, P), as the task's `read` gives them."""


class TapReader:
    """Reads patches of `bench` as features of `backbone`, in evaluation mode, from pixels made as `pixels` says.

    Attributes:
        side_px: of the patches.
        features: channels of the taps.
    """

    def __init__(self, bench: Bench, backbone: Backbone, pixels: PixelInput) -> None:
        self.bench, self.pixels = bench, pixels
        self.backbone = backbone.eval().requires_grad_(False)
        self.device = next(backbone.parameters()).device
        self.side_px = int(bench.index["patch_px"].iloc[0])
        with torch.inference_mode():
            blank = torch.zeros(1, len(pixels.stats.bands), self.side_px, self.side_px, device=self.device)
            self.features = tap_features(backbone, blank).shape[1]
        self._batch = max(1, BATCH_BYTES // (4 * self.features * self.side_px**2))

    def batches(self, uses: pd.DataFrame) -> Iterator[TapBatch]:
        """Patches of `uses` in the order of the bench, some at a time, and of these one task after another.

        `uses` has `PATCH`, task and more; a patch may have many rows.
        """
        patches = uses[PATCH].drop_duplicates().sort_values(PATCH, ignore_index=True)
        placed = uses.merge(patches.reset_index(names="place"), on=PATCH).sort_values("place", kind="stable")
        for start in range(0, len(patches), self._batch):
            rows = patches.iloc[start : start + self._batch]
            features = self._features(rows)
            within = placed[placed["place"].between(start, start + len(rows) - 1)]
            for task, of_task in within.groupby("task", sort=False):
                places = of_task["place"].unique()
                labels = self.bench.labels(str(task), patches.iloc[places])
                at = np.searchsorted(places, of_task["place"])
                chosen = features[torch.from_numpy(places - start)]
                yield TapBatch(str(task), of_task.assign(at=at), chosen, torch.from_numpy(labels))

    def _features(self, rows: pd.DataFrame) -> Tensor:
        images, offset_dn = self.bench.images(rows)
        pixels = self.pixels.stats.model_input(images, None, offset_dn, self.pixels.transform)
        with torch.inference_mode():
            return tap_features(self.backbone, pixels.to(self.device))
