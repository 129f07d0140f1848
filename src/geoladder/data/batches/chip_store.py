"""Chips as they are read back: by number, in any order.

Unusual: of the manifest only three narrow columns stay in memory; the others are read when wanted, one at a time, so
that millions of chips open in a second. The folder is written by `geoladder.data.batches.chips`.
"""

from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from geoladder.data.batches.shards import chip_bytes, open_shards, split_rows
from geoladder.data.index.split import nested_cells
from geoladder.errors import GeoladderError


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
