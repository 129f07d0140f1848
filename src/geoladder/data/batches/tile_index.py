"""The training tiles of an archive, as narrow arrays: 2.25 million of them open in a second and in some 30 MB.

Unusual: of index.parquet (`geoladder.data.index.build`) only what reading pixels needs is kept, and texts once each.
Coordinates are not: a crop's place follows from its tile's own georeference.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa

from geoladder.data.batches.chip_store import Manifest
from geoladder.data.index.split import nested_cells
from geoladder.errors import GeoladderError


@dataclass(frozen=True)
class TileIndex:
    """Training tiles in the archive's order: by part, then by row."""

    parts: list[str]
    """Names of all parts."""
    part: np.ndarray
    """(N,) int32 positions in `parts`."""
    row: np.ndarray
    """(N,) int32 row in the part."""
    offset_dn: np.ndarray
    """(N,) int16, to subtract from valid pixels."""

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.part)


def open_tiles(index: Path, corpus: str, fraction: Fraction, seed: int) -> TileIndex:
    """Training tiles of an index in the nested fraction of its grid cells that `seed` draws.

    Raises:
        GeoladderError: the index cannot be read, or no tile is left.
    """
    columns = Manifest(index)
    try:
        split, part = columns.codes("split"), columns.codes("part")
        row, offset_dn = (columns.column(name) for name in ("row", "offset_dn"))
        training = split.codes == (split.values.index("train") if "train" in split.values else -1)
        kept = training if fraction == 1 else training & _in_fraction(columns, training, fraction, seed)
    except (OSError, pa.ArrowException, KeyError) as problem:
        raise GeoladderError(
            f"{index} is no index of tiles ({problem}); write it with `geoladder index`"
        ) from None
    if not kept.any():
        raise GeoladderError(
            f"{corpus}@{fraction} has no training tile: of the {int(training.sum())} in {index}, none is in "
            f"the fraction at seed {seed}; take a larger fraction or more tiles"
        )
    rank = np.argsort(np.argsort(np.array(part.values, dtype=object))).astype(np.int32)
    part_of, row_of = rank[part.codes[kept]], row[kept].astype(np.int32)
    order = np.lexsort((row_of, part_of))
    return TileIndex(
        sorted(part.values), part_of[order], row_of[order], offset_dn[kept][order].astype(np.int16)
    )


def _in_fraction(columns: Manifest, training: np.ndarray, fraction: Fraction, seed: int) -> np.ndarray:
    """Which rows are of the fraction's cells; the fraction is one of training cells."""
    cells = columns.codes("grid_cell")
    trained = np.zeros(len(cells.values), bool)
    trained[cells.codes[training]] = True
    kept = set(nested_cells(np.array(cells.values, object)[trained].tolist(), fraction, seed))
    return np.array([cell in kept for cell in cells.values], bool)[cells.codes]
