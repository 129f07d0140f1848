"""The covariance of rows that share a cell or a run, in blocks: rows of different blocks are independent."""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from geoladder.scaling.fit.points import Points
from geoladder.scaling.laws.curves import Array

MOST = 0.9999
"""Largest share and memory: at 1 the covariance is singular."""


class Shares(NamedTuple):
    """Shares of the variance that cells and runs have, and the correlation of neighbouring checkpoints of a run."""

    cell: float = 0.0
    run: float = 0.0
    memory: float = 0.0


class Blocks:
    """Rows that depend on one another, as blocks of equal size stacked.

    Attributes:
        rows: of each size m of a block, the numbers (B, m) of the rows.
        shared: of each size, whether two rows are of one cell: 1 or 0, (B, m, m).
        lags: of each size, how many checkpoints of one run lie between two rows, (B, m, m); infinite between runs.
    """

    def __init__(self, read: Points) -> None:
        count = len(read.y)
        cells = read.cells if read.repeated else np.arange(count)
        runs = np.arange(count) if read.runs is None else read.runs
        size = int(cells.max() + runs.max()) + 2
        links = sparse.csr_array((np.ones(count), (cells, cells.max() + 1 + runs)), shape=(size, size))
        block = connected_components(links, directed=False)[1][cells]
        progress = np.log(np.stack(list(read.x.values()))).sum(axis=0)
        order = np.lexsort((progress, runs, block))
        sizes = np.bincount(block)[block[order]]
        place = _place(runs, progress)
        self.rows = [order[sizes == m].reshape(-1, m) for m in np.unique(sizes)]
        self.shared = [1.0 * (cells[rows][:, :, None] == cells[rows][:, None]) for rows in self.rows]
        self.lags = [
            np.where(
                runs[rows][:, :, None] == runs[rows][:, None],
                np.abs(place[rows][:, :, None] - place[rows][:, None]),
                np.inf,
            )
            for rows in self.rows
        ]

    def roots(self, shares: Shares) -> list[Array]:
        """Of each size of block, the Cholesky factors (B, m, m) of the covariance of variance 1."""
        rest = 1 - shares.cell - shares.run
        return [
            np.linalg.cholesky(
                rest * np.eye(cell.shape[1]) + shares.cell * cell + shares.run * _kernel(lags, shares.memory)
            )
            for cell, lags in zip(self.shared, self.lags, strict=True)
        ]

    def slopes(self, shares: Shares, variance: float) -> list[list[Array]]:
        """Of each size of block, derivatives (B, m, m) of the covariance by variances other than 0, and by memory."""
        return [
            self._slopes(cell, lags, shares, variance)
            for cell, lags in zip(self.shared, self.lags, strict=True)
        ]

    def _slopes(self, cell: Array, lags: Array, shares: Shares, variance: float) -> list[Array]:
        slopes = (
            [np.broadcast_to(np.eye(cell.shape[1]), cell.shape)] if shares.cell + shares.run < MOST else []
        )
        if shares.cell:
            slopes.append(cell)
        if shares.run:
            slopes.append(_kernel(lags, shares.memory))
        if shares.run and shares.memory:
            by_memory = np.where(np.isfinite(lags), lags, 0.0) * _kernel(lags, shares.memory) / shares.memory
            slopes.append(variance * shares.run * by_memory)
        return slopes

    def matrix(self, blocks: list[Array], count: int) -> sparse.csr_array:
        """Stacked blocks (B, m, m) by size as one matrix (M, M)."""
        where = [np.broadcast_arrays(rows[:, :, None], rows[:, None]) for rows in self.rows]
        row, column = (np.concatenate([pair[k].ravel() for pair in where]) for k in (0, 1))
        values = np.concatenate([block.ravel() for block in blocks])
        return sparse.csr_array((values, (row, column)), shape=(count, count))


def _place(runs: Array, progress: Array) -> Array:
    """(M,) number of each row among the checkpoints of its run."""
    order = np.lexsort((progress, runs))
    first = np.searchsorted(runs[order], runs[order])
    place = np.empty(len(runs), dtype=np.int64)
    place[order] = np.arange(len(runs)) - first
    return place


def _kernel(lags: Array, memory: float) -> Array:
    return np.where(np.isinf(lags), 0.0, memory ** np.where(np.isinf(lags), 0.0, lags))
