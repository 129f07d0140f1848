"""Metrics of predictions on test patches, by bucket and with intervals, from sums by tile."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoladder.errors import GeoladderError
from geoladder.registry.task import Task

AT_ONCE = 64
"""Patches whose sums are taken together; bounds the memory and changes no sum."""
LEVEL = 0.95
RESAMPLES = 1000
BOOTSTRAP_SEED = 0
"""The same for all models, so that intervals on the same tiles rest on the same resamples."""


class Score:
    """Gathers sums of a task's test patches, batch by batch, and makes metrics of them.

    Sums are taken patch by patch in float64, so that the size of a batch changes nothing at all.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._by_tile: dict[tuple[str, str], np.ndarray] = {}
        """Bucket and tile to sums (K,)."""
        self._by_patch: dict[int, tuple[str, np.ndarray]] = {}
        """Place in test order to bucket and the sums that metrics of ordered patches need."""
        self._labelled = False

    def update(
        self,
        predicted: Tensor,
        labels: Tensor,
        buckets: np.ndarray,
        tiles: np.ndarray,
        first: int | None = None,
    ) -> None:
        """Add test patches.

        Args:
            predicted: of N patches, as `task.prediction` gives it.
            labels: (N, P, P).
            buckets: (N,) names of region buckets.
            tiles: (N,) names of tiles.
            first: place of the first patch in test order; omit it where all patches come in that order, but give it
                where several processes share them.

        Raises:
            GeoladderError: a patch was added before.
        """
        start = len(self._by_patch) if first is None else first
        for offset in range(0, len(labels), AT_ONCE):
            some = slice(offset, offset + AT_ONCE)
            sums = self._task.sums(predicted[some].detach().cpu(), labels[some].cpu())
            self._labelled |= bool(self._task.valid(labels[some]).any())
            places = range(start + offset, start + offset + len(sums))
            self._add_patches(
                {
                    place: (bucket, patch[: self._task.ordered].copy())
                    for place, bucket, patch in zip(places, buckets[some], sums, strict=True)
                }
            )
            for bucket, tile, patch in zip(buckets[some], tiles[some], sums, strict=True):
                self._add_tile((bucket, tile), patch)

    def reduce(self) -> None:
        """Take in the sums of all ranks of a process group, where there is one; each rank ends with the same.

        Raises:
            GeoladderError: two ranks added the same patch.
        """
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        ranks: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(ranks, (self._by_tile, self._by_patch, self._labelled))
        self._by_tile, self._by_patch = {}, {}
        for by_tile, by_patch, labelled in ranks:
            self._labelled |= labelled
            self._add_patches(by_patch)
            for key, sums in by_tile.items():
                self._add_tile(key, sums)

    def result(self) -> dict[str, Any]:
        """Metrics of all patches so far.

        Returns:
            `metrics` by name; `by_bucket`, the same by bucket; `intervals` by name, [low, high]: 95 % of a bootstrap
            over tiles, NaN where there is a single tile; `details`, the task's own by bucket and for `all`;
            `test_patches`, and `test_tiles` behind the intervals.

        Raises:
            GeoladderError: there is no patch, or none with a label.
        """
        if not self._labelled:
            raise GeoladderError(
                f"none of the {len(self._by_patch)} test patches of {self._task.name} has a labelled pixel; check "
                f"the *_test_label_{self._task.label}.npy files of the bench"
            )
        keys = sorted(self._by_tile)
        sums = np.stack([self._by_tile[key] for key in keys])
        buckets = np.array([bucket for bucket, _ in keys], object)
        parts = {"all": sums} | {name: sums[buckets == name] for name in sorted(set(buckets))}
        metrics = {name: self._metrics(name, part) for name, part in parts.items()}
        details = {name: self._task.details(part.sum(axis=0)) for name, part in parts.items()}
        return {
            "metrics": metrics.pop("all"),
            "by_bucket": metrics,
            "intervals": self._intervals(sums),
            "details": {name: entries for name, entries in details.items() if entries},
            "test_patches": len(self._by_patch),
            "test_tiles": len(keys),
        }

    def _metrics(self, bucket: str, sums: np.ndarray) -> dict[str, float]:
        values = {name: float(value) for name, value in self._task.metrics(sums.sum(axis=0)).items()}
        if not self._task.ordered:
            return values
        patches = [sums for _, (name, sums) in sorted(self._by_patch.items()) if bucket in ("all", name)]
        return values | self._task.in_order(np.stack(patches))

    def _intervals(self, sums: np.ndarray) -> dict[str, list[float]]:
        """Percentile intervals of tiles drawn with replacement; `sums` is (tiles, K)."""
        tiles = len(sums)
        counts = np.random.default_rng(BOOTSTRAP_SEED).multinomial(
            tiles, np.full(tiles, 1 / tiles), size=RESAMPLES
        )
        ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
        intervals = {}
        for name, values in self._task.metrics(np.einsum("rt,tk->rk", counts, sums)).items():
            usable = values[np.isfinite(values)]
            known = tiles > 1 and usable.size
            intervals[name] = np.quantile(usable, ends).tolist() if known else [float("nan")] * 2
        return intervals

    def _add_tile(self, key: tuple[str, str], sums: np.ndarray) -> None:
        self._by_tile[key] = self._by_tile[key] + sums if key in self._by_tile else sums.copy()

    def _add_patches(self, patches: dict[int, tuple[str, np.ndarray]]) -> None:
        if twice := self._by_patch.keys() & patches.keys():
            raise GeoladderError(
                f"test patch {min(twice)} was scored twice; give each patch to one process, with its place in test "
                "order as `first`"
            )
        self._by_patch |= patches
