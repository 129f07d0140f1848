"""What training one image costs a rung, from a table kept in the package or counted, and what of it fits on a card.

Counting takes a second a rung and torch two more, too long for a plan of many cells, so counts at the usual
image sizes are kept in rung_costs.csv, made by `python tools/count_rungs.py`. A test counts them again.

A step needs weights, gradients, the optimiser's moments and kept activations; what the allocator loses to fragments,
and workspaces of convolutions, are left to `HEADROOM`.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).parent / "rung_costs.csv"
PEAK_TFLOPS = {"a100-40": 312, "a100-80": 312, "h100-80": 989, "h200-141": 989}
"""Of each card, whose name ends with its GB of memory: 1e12 dense bf16 operations per second with float32 sums, by
NVIDIA's data sheets."""
ASSUMED_UTILISATION = 0.35
"""Share of the peak that training reaches on a card that was never checked (`python -m benchmarks.gpu`)."""
STATE_BYTES = 16
"""Per parameter, float32: weight, gradient and the two moments of AdamW."""
BF16_COPY_BYTES = 2
"""Per parameter under bf16-mixed: autocast keeps the cast weights until the backward pass."""
HEADROOM = 0.9
"""Share of a card's memory that a step may fill."""


class RungCost(NamedTuple):
    """One rung with pretraining heads at one image size."""

    parameters: int
    gflops_train: float
    """GFLOP of a training sample, forward and backward."""
    gflops_fwd: float
    activations: int
    """Bytes kept for the backward pass by one image, in bf16."""

    def step_bytes(self, batch: int, shards: int = 1) -> int:
        """Bytes of a training step in bf16-mixed on one device.

        `shards` devices share weights, gradients and moments (FSDP; 1 under DDP).
        """
        weights = round(self.parameters * STATE_BYTES / shards) + self.parameters * BF16_COPY_BYTES
        return weights + self.activations * batch

    def largest_batch(self, card_bytes: float, shards: int = 1) -> int:
        """Images that fit on a card at once in powers of two; 0 where not even one does."""
        batch = 1
        while self.step_bytes(batch, shards) <= HEADROOM * card_bytes:
            batch *= 2
        return batch // 2


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
    import pandas as pd

    rows = pd.read_csv(TABLE).itertuples(index=False, name=None)
    return {row[:3]: RungCost(*row[3:]) for row in rows}
