"""Columns of an index or a manifest, read without the others, so that millions of rows open in a second."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geoladder.data.index.split import nested_cells
from geoladder.errors import GeoladderError
from geoladder.runs.remake import remake


def read_numbers(table: Path, name: str) -> np.ndarray:
    """(N,) of one column of a parquet table, as it is stored; raises GeoladderError where it is damaged."""
    return _column(table, name).to_numpy()


def read_whole(table: Path, name: str, kind: type[np.integer], most: int | None = None) -> np.ndarray:
    """(N,) of one column as `kind`; raises GeoladderError where a number is not whole or not in 0..`most`."""
    numbers, most = read_numbers(table, name), np.iinfo(kind).max if most is None else most
    if numbers.dtype.kind not in "iu" or (numbers.size and not 0 <= numbers.min() <= numbers.max() <= most):
        raise GeoladderError(
            f"{table} has numbers in column {name} that cannot be; whole ones from 0 to {most} are allowed; "
            f"{remake(table)}"
        )
    return numbers.astype(kind)


def _column(table: Path, name: str, **options: Any) -> pa.ChunkedArray:  # noqa: ANN401  (of pyarrow)
    try:
        return pq.read_table(table, columns=[name], **options)[name]
    except (pa.ArrowException, OSError, KeyError) as problem:
        raise GeoladderError(f"{table} has no readable column {name} ({problem}); {remake(table)}") from None


def read_texts(table: Path, name: str) -> tuple[list[str], np.ndarray]:
    """One column of repeated texts as distinct values and (N,) int32 codes; the column is `values[codes]`.

    GeoladderError where it is damaged, or holds anything else.
    """
    column = _column(table, name, read_dictionary=[name])
    if not len(column):
        return [], np.empty(0, np.int32)
    if column.null_count or not pa.types.is_dictionary(column.type):
        raise GeoladderError(f"{table} has no text in some rows of column {name}; {remake(table)}")
    encoded = column.unify_dictionaries().combine_chunks()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int32)


def rows_of(table: Path, split: str) -> np.ndarray:
    """(N,) int64 ascending rows of a split, `train` or `val`, of an index or manifest."""
    names, codes = read_texts(table, "split")
    return np.flatnonzero(np.array([name == split for name in names], bool)[codes])


def training_rows(table: Path, fraction: Fraction, seed: int) -> tuple[np.ndarray, int]:
    """Rows of an index or manifest for training, in the nested fraction of grid cells that `seed` draws.

    The fraction is one of cells with training rows.

    Returns:
        (N,) int64 ascending rows, and the number of cells that the fraction is drawn from.
    """
    rows, (names, cell) = rows_of(table, "train"), read_texts(table, "grid_cell")
    cells = np.flatnonzero(np.bincount(cell[rows], minlength=len(names)))
    if fraction == 1:
        return rows, len(cells)
    kept = set(nested_cells([names[code] for code in cells], fraction, seed))
    in_fraction = np.array([name in kept for name in names], bool)
    return rows[in_fraction[cell[rows]]], len(cells)
