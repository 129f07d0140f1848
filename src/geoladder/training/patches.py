"""Labelled patches of the bench as a model sees them, and batches of them, turned and flipped."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch

from geoladder.data.batches.batch import DN_PER_REFLECTANCE, BandStats, Moments, Transform
from geoladder.data.batches.order import batch_at
from geoladder.data.bench.nshot import Subset
from geoladder.data.bench.reader import Bench
from geoladder.data.bench.split import read_subset
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.registry.architecture import Input
from geoladder.study.downstream_specs import FinetuneSpec, LinearSpec, TrivialSpec
from geoladder.training.augmentation import Augmentation

AT_ONCE = 64
"""Patches in memory where many are read only once."""


@dataclass(frozen=True)
class Patches:
    """A labelled set. Pixels are kept as stored, which takes half the memory, and made for each batch."""

    dn: torch.Tensor
    """(N, 10, P, P) uint16."""
    offset_dn: torch.Tensor
    """(N,) int64, to subtract."""
    labels: torch.Tensor
    """(N, P, P), as the task's `read` gives them."""
    buckets: np.ndarray
    """(N,) name of the region bucket."""
    tiles: np.ndarray
    """(N,) name of the bench's tile, `<region>_<tile>`."""
    stats: BandStats
    transform: Transform

    def __len__(self) -> int:  # noqa: D105
        return len(self.dn)

    @property
    def side_px(self) -> int:
        """Side of a patch."""
        return self.dn.shape[-1]

    def pixels(self, which: slice | torch.Tensor = slice(None)) -> torch.Tensor:
        """(B, 10, P, P) float32 standardised reflectance of the patches at these places."""
        return self.stats.model_input(self.dn[which], None, self.offset_dn[which], self.transform)


class PixelInput(NamedTuple):
    """What pixels of a run are made with."""

    stats: BandStats
    transform: Transform
    harmonise: Literal["baseline", "none"]


def input_of(spec: FinetuneSpec | LinearSpec, stats: Path) -> PixelInput:
    """Statistics, transform and harmonising of a run's pixels: the study's (`stats`), or an external model's own.

    Raises:
        GeoladderError: as `BandStats.load`.
    """
    measured = BandStats.load(stats, spec.stats)
    used = measured if spec.input is None else released_stats(spec.input, measured.linear)
    return PixelInput(used, spec.transform, spec.harmonise)


def released_stats(pixels: Input, others: Moments) -> BandStats:
    """Statistics of reflectance of a model released for these pixels; bands it does not take have those of `others`.

    Their moments of square roots are those of reflectance, too: such a model sees nothing transformed.
    """
    given = [pixels.bands.get(band) for band in BANDS]
    mean, std = (
        [
            other if pair is None else pair[part] / DN_PER_REFLECTANCE
            for pair, other in zip(given, values, strict=True)
        ]
        for part, values in enumerate((others.mean, others.std))
    )
    moments = Moments(mean, std)
    return BandStats(list(BANDS), moments, moments, 0, "released")


def subset_of(bench: Bench, spec: TrivialSpec, split: Path) -> Subset:
    """Patches to train and validate on, from the file that all arms share; raises as `read_subset`."""
    return read_subset(split, bench, spec.task, spec.n, spec.subset)


def read_patches(bench: Bench, rows: pd.DataFrame, spec: FinetuneSpec, stats: BandStats) -> Patches:
    """Read rows of the bench's pool, to be standardised by `stats`; raises GeoladderError as `Bench.read`.

    They are read part by part, so that no more than the patches themselves is in memory.
    """
    side_px = int(bench.index["patch_px"].iloc[0])
    dn = torch.empty(len(rows), len(BANDS), side_px, side_px, dtype=torch.uint16)
    offset_dn, labels = torch.empty(len(rows), dtype=torch.int64), []
    for start, part in zip(count(0, AT_ONCE), in_parts(rows), strict=False):
        batch, places = bench.read(spec.task, part), slice(start, start + len(part))
        dn[places], offset_dn[places] = torch.from_numpy(batch.images), torch.from_numpy(batch.offset_dn)
        labels.append(torch.from_numpy(batch.labels))
    names = rows["bucket"].to_numpy(), tile_names(rows)
    return Patches(dn, offset_dn, torch.cat(labels), *names, stats, spec.transform)


def in_parts(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Rows of the bench's pool, as many at a time as are read at once."""
    return (rows.iloc[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE))


def check_labelled(bench: Bench, rows: pd.DataFrame, spec: TrivialSpec) -> None:
    """Raise GeoladderError where no pixel of these rows of the bench's pool has a label."""
    task = TASKS[spec.task]
    if not any(task.valid(bench.labels(spec.task, part)).any() for part in in_parts(rows)):
        raise GeoladderError(
            f"none of the {len(rows)} patches of {spec.task} (n={spec.n}, seed {spec.seed}) has a labelled pixel; "
            f"check the *_label_{task.label}.npy files in {bench.archive}, or raise n"
        )


def tile_names(rows: pd.DataFrame) -> np.ndarray:
    """`<region>_<tile>` of each row of a pool; its dates are of one tile."""
    return (rows["region"] + "_" + rows["tile"]).to_numpy(object)


def patch_batches(
    patches: Patches, batch: int, augmentation: Augmentation, first: int = 0, places: slice = slice(None)
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of pixels and labels: each patch once per epoch, each changed at random.

    Order and changes are functions of (seed, step), the same for every model trained on these patches. Steps count
    from `first`; of each batch only the `places` of one rank are given.
    """
    for step in count(first):
        which = torch.from_numpy(batch_at(step, batch, len(patches), augmentation.seed)[places])
        yield augmentation(patches.pixels(which), patches.labels[which], step, batch, places)
