"""Training speed and memory of one model on this device, by doing it: a few steps on random pixels."""

import resource
import sys
import time
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch

from geoladder.data.batches.batch import PretrainBatch, block_masks
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.registry.target import Places
from geoladder.study.pretraining import Objective
from geoladder.training.objective import pretrain_terms
from geoladder.training.trainer import adamw, choose_precision

SKIPPED = 2
"""Steps that are not timed: kernels are chosen and memory is first touched."""


class Measurement(NamedTuple):
    """How to measure: images a step, and timed steps, whose median counts."""

    batch: int
    steps: int = 5


def measure_step(architecture: str, size: str, px: int, how: Measurement) -> dict[str, Any]:
    """Pretrain a rung for a few steps on the GPU if there is one, else on the CPU, in the number format of `auto`.

    Args:
        architecture: of the rung.
        size: of the rung.
        px: side of the images.
        how: to measure.

    Returns:
        device, threads, batch, precision, samples_per_second (median), seconds_per_step (median) and
        peak_memory_mb (1e6 bytes): on a GPU what torch allocated, on a CPU what the process grew by.

    Raises:
        GeoladderError: not enough memory.
    """
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    number_format = choose_precision("auto").name
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PretrainModel(build_backbone(architecture, size))
    before = _peak_bytes(kind)
    seconds = []
    try:
        model.to(kind)
        optimizer = adamw(model, 1e-4, 0.0)
        images = _batch(px, how.batch, kind)
        for _ in range(SKIPPED + how.steps):
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
            f"a batch of {how.batch} images of {px} px does not fit into the memory of this {kind} ({problem}); "
            "take a smaller --batch"
        ) from None
    step = median(seconds[SKIPPED:])
    return {
        "device": torch.cuda.get_device_name() if kind == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "batch": how.batch,
        "precision": number_format,
        "seconds_per_step": step,
        "samples_per_second": how.batch / step,
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
