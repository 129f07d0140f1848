"""Chips as they are read back: by number in any order, and as batches of pretraining.

Batches are a pure function of (spec, step), so a resumed run needs no saved data state. Unusual: chips are not
flipped or turned. D, the unique pixels of a run, is an axis of the study, and augmentation would multiply it.

Of the manifest only three narrow columns stay in memory; the others are read when wanted, one at a time, so that
millions of chips open in a second. The folder is written by `geoladder.data.batches.chips`.
"""

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from geoladder.data.batches.batch import (
    Assembler,
    BandStats,
    PretrainBatch,
    Samples,
    check_shared,
    seeded_masks,
    step_masks,
)
from geoladder.data.batches.order import batch_at
from geoladder.data.batches.shards import chip_bytes, open_shards, split_rows
from geoladder.data.index.split import nested_cells
from geoladder.errors import GeoladderError
from geoladder.registry.target import Places
from geoladder.study.pretraining import Objective
from geoladder.study.specs import PretrainSpec

VALIDATION_SEED = 20_250_614
"""Draws the validation set and its masks, the same for every run of every study."""
VALIDATION_BATCH = 128
IN_MEMORY_BYTES = 2**30


class DNBatch(NamedTuple):
    """Chips as stored; goes straight into `geoladder.data.labels.bands.to_reflectance`."""

    dn10: np.ndarray
    """(N, 4, P, P) uint16."""
    dn20: np.ndarray
    """(N, 6, P/2, P/2) uint16."""
    offset_dn: np.ndarray
    """(N,) int64, to subtract from valid pixels."""


class Codes(NamedTuple):
    """A column of repeated texts: `values[codes]` gives it back."""

    codes: np.ndarray
    """(N,) int32."""
    values: list[str]

    def are(self, text: str) -> np.ndarray:
        """(N,) bool, which rows have that text."""
        return np.array([value == text for value in self.values], bool)[self.codes]


class Columns:
    """A parquet table of chips or of tiles, of which a few columns are wanted, and never all at once."""

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is read yet."""
        self._path = path

    def column(self, name: str) -> np.ndarray:
        """(N,) numbers of one column, in the type they are stored in."""
        return pq.read_table(self._path, columns=[name]).column(0).to_numpy()

    def codes(self, name: str) -> Codes:
        """One text column, each distinct text once."""
        column = pq.read_table(self._path, columns=[name], read_dictionary=[name]).column(0)
        if not pa.types.is_dictionary(column.type):  # no rows at all
            column = column.dictionary_encode()
        encoded = column.unify_dictionaries().combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):  # combine_chunks keeps an empty column in chunks
            return Codes(np.empty(0, np.int32), [])
        return Codes(encoded.indices.to_numpy().astype(np.int32), encoded.dictionary.to_pylist())

    def training_rows(self, fraction: Fraction, seed: int) -> tuple[np.ndarray, int]:
        """Rows for training in the nested fraction of grid cells that `seed` draws, and the number of all such cells.

        The fraction is one of cells with training rows.

        Returns:
            (N,) int64 ascending rows, and the number of cells that the fraction is drawn from.
        """
        cell, training = self.codes("grid_cell"), self.codes("split").are("train")
        trained = np.zeros(len(cell.values), bool)
        trained[cell.codes[training]] = True
        cells = np.array(cell.values, object)[trained].tolist()
        kept = set(cells if fraction == 1 else nested_cells(cells, fraction, seed))
        in_fraction = np.array([name in kept for name in cell.values], bool)
        return np.flatnonzero(training & in_fraction[cell.codes]), len(cells)


class ChipStore:
    """A folder of chips with its manifest."""

    def __init__(self, folder: Path) -> None:
        """Open a folder, which costs reading three columns of its manifest.

        Raises:
            GeoladderError: the folder has no manifest.
        """
        self.folder = Path(folder)
        path = self.folder / "manifest.parquet"
        if not path.is_file():
            raise GeoladderError(
                f"no chips in {self.folder} (manifest.parquet is missing); run `geoladder chips`"
            )
        self.columns = Columns(path)
        self._shard, self._slot, self._offset_dn = (
            self.columns.column(name).astype(kind)
            for name, kind in (("shard", np.int32), ("slot", np.int32), ("offset_dn", np.int16))
        )
        self._shards = open_shards(self.folder)

    def __len__(self) -> int:
        """Number of chips."""
        return len(self._shard)

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """The whole manifest; for small folders, since texts take much memory."""
        return pd.read_parquet(self.folder / "manifest.parquet")

    @cached_property
    def chip_px(self) -> int:
        """Side of a chip in 10 m pixels."""
        return self._shards.chip_px(int(self._shard[0]))

    def rows_of(self, split: str) -> np.ndarray:
        """(N,) int64 chips of a split, `train` or `val`."""
        return np.flatnonzero(self.columns.codes("split").are(split))

    def read(self, chips: np.ndarray) -> DNBatch:
        """Read chips by number.

        Args:
            chips: (N,) int64 values of the manifest's `chip`, any order, repeats allowed.

        Raises:
            GeoladderError: a shard is missing or damaged.
        """
        rows = np.empty((len(chips), chip_bytes(self.chip_px) // 2), np.uint16)
        shard, slot = self._shard[chips], self._slot[chips]
        # Ascending within a shard, so that a cold read moves over the disk in one direction.
        order = np.lexsort((slot, shard))
        for piece in np.split(order, np.flatnonzero(np.diff(shard[order])) + 1):
            if piece.size:
                self._shards.gather(int(shard[piece[0]]), slot[piece], piece, rows)
        return DNBatch(*split_rows(rows, self.chip_px), self._offset_dn[chips].astype(np.int64))


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
