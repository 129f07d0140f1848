"""What training one image costs a rung, from a table kept in the package, or counted.

Counting takes a second a rung and torch two more, too long for a plan of many cells, so counts at the usual
image sizes are kept in rung_costs.csv, made by `python tools/count_rungs.py`. A test counts them again.
"""

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

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
    import torch

    from geoladder.cost.memory import activation_bytes
    from geoladder.counting import count_gflops, count_parameters
    from geoladder.models.build import PretrainModel, build_backbone

    with torch.device("meta"):
        model = PretrainModel(build_backbone(architecture, size))
    gflops = count_gflops(model, px)
    kept = activation_bytes(model, px, dtype=torch.bfloat16)
    return RungCost(count_parameters(model)["total"], gflops.forward + gflops.backward, gflops.forward, kept)


@cache
def _kept() -> dict[tuple[str, str, int], RungCost]:
    with TABLE.open(newline="") as file:
        return {
            (row["architecture"], row["size"], int(row["px"])): RungCost(
                int(row["parameters"]),
                float(row["gflops_train"]),
                float(row["gflops_fwd"]),
                int(row["activations"]),
            )
            for row in csv.DictReader(file)
        }
