"""Batches of chips for pretraining: a pure function of (spec, step), so a resumed run needs no saved data state.

Unusual: chips are not flipped or turned. D, the unique pixels of a run, is an axis of the study, and augmentation
would multiply it.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from geoladder.data.batches.batch import (
    Assembler,
    PretrainBatch,
    Samples,
    check_shared,
    seeded_masks,
    step_masks,
)
from geoladder.data.batches.chip_store import ChipStore, DNBatch
from geoladder.data.batches.sampler import batch_at
from geoladder.data.batches.shards import chip_bytes
from geoladder.data.batches.stats import BandStats
from geoladder.errors import GeoladderError
from geoladder.registry.target import Places
from geoladder.study.pretraining import Objective
from geoladder.study.specs import PretrainSpec

VALIDATION_SEED = 20_250_614
"""Draws the validation set and its masks, the same for every run of every study."""
VALIDATION_BATCH = 128
IN_MEMORY_BYTES = 2**30


class Chips:
    """Some chips of a store: a `Source` of training batches, or a validation set.

    Small sets (below 1 GB) stay in memory as stored; larger ones are read from disk batch by batch.

    Attributes:
        side_px: side of a chip.
    """

    def __init__(self, store: ChipStore, rows: np.ndarray, stats: BandStats, spec: PretrainSpec) -> None:
        """Take the chips at positions `rows` of the store's manifest, as a run wants them."""
        self._store, self._rows, self._spec = store, rows, spec
        self._assembler = Assembler(spec, stats)
        lat_deg, lon_deg, koppen = (
            store.columns.column(name)[rows] for name in ("lat_deg", "lon_deg", "koppen")
        )
        self._places = Places(lat_deg, lon_deg, koppen.astype(np.int64))
        self.side_px = store.chip_px
        small = len(rows) * chip_bytes(self.side_px) < IN_MEMORY_BYTES
        self._in_memory = store.read(rows) if small else None

    def __len__(self) -> int:
        """Number of chips."""
        return len(self._rows)

    def places(self, positions: np.ndarray) -> Places:
        """What is known of the chips at `positions` (N,) in this set."""
        return Places(*(values[positions] for values in self._places))

    def batch(self, positions: np.ndarray, mask: torch.Tensor) -> PretrainBatch:
        """Chips at `positions` (B,) in this set under `mask` (B, 1, H, W)."""
        if self._in_memory is None:
            dn = self._store.read(self._rows[positions])
        else:
            dn = DNBatch(*(part[positions] for part in self._in_memory))
        return self._assembler.assemble(Samples(*dn, self.places(positions)), mask)

    def batches(self, first_step: int, rank: int = 0, ranks: int = 1) -> Iterator[PretrainBatch]:
        """Endless batches from `first_step` on; of several ranks, each gets its slice of the same global batch.

        Raises:
            GeoladderError: the ranks cannot share a batch evenly.
        """
        spec, step = self._spec, first_step
        check_shared(spec.batch, ranks)
        mine = slice(rank, None, ranks)
        while True:
            positions = batch_at(step, spec.batch, len(self), spec.seed)
            mask = step_masks(spec, self.side_px, step)
            yield self.batch(positions[mine], mask[mine])
            step += 1

    def validation_batches(self, objective: Objective, positions: np.ndarray) -> Iterator[PretrainBatch]:
        """Chips at `positions` in this set in order, each with a mask that never changes."""
        masks = seeded_masks(len(self), self.side_px, objective, [VALIDATION_SEED])
        for start in range(0, positions.size, VALIDATION_BATCH):
            part = positions[start : start + VALIDATION_BATCH]
            yield self.batch(part, masks[torch.from_numpy(part)])

    def facts(self, samples: int) -> dict[str, int]:
        """What a run on these chips can see: chips do not overlap, so their pixels are unique."""
        return {"unique_chips": len(self), "unique_pixels": len(self) * self.side_px**2}


def training_chips(spec: PretrainSpec, folder: Path, stats: BandStats) -> Chips:
    """Training chips of a cell: the nested fraction that its seed draws.

    Raises:
        GeoladderError: no chip is left.
    """
    store = ChipStore(folder)
    rows, cells = store.columns.training_rows(spec.fraction, spec.seed)
    if not rows.size:
        raise GeoladderError(
            f"{spec.corpus}@{spec.fraction} has no training chip: 0 of {cells} grid cells in {folder} are "
            f"in the fraction at seed {spec.seed}; take a larger fraction or more tiles"
        )
    return Chips(store, rows, stats, spec)


def validation_chips(spec: PretrainSpec, folder: Path, stats: BandStats) -> Chips:
    """The validation set, the same for every cell and seed.

    Raises:
        GeoladderError: the folder holds no validation chip.
    """
    store = ChipStore(folder)
    rows = store.rows_of("val")
    if not rows.size:
        raise GeoladderError(f"{folder} has no validation chip; raise validation.share or add tiles")
    if rows.size > spec.validation_chips:
        rng = np.random.default_rng(VALIDATION_SEED)
        rows = np.sort(rng.choice(rows, spec.validation_chips, replace=False))
    return Chips(store, rows, stats, spec)
