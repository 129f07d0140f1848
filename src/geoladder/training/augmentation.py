"""Random changes of labelled patches that leave their labels true: turns, flips and noise.

What happens to a patch is a function of (seed, step, place in the batch), the same for every model trained on it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from geoladder.data.batches.batch import BandStats, Transform

TURNS = 8
"""Symmetries of the square."""
PROBABILITY = 0.2
"""Of each change of the paper's augmentation."""
MAX_NOISE = 0.1
"""Largest relative standard deviation of its noise."""


@dataclass(frozen=True)
class Augmentation:
    """How the patches of a run are changed.

    Attributes:
        kind: `none`; `turns`, one of the eight turns and flips each; or `paper` (authors of arXiv 2506.14765):
            quarter turns, a flip, and noise that multiplies reflectance, each with probability 0.2.
        seed: of the run.
        black: (10,) float32, what the model sees of no reflectance.
        is_root: whether the model sees square roots of reflectance.
    """

    kind: Literal["turns", "none", "paper"]
    seed: int
    black: Tensor
    is_root: bool

    @classmethod
    def of(
        cls, kind: Literal["turns", "none", "paper"], seed: int, stats: BandStats, transform: Transform
    ) -> "Augmentation":
        """The augmentation `kind` of pixels standardised by `stats` after `transform`."""
        black = stats.standardise(torch.zeros(1, len(stats.bands), 1, 1), transform).view(-1)
        return cls(kind, seed, black, transform == "sqrt")

    def __call__(
        self, pixels: Tensor, labels: Tensor, step: int, batch: int, places: slice
    ) -> tuple[Tensor, Tensor]:
        """Pixels (B, 10, P, P) and labels (B, P, P) changed; they stand at `places` of the step's whole `batch`."""
        rng = np.random.default_rng([self.seed, step])
        if self.kind == "none":
            return pixels, labels
        if self.kind == "turns":
            turns = rng.integers(TURNS, size=batch)[places]
            return turned(pixels, turns), turned(labels, turns)
        is_turned, is_flipped, is_noisy = rng.random((3, batch)) < PROBABILITY
        turns = (2 * rng.integers(1, 4, size=batch) * is_turned + is_flipped)[places]
        deviations = (rng.uniform(0, MAX_NOISE, batch) * is_noisy)[places]
        numbers = np.arange(batch)[places]
        noisy = pixels.clone()
        for place in np.flatnonzero(deviations):
            noise = np.random.default_rng([self.seed, step, numbers[place]])
            noisy[place] = self._noisy(pixels[place], noise, deviations[place])
        return turned(noisy, turns), turned(labels, turns)

    def _noisy(self, pixels: Tensor, rng: np.random.Generator, deviation: float) -> Tensor:
        """One patch (10, P, P) whose reflectance is multiplied by numbers around 1, by band and pixel."""
        factor = torch.from_numpy(rng.normal(1, deviation, pixels.shape).clip(0)).to(pixels.dtype)
        black = self.black.view(-1, 1, 1)
        return black + (pixels - black) * (factor.sqrt() if self.is_root else factor)


def turned(images: Tensor, turns: np.ndarray) -> Tensor:
    """Each of (N, ..., P, P) images under one of the eight symmetries of the square.

    `turns` (N,) are 0..7: quarter turns times 2, plus 1 for a flip after them.
    """
    result = torch.empty_like(images)
    for kind in np.unique(turns):
        which = torch.from_numpy(np.flatnonzero(turns == kind))
        quarters, flip = divmod(int(kind), 2)
        group = images[which].rot90(quarters, (-2, -1))
        result[which] = group.flip(-1) if flip else group
    return result
