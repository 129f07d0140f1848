"""What one rung of the ladder costs: parameters by part, FLOPs, memory, and if asked its speed on this device.

All but the speed is counted on the `meta` device, so the largest rung takes a second and no memory.
"""

from typing import Any

import torch

from geoladder.cost.measure import Measurement, measure_step
from geoladder.cost.memory import activation_bytes
from geoladder.cost.published import PUBLISHED, PX, misses
from geoladder.counting import count_gflops, count_parameters
from geoladder.data.labels.bands import BANDS
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.registry import ARCHITECTURES
from geoladder.registry.ladder import rung


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
    published = PUBLISHED.get((architecture, size)) if px == PX else None
    without_scans = gflops.forward - gflops.scan_forward
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
        "published": published
        and published._asdict() | {"misses": misses(architecture, size, parameters, without_scans)},
        "measured": measurement and measure_step(architecture, size, px, measurement),
    }


def rungs() -> list[tuple[str, str]]:
    """All (architecture, size) of the ladder."""
    return [(name, size) for name, entry in ARCHITECTURES.items() for size in entry.rungs]
