"""Batches of pretraining, whatever they are made from: one assembler, and what every source of samples can do."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch

from geoladder.data.batches.masking import block_masks
from geoladder.data.batches.stats import BandStats
from geoladder.errors import GeoladderError
from geoladder.registry.target import Places
from geoladder.study.pretraining import Objective
from geoladder.study.specs import PretrainSpec


class PretrainBatch(NamedTuple):
    """One batch of pretraining.

    Attributes:
        pixels: (B, 10, H, W) float32 standardised reflectance.
        mask: (B, 1, H, W) bool, True where hidden.
        targets: truth of each target by its name, (B, ...) float32 or int64.
    """

    pixels: torch.Tensor
    mask: torch.Tensor
    targets: dict[str, torch.Tensor]

    def to(self, device: torch.device | str) -> Self:
        """The batch on a device."""
        targets = {name: truth.to(device) for name, truth in self.targets.items()}
        return type(self)(self.pixels.to(device), self.mask.to(device), targets)

    def chunk(self, passes: int) -> list[Self]:
        """The batch in so many equal parts, one after another."""
        parts = range(passes)
        pixels, mask = self.pixels.chunk(passes), self.mask.chunk(passes)
        truth = {name: values.chunk(passes) for name, values in self.targets.items()}
        return [
            type(self)(pixels[n], mask[n], {name: values[n] for name, values in truth.items()}) for n in parts
        ]


class Samples(NamedTuple):
    """Samples as stored, and what is known of them."""

    dn10: np.ndarray
    """(N, 4, P, P) uint16."""
    dn20: np.ndarray
    """(N, 6, P/2, P/2) uint16."""
    offset_dn: np.ndarray
    """(N,) int64, to subtract from valid pixels."""
    places: Places
    """Of their centres."""


class Source(Protocol):
    """Endless batches of training samples: chips cut before, or crops read from tiles."""

    @property
    def side_px(self) -> int:
        """Side of a sample, 10 m pixels."""
        ...

    def __len__(self) -> int:
        """Number of chips, or of tiles."""
        ...

    def batches(self, first_step: int, rank: int = 0, ranks: int = 1) -> Iterator[PretrainBatch]:
        """Endless batches from `first_step` on; of several ranks, each gets its slice of the same global batch.

        Raises:
            GeoladderError: the ranks cannot share a batch evenly.
        """
        ...

    def facts(self, samples: int) -> dict[str, Any]:
        """What a run of so many samples has seen: at least `unique_chips` and `unique_pixels`."""
        ...


class Assembler:
    """Makes batches of stored samples: offset, reflectance, standardisation, clipping, and the truth of targets."""

    def __init__(self, spec: PretrainSpec, stats: BandStats) -> None:
        """Make batches as a run wants them."""
        self._spec, self._stats = spec, stats

    def assemble(self, samples: Samples, mask: torch.Tensor) -> PretrainBatch:
        """Samples under `mask` (N, 1, P, P) as a batch."""
        pixels = self._stats.model_input(samples.dn10, samples.dn20, samples.offset_dn, self._spec.transform)
        targets = {
            name: torch.from_numpy(use.entry.encode(use.settings, samples.places))
            for name, use in self._spec.objective.targets.items()
        }
        return PretrainBatch(pixels, mask, targets)


def check_shared(batch: int, ranks: int) -> None:
    """Refuse ranks that cannot share a batch evenly: none may wait, and gradients must weigh the same.

    Raises:
        GeoladderError: `ranks` does not divide `batch`.
    """
    if batch % ranks:
        raise GeoladderError(
            f"a batch of {batch} samples cannot be shared evenly by {ranks} devices; "
            "make pretrain.batch a multiple of compute.devices"
        )


def step_masks(spec: PretrainSpec, side_px: int, step: int) -> torch.Tensor:
    """Masks of one step's global batch, (batch, 1, side_px, side_px) bool, True where hidden."""
    return seeded_masks(spec.batch, side_px, spec.objective, [spec.seed, step])


def seeded_masks(samples: int, side_px: int, objective: Objective, key: list[int]) -> torch.Tensor:
    """Masks that `key` draws, (samples, 1, side_px, side_px) bool, True where hidden."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
    generator = torch.Generator().manual_seed(seed)
    return block_masks(samples, side_px, side_px, objective.mask_block_px, objective.mask_ratio, generator)
