"""Training speed and memory of one model on this device, by doing it: a few steps on random pixels."""

import resource
import sys
import time
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from geoladder.data.batches.batch import PretrainBatch, block_masks
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.registry.target import Places
from geoladder.study.pretraining import Objective
from geoladder.training.objective import pretrain_terms
from geoladder.training.optimisation import adamw
from geoladder.training.trainer import Precision, choose_precision

SKIPPED = 2
"""Steps that are not timed: kernels are chosen and memory is first touched."""


def measure_step(model: nn.Module, px: int, batch: int, steps: int, precision: Precision) -> dict[str, Any]:
    """Train `model` (a PretrainModel on the CPU) for a few steps on the GPU if there is one, else on the CPU.

    Args:
        model: its weights change.
        px: side of the images.
        batch: images a step.
        steps: timed; the median counts.
        precision: as in the study.

    Returns:
        device, threads, batch, precision, samples_per_second (median), seconds_per_step (median) and
        peak_memory_mb (1e6 bytes): on a GPU what torch allocated, on a CPU what the process grew by.

    Raises:
        GeoladderError: not enough memory.
    """
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    number_format = choose_precision(precision).name
    before = _peak_bytes(kind)
    seconds = []
    try:
        model.to(kind)
        optimizer = adamw(model, 1e-4, 0.0)
        images = _batch(px, batch, kind)
        for _ in range(SKIPPED + steps):
            start = time.perf_counter()
            with torch.autocast(kind, torch.bfloat16, enabled=number_format == "bf16-mixed"):
                terms = pretrain_terms(model(images.pixels, images.mask), images, Objective())
                terms.total(Objective()).backward()
            optimizer.step()
            optimizer.zero_grad()
            if kind == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    except (torch.OutOfMemoryError, MemoryError) as problem:
        raise GeoladderError(
            f"a batch of {batch} images of {px} px does not fit into the memory of this {kind} ({problem}); "
            "take a smaller --batch"
        ) from None
    step = median(seconds[SKIPPED:])
    return {
        "device": torch.cuda.get_device_name() if kind == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "batch": batch,
        "precision": number_format,
        "seconds_per_step": step,
        "samples_per_second": batch / step,
        "peak_memory_mb": (_peak_bytes(kind) - before) / 1e6,
    }


def _batch(px: int, batch: int, device: str) -> PretrainBatch:
    objective, generator = Objective(), torch.Generator().manual_seed(0)
    blocks = block_masks(batch, px, px, objective.mask_block_px, objective.mask_ratio, generator)
    pixels = torch.randn(batch, len(BANDS), px, px, generator=generator)
    places = Places(np.zeros(batch), np.zeros(batch), np.zeros(batch, np.int64))
    targets = {
        name: torch.from_numpy(use.entry.encode(use.settings, places))
        for name, use in objective.targets.items()
    }
    return PretrainBatch(pixels, blocks, targets).to(device)


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
