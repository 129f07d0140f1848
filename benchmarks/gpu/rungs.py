"""The paper's rungs in training: samples per second, memory and utilisation, beside what the plan expects.

These rows are what `geoladder plan` reads. A rung is measured as the trainer runs it, then with one setting changed.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from benchmarks.gpu.check import Check, Row, left_out

from geoladder.cost.profile import measure_step
from geoladder.cost.published import PUBLISHED, PX
from geoladder.cost.rung_cost import ASSUMED_UTILISATION, PEAK_TFLOPS, RungCost, rung_cost
from geoladder.errors import GeoladderError
from geoladder.training.job import Hardware

SETTINGS: dict[str, dict[str, Any]] = {
    "as trained": {},
    "activation checkpointing": {"hardware": Hardware(activation_checkpointing=True)},
    "contiguous weights": {"channels_last": False},
    "compiled": {"hardware": Hardware(compile=True)},
}
"""Settings of a training step, by what is changed; first what every rung should have, last what takes longest."""
MEMORY_LIMIT = 0.15
"""Largest difference of peak memory to the plan's estimate, as a share of it."""
LEAST_UTILISATION = 0.2
LARGEST_BATCH = 256
DRY_RUNGS = (("unet", "xs"), ("mamba_upernet", "xs"))


def rungs(check: Check) -> Iterator[Row]:
    """Speed, peak memory and utilisation of every rung and setting, while time lasts."""
    ladder = DRY_RUNGS if check.dry else tuple(PUBLISHED)
    px = check.sized(PX, 16)
    for setting, changed in SETTINGS.items():
        if check.dry and setting == "compiled":
            continue  # minutes on a CPU, and tested there elsewhere
        for architecture, size in ladder:
            name = f"{architecture}-{size}"
            if check.out_of_time():
                yield left_out(name, setting, "out of time")
                continue
            cost = rung_cost(architecture, size, px)
            batch = 2 if check.dry else batch_that_fits(cost)
            try:
                measured = measure_step(architecture, size, px, batch, check.sized(10, 1), **changed)
            except GeoladderError as problem:
                yield Row(name, setting, "not measured", None, "", "must run", False, str(problem))
                continue
            yield from rows(check, name, setting, cost, measured)
            torch.compiler.reset()
            torch.cuda.empty_cache()  # does nothing without a card


def batch_that_fits(cost: RungCost) -> int:
    """Images of a step: the largest power of two the plan thinks fits on this card, at most `LARGEST_BATCH`."""
    card_bytes = torch.cuda.get_device_properties(0).total_memory
    return min(LARGEST_BATCH, max(1, cost.largest_batch(card_bytes)))


def rows(check: Check, name: str, setting: str, cost: RungCost, measured: dict) -> Iterator[Row]:
    """Rows of one measured rung; memory and utilisation are judged where it runs as the trainer runs it."""
    as_trained = setting == "as trained"
    setting += f", batch {measured['batch']}, {measured['precision']}"
    speed = measured["samples_per_second"]
    yield Row(name, setting, "samples per second", speed, "1/s")
    if as_trained and not math.isnan(check.peak_tflops):
        expected = ASSUMED_UTILISATION * check.peak_tflops * 1e3 / cost.gflops_train
        yield Row(name, setting, "samples per second the plan assumes", expected, "1/s")
    peak_bytes = measured["peak_memory_mb"] * 1e6
    if check.device == "cuda":
        estimate = cost.step_bytes(measured["batch"])
        yield Row(name, setting, "peak memory", peak_bytes / 1e9, "GB")
        if as_trained:
            ratio = peak_bytes / estimate
            limit, ok = f"1 within {MEMORY_LIMIT:g}", abs(ratio - 1) <= MEMORY_LIMIT
            yield Row(name, setting, "peak memory over the plan's estimate", ratio, "1", limit, ok)
    tflops = cost.gflops_train * speed / 1e3
    yield Row(name, setting, "model rate", tflops, "TFLOP/s")
    if as_trained and math.isnan(check.peak_tflops):
        yield left_out(
            name, setting, "no utilisation: geoladder.cost.rung_cost has no data sheet of this device"
        )
    elif as_trained:
        share = tflops / check.peak_tflops
        limit, ok = f"at least {LEAST_UTILISATION:g}, or a sentence why not", share >= LEAST_UTILISATION
        yield Row(name, setting, "utilisation", share, "1", limit, ok)


def card_of(device_name: str, memory_bytes: float) -> str | None:
    """Name the plan has for a card, `h100-80` for `NVIDIA H100 80GB HBM3`; None where it has none."""
    for card in PEAK_TFLOPS:
        kind, memory_gb = card.split("-")
        if kind.upper() in device_name.upper() and abs(memory_bytes / 1e9 / int(memory_gb) - 1) < 0.15:
            return card
    return None
