"""What training one image costs a rung, from a table kept in the package, or counted.

Counting takes a second a rung and torch two more, too long for a plan of many cells, so counts at the usual
image sizes are kept in rung_costs.csv, made by `python tools/count_rungs.py`. A test counts them again.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

TABLE = Path(__file__).parent / "rung_costs.csv"


class RungCost(NamedTuple):
    """One rung with pretraining heads at one image size."""

    parameters: int
    gflops_train: float
    """GFLOP of a training sample, forward and backward."""
    gflops_fwd: float
    activations: int
    """Bytes kept for the backward pass by one image, in bf16."""


def rung_cost(architecture: str, size: str, px: int) -> RungCost:
    """Cost of a rung for images of `px` x `px` pixels.

    Raises:
        GeoladderError: unknown rung, or an image size it cannot take.
    """
    return _kept().get((architecture, size, px)) or counted(architecture, size, px)


@cache
def counted(architecture: str, size: str, px: int) -> RungCost:
    """Count a rung; raises as `rung_cost`."""
    from geoladder.cost.profile import profile

    rung = profile(architecture, size, px)
    parameters, activations = rung["parameters"]["total"], rung["activation_bytes"]["bfloat16"]
    return RungCost(parameters, rung["gflops_train"], rung["gflops_fwd"], activations)


@cache
def _kept() -> dict[tuple[str, str, int], RungCost]:
    rows = pd.read_csv(TABLE).itertuples(index=False, name=None)
    return {row[:3]: RungCost(*row[3:]) for row in rows}
