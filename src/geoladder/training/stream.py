"""Batches of chips for pretraining: a pure function of (spec, step), so a resumed run needs no saved data state.

Unusual: chips are not flipped or turned. D, the unique pixels of a run, is an axis of the study, and augmentation
would multiply it.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from geoladder.config import Objective
from geoladder.data.bands import to_reflectance
from geoladder.data.chips import ChipStore, DNBatch
from geoladder.data.sampler import batch_at
from geoladder.data.split import nested_cells
from geoladder.data.stats import BandStats, Transform
from geoladder.data.targets import geo_encoding
from geoladder.errors import GeoladderError
from geoladder.specs import PretrainSpec
from geoladder.training.losses import PretrainBatch
from geoladder.training.masking import block_masks

CLIP_SIGMA = 10.0
"""Standardised reflectance beyond this is a glint or a defect; it must not rule the loss."""
VALIDATION_SEED = 20_250_614
"""Draws the validation set and its masks, the same for every run of every study."""
VALIDATION_BATCH = 128
IN_MEMORY_BYTES = 2**30


class Chips:
    """Some chips of a store, with what the heads learn about them.

    Small sets (below 1 GB) are held in memory as stored; larger ones are read from disk batch by batch.

    Attributes:
        side_px: side of a chip.
        places_deg: (N, 2) latitude and longitude.
    """

    def __init__(self, store: ChipStore, rows: np.ndarray, stats: BandStats, transform: Transform) -> None:
        """Take the chips at positions `rows` of the store's manifest."""
        manifest = store.manifest.iloc[rows]
        self._store, self._chips = store, manifest["chip"].to_numpy()
        self._stats, self._transform = stats, transform
        self.places_deg = manifest[["lat_deg", "lon_deg"]].to_numpy()
        self._geo = torch.from_numpy(geo_encoding(*self.places_deg.T))
        self._climate = torch.from_numpy(manifest["koppen"].to_numpy().astype(np.int64))
        first = store.read(self._chips[:1])
        self.side_px = first.dn10.shape[-1]
        small = len(rows) * (first.dn10.nbytes + first.dn20.nbytes) < IN_MEMORY_BYTES
        self._held = store.read(self._chips) if small else None

    def __len__(self) -> int:
        """Number of chips."""
        return len(self._chips)

    def batch(self, which: np.ndarray, mask: torch.Tensor) -> PretrainBatch:
        """Chips `which` (positions in this set) under `mask` (B, 1, H, W)."""
        if self._held is None:
            dn = self._store.read(self._chips[which])
        else:
            dn = DNBatch(*(part[which] for part in self._held))
        pixels = self._stats.standardise(to_reflectance(*dn), self._transform).clamp_(-CLIP_SIGMA, CLIP_SIGMA)
        return PretrainBatch(pixels, mask, self._geo[which], self._climate[which])


def training_chips(spec: PretrainSpec, folder: Path, stats: BandStats) -> Chips:
    """Training chips of a cell: the nested fraction that its seed draws.

    Raises:
        GeoladderError: no chip is left.
    """
    store = ChipStore(folder)
    training = store.manifest["split"] == "train"
    cells = store.manifest.loc[training, "grid_cell"].unique()
    kept = nested_cells(cells, spec.fraction, spec.seed)
    rows = np.flatnonzero(training & store.manifest["grid_cell"].isin(kept))
    if not rows.size:
        raise GeoladderError(
            f"{spec.corpus}@{spec.fraction} has no training chip: {len(kept)} of {len(cells)} grid cells in {folder} "
            f"are in the fraction at seed {spec.seed}; take a larger fraction or more tiles"
        )
    return Chips(store, rows, stats, spec.transform)


def validation_chips(spec: PretrainSpec, folder: Path, stats: BandStats) -> Chips:
    """The validation set, the same for every cell and seed.

    Raises:
        GeoladderError: the folder holds no validation chip.
    """
    store = ChipStore(folder)
    rows = np.flatnonzero(store.manifest["split"] == "val")
    if not rows.size:
        raise GeoladderError(f"{folder} has no validation chip; raise validation.share or add tiles")
    if rows.size > spec.validation_chips:
        rng = np.random.default_rng(VALIDATION_SEED)
        rows = np.sort(rng.choice(rows, spec.validation_chips, replace=False))
    return Chips(store, rows, stats, spec.transform)


def training_batches(
    spec: PretrainSpec, chips: Chips, first_step: int, rank: int = 0, ranks: int = 1
) -> Iterator[PretrainBatch]:
    """Endless batches from `first_step` on; of several ranks, each gets its slice of the same global batch.

    Raises:
        GeoladderError: the ranks cannot share a batch evenly.
    """
    if spec.batch % ranks:
        raise GeoladderError(
            f"a batch of {spec.batch} chips cannot be shared evenly by {ranks} devices; "
            "make pretrain.batch a multiple of compute.devices"
        )
    mine = slice(rank, None, ranks)
    step = first_step
    while True:
        which = batch_at(step, spec.batch, len(chips), spec.seed)
        mask = _masks(spec.batch, chips.side_px, spec.objective, [spec.seed, step])
        yield chips.batch(which[mine], mask[mine])
        step += 1


def validation_batches(objective: Objective, chips: Chips, numbers: np.ndarray) -> Iterator[PretrainBatch]:
    """Chips `numbers` (positions in the set) in order, each with a mask that never changes."""
    masks = _masks(len(chips), chips.side_px, objective, [VALIDATION_SEED])
    for start in range(0, numbers.size, VALIDATION_BATCH):
        which = numbers[start : start + VALIDATION_BATCH]
        yield chips.batch(which, masks[torch.from_numpy(which)])


def _masks(chips: int, side_px: int, objective: Objective, key: list[int]) -> torch.Tensor:
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
    generator = torch.Generator().manual_seed(seed)
    return block_masks(chips, side_px, side_px, objective.mask_block_px, objective.mask_ratio, generator)
