"""Which grid cells are held out for validation, and which belong to a nested fraction of a corpus.

Nothing comes from a random generator. Both answers come from stable hashes of the cells' names, so they are the same
on every machine and for every order of reading: a validation cell is in no training set, and 1/16 lies inside 1/4
inside 1.
"""

import hashlib
from collections.abc import Iterable
from fractions import Fraction
from math import floor


def _uniform(text: str, stream: str) -> float:
    """Hash `text` to a number in [0, 1); different streams (at most 16 bytes) are independent."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=stream.encode()).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def cell_hash(grid_cell: str, seed: int = 0) -> float:
    """Stable hash of a grid cell (`433D_629L`) and a seed to [0, 1), blake2b, uniform over cells."""
    return _uniform(f"{seed}:{grid_cell}", "fraction")


def is_validation(grid_cell: str, share: float) -> bool:
    """Whether a cell is held out, for a share of all cells in [0, 1]. The same for all corpora and seeds."""
    return _uniform(grid_cell, "validation") < share


def nested_cells(grid_cells: Iterable[str], fraction: Fraction | float, seed: int) -> list[str]:
    """The cells of a nested fraction of a corpus: those with the smallest hashes, an exact share to half a cell.

    For one seed, the cells of a smaller fraction are among those of a larger one, and fraction 1 has them all.
    Independent of `is_validation`.

    Args:
        grid_cells: the corpus's cells, each once.
        fraction: share to keep, in [0, 1].
        seed: draws the order of the cells.
    """
    order = sorted(grid_cells, key=lambda cell: (cell_hash(cell, seed), cell))
    return order[: floor(len(order) * fraction + Fraction(1, 2))]
