"""What one rung of the ladder costs: parameters by part, FLOPs, memory, and if asked its speed on this device.

All but the speed is counted on the `meta` device, so the largest rung takes a second and no memory.
"""

from typing import Any, NamedTuple

import torch

from geoladder.cost.measure import measure_step
from geoladder.cost.memory import activation_bytes
from geoladder.cost.published import PUBLISHED, PX, misses
from geoladder.counting import count_gflops, count_parameters
from geoladder.data.labels.bands import BANDS
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.models.ladder import rung
from geoladder.registry import ARCHITECTURES
from geoladder.training.trainer import Precision


class Measurement(NamedTuple):
    """How to measure: images a step, timed steps, number format."""

    batch: int
    steps: int = 5
    precision: Precision = "auto"


def profile(
    architecture: str, size: str, px: int = PX, measurement: Measurement | None = None
) -> dict[str, Any]:
    """Cost of pretraining one rung, for one image of `px` x `px` pixels unless said otherwise.

    Returns:
        JSON-able: `architecture`, `size`, `model` (constructor arguments), `px`, `parameters` (by part, of the model
        with pretraining heads), `gflops_fwd`, `gflops_bwd`, `gflops_scan_fwd` (of the first), `gflops_train` (of a
        training sample), `activation_bytes` by number format, `published` (of the paper's models, at 128 px) with
        `misses`, and `measured` (None unless asked).

    Raises:
        GeoladderError: unknown rung, an image size it cannot take, or too little memory to measure.
    """
    chosen = rung(architecture, size)
    with torch.device("meta"):
        model = PretrainModel(build_backbone(architecture, size))
    parameters = count_parameters(model)
    gflops = count_gflops(model, px, len(BANDS))
    return {
        "architecture": architecture,
        "size": size,
        "model": chosen.kwargs,
        "px": px,
        "parameters": parameters,
        "gflops_fwd": gflops.forward,
        "gflops_bwd": gflops.backward,
        "gflops_scan_fwd": gflops.scan_forward,
        "gflops_train": gflops.forward + gflops.backward,
        "activation_bytes": {
            "float32": activation_bytes(model, px),
            "bfloat16": activation_bytes(model, px, dtype=torch.bfloat16),
        },
        "published": _published(architecture, size, px, parameters, gflops.forward - gflops.scan_forward),
        "measured": _measured(architecture, size, px, measurement),
    }


def rungs() -> list[tuple[str, str]]:
    """All (architecture, size) of the ladder."""
    return [(name, size) for name, entry in ARCHITECTURES.items() for size in entry.rungs]


def _published(
    architecture: str, size: str, px: int, parameters: dict[str, int], gflops_fwd: float
) -> dict[str, Any] | None:
    reference = PUBLISHED.get((architecture, size))
    if reference is None or px != PX:
        return None
    return reference._asdict() | {"misses": misses(architecture, size, parameters, gflops_fwd)}


def _measured(architecture: str, size: str, px: int, how: Measurement | None) -> dict[str, Any] | None:
    if how is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PretrainModel(build_backbone(architecture, size))
    return measure_step(model, px, how.batch, how.steps, how.precision)
