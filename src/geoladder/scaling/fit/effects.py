"""How far the cells that were run lie off the law, for predictions of another seed of theirs."""

from dataclasses import dataclass

import numpy as np

from geoladder.scaling.fit.mixed import Variance
from geoladder.scaling.fit.points import block_mean
from geoladder.scaling.fit.problem import Problem


@dataclass(frozen=True)
class Effects:
    """Cells that were run, by size, and what is known of how far each lies off the law.

    Attributes:
        x: size (C,) of each cell by variable.
        mean: (C,) mean y of its runs, on the scale of the loss.
        share: (C,) how much a new seed of the cell follows that mean rather than the law.
        sd: (C,) standard deviation of a new seed about that.
    """

    x: dict[str, list[float]]
    mean: list[float]
    share: list[float]
    sd: list[float]


def effects_of(problem: Problem, variance: Variance) -> Effects | None:
    """The cells of a design whose seeds repeat; None where rows are checkpoints of runs.

    The best linear prediction of a cell of m runs takes the share c / (c + s / m) of its mean's distance from the
    law, c and s the variances of cells and seeds, and leaves the variance c (1 - share) of the cell beside s.
    """
    read = problem.read
    if read.runs is not None or not read.repeated:
        return None
    _, first, counts = np.unique(read.cells, return_index=True, return_counts=True)
    cell, seed = variance.sigma_cell**2, variance.sigma_seed**2
    share = cell / np.maximum(cell + seed / counts, 1e-300)
    return Effects(
        {role: sizes[first].tolist() for role, sizes in read.x.items()},
        block_mean(problem.target, read.cells)[first].tolist(),
        share.tolist(),
        np.sqrt(cell * (1 - share) + seed).tolist(),
    )
