"""What one rung of the ladder costs: parameters by part, FLOPs, memory, and if asked its speed on this device.

All but the speed is counted on the `meta` device, so the largest rung takes a second and no memory.
"""

import resource
import sys
import time
from statistics import median
from typing import Any

import numpy as np
import torch

from geoladder.cost.published import PUBLISHED, PX, misses
from geoladder.counting import activation_bytes, count_gflops, count_parameters
from geoladder.data.batches.batch import PretrainBatch, seeded_masks, truth_of
from geoladder.data.labels.bands import BANDS
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.registry import ARCHITECTURES
from geoladder.registry.ladder import rung
from geoladder.registry.target import Places
from geoladder.study.pretraining import Objective
from geoladder.training.job import Hardware
from geoladder.training.memory import memory_for
from geoladder.training.objective import pretrain_terms
from geoladder.training.trainer import adamw, choose_precision, place, update

LR = 1e-4
DEFAULT_HARDWARE = Hardware()
SKIPPED = 2
"""Steps that are not timed: kernels are chosen and memory is first touched."""


def profile(
    architecture: str, size: str, px: int = PX, measure: int | None = None, steps: int = 5
) -> dict[str, Any]:
    """Cost of pretraining one rung, for one image of `px` x `px` pixels unless said otherwise.

    With `measure`, its speed is measured, too: by `steps` timed steps of so many images, whose median counts.

    Returns:
        JSON-able: `architecture`, `size`, `model` (constructor arguments), `px`, `parameters` (by part, of the model
        with pretraining heads), `gflops_fwd`, `gflops_bwd`, `gflops_scan_fwd` (of the first), `gflops_train` (of a
        training sample), `activation_bytes` by number format, `published` (of the paper's models, at 128 px) with
        `misses`, and `measured` (None unless asked).

    Raises:
        GeoladderError: unknown rung, an image size it cannot take, or too little memory to measure.
    """
    kwargs = rung(architecture, size).kwargs
    with torch.device("meta"):
        model = PretrainModel(build_backbone(architecture, size))
    parameters = count_parameters(model)
    forward, backward, scan = count_gflops(model, px, len(BANDS))
    published = PUBLISHED.get((architecture, size)) if px == PX else None
    return {
        "architecture": architecture,
        "size": size,
        "model": kwargs,
        "px": px,
        "parameters": parameters,
        "gflops_fwd": forward,
        "gflops_bwd": backward,
        "gflops_scan_fwd": scan,
        "gflops_train": forward + backward,
        "activation_bytes": {
            "float32": activation_bytes(model, px),
            "bfloat16": activation_bytes(model, px, dtype=torch.bfloat16),
        },
        "published": published
        and published._asdict() | {"misses": misses(architecture, size, parameters, forward - scan)},
        "measured": measure_step(architecture, size, px, measure, steps) if measure else None,
    }


def rungs() -> list[tuple[str, str]]:
    """All (architecture, size) of the ladder."""
    return [(name, size) for name, entry in ARCHITECTURES.items() for size in entry.rungs]


def measure_step(
    architecture: str,
    size: str,
    px: int,
    batch: int,
    steps: int,
    hardware: Hardware = DEFAULT_HARDWARE,
    channels_last: bool = True,
) -> dict[str, Any]:
    """Pretrain a rung for a few steps as the trainer does, on the GPU if there is one, its number format `auto`.

    Convolution weights are channels-last in memory unless told otherwise.

    Returns:
        device, threads, batch, precision, samples_per_second (median of `steps`), seconds_per_step (median) and
        peak_memory_mb (1e6 bytes): on a GPU what torch allocated, on a CPU what the process grew by.

    Raises:
        GeoladderError: not enough memory, no compiler, or no blocks to recompute or compile.
    """
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PretrainModel(build_backbone(architecture, size))
    if not channels_last:
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = _peak_bytes(kind)
    seconds = []
    with memory_for(
        f"a batch of {batch} images of {px} px of {architecture}-{size}", "take a smaller --batch"
    ):
        fabric, forward = place(model, "auto", hardware)
        optimizer = adamw(model, LR, 0.0)
        images = _images(px, batch).to(fabric.device)
        for _ in range(SKIPPED + steps):
            start = time.perf_counter()
            terms = pretrain_terms(forward(images.pixels, images.mask), images, Objective())
            fabric.backward(terms.total(Objective()))
            update(model, optimizer, LR, largest_norm=1.0)
            if kind == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    step = median(seconds[SKIPPED:])
    return {
        "device": torch.cuda.get_device_name() if kind == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "batch": batch,
        "precision": choose_precision("auto").name,
        "seconds_per_step": step,
        "samples_per_second": batch / step,
        "peak_memory_mb": (_peak_bytes(kind) - before) / 1e6,
    }


def _images(px: int, batch: int) -> PretrainBatch:
    """Random pixels, of one place."""
    objective = Objective()
    places = Places(np.zeros(batch), np.zeros(batch), np.zeros(batch, np.int64))
    pixels = torch.randn(batch, len(BANDS), px, px, generator=torch.Generator().manual_seed(0))
    return PretrainBatch(pixels, seeded_masks(batch, px, objective, [0]), truth_of(objective, places))


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
