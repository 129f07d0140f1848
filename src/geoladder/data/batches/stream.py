"""Batches of chips for pretraining: a pure function of (spec, step), so a resumed run needs no saved data state.

Unusual: chips are not flipped or turned. D, the unique pixels of a run, is an axis of the study, and augmentation
would multiply it.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from geoladder.data.batches.batch import PretrainBatch
from geoladder.data.batches.chip_store import ChipStore, Codes, DNBatch
from geoladder.data.batches.masking import block_masks
from geoladder.data.batches.sampler import batch_at
from geoladder.data.batches.shards import chip_bytes
from geoladder.data.batches.stats import BandStats
from geoladder.data.index.split import nested_cells
from geoladder.data.labels.bands import to_reflectance
from geoladder.data.labels.label_rasters import label_classes
from geoladder.data.labels.targets import geo_encoding
from geoladder.errors import GeoladderError
from geoladder.study.pretraining import Objective
from geoladder.study.specs import PretrainSpec

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

    def __init__(self, store: ChipStore, rows: np.ndarray, stats: BandStats, spec: PretrainSpec) -> None:
        """Take the chips at positions `rows` of the store's manifest, as a run wants them."""
        self._store, self._chips = store, rows
        self._labels, transform = spec.objective.labels, spec.transform
        self._stats, self._transform = stats, transform
        self.places_deg = np.stack(
            [store.columns.column(name)[rows] for name in ("lat_deg", "lon_deg")], axis=1
        )
        self._climate = store.columns.column("koppen")[rows]
        self.side_px = store.chip_px
        small = len(rows) * chip_bytes(self.side_px) < IN_MEMORY_BYTES
        self._held = store.read(rows) if small else None

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
        places = self.places_deg[which].T
        geo, labels = geo_encoding(*places), label_classes(self._labels, *places)
        climate = self._climate[which].astype(np.int64)
        return PretrainBatch(pixels, mask, *map(torch.from_numpy, (geo, climate, labels)))

    def facts(self, samples: int) -> dict[str, int]:
        """What a run on these chips can see: chips do not overlap, so their pixels are unique."""
        return {"unique_chips": len(self), "unique_pixels": len(self) * self.side_px**2}


def training_chips(spec: PretrainSpec, folder: Path, stats: BandStats) -> Chips:
    """Training chips of a cell: the nested fraction that its seed draws.

    Raises:
        GeoladderError: no chip is left.
    """
    store = ChipStore(folder)
    split, cell = store.columns.codes("split"), store.columns.codes("grid_cell")
    training = _is(split, "train")
    trained = np.zeros(len(cell.values), bool)
    trained[cell.codes[training]] = True
    cells = [name for name, is_trained in zip(cell.values, trained, strict=True) if is_trained]
    kept = set(cells if spec.fraction == 1 else nested_cells(cells, spec.fraction, spec.seed))
    in_fraction = np.array([name in kept for name in cell.values], bool)
    rows = np.flatnonzero(training & in_fraction[cell.codes])
    if not rows.size:
        raise GeoladderError(
            f"{spec.corpus}@{spec.fraction} has no training chip: {len(kept)} of {len(cells)} grid cells in {folder} "
            f"are in the fraction at seed {spec.seed}; take a larger fraction or more tiles"
        )
    return Chips(store, rows, stats, spec)


def validation_chips(spec: PretrainSpec, folder: Path, stats: BandStats) -> Chips:
    """The validation set, the same for every cell and seed.

    Raises:
        GeoladderError: the folder holds no validation chip.
    """
    store = ChipStore(folder)
    rows = np.flatnonzero(_is(store.columns.codes("split"), "val"))
    if not rows.size:
        raise GeoladderError(f"{folder} has no validation chip; raise validation.share or add tiles")
    if rows.size > spec.validation_chips:
        rng = np.random.default_rng(VALIDATION_SEED)
        rows = np.sort(rng.choice(rows, spec.validation_chips, replace=False))
    return Chips(store, rows, stats, spec)


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
        mask = step_masks(spec, chips.side_px, step)
        yield chips.batch(which[mine], mask[mine])
        step += 1


def step_masks(spec: PretrainSpec, side_px: int, step: int) -> torch.Tensor:
    """Masks of one step's global batch, (batch, 1, side_px, side_px) bool, True where hidden."""
    return _masks(spec.batch, side_px, spec.objective, [spec.seed, step])


def validation_batches(objective: Objective, chips: Chips, numbers: np.ndarray) -> Iterator[PretrainBatch]:
    """Chips `numbers` (positions in the set) in order, each with a mask that never changes."""
    masks = _masks(len(chips), chips.side_px, objective, [VALIDATION_SEED])
    for start in range(0, numbers.size, VALIDATION_BATCH):
        which = numbers[start : start + VALIDATION_BATCH]
        yield chips.batch(which, masks[torch.from_numpy(which)])


def _is(split: Codes, name: str) -> np.ndarray:
    return np.array([value == name for value in split.values], bool)[split.codes]


def _masks(chips: int, side_px: int, objective: Objective, key: list[int]) -> torch.Tensor:
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
    generator = torch.Generator().manual_seed(seed)
    return block_masks(chips, side_px, side_px, objective.mask_block_px, objective.mask_ratio, generator)
