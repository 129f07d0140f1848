"""What a pretraining run says of itself: facts in `metrics.json`, and the card `model.json` beside the weights."""

from typing import Any

from torch import nn

from geoladder.cost.flops import count_gflops
from geoladder.cost.params import count_parameters
from geoladder.data.bands import BANDS
from geoladder.data.stats import BandStats
from geoladder.provenance import birth_certificate
from geoladder.specs import PretrainSpec
from geoladder.training.stream import Chips
from geoladder.training.tile_stream import TileCrops


def facts_of(spec: PretrainSpec, model: nn.Module, chips: Chips | TileCrops, steps: int) -> dict[str, Any]:
    """What every result says of the run: identity, sizes, data and compute.

    Args:
        spec: the run.
        model: with its heads, and whole.
        chips: what it was trained on.
        steps: optimiser steps.
    """
    samples = steps * spec.batch
    gflops = count_gflops(model, chips.side_px)
    return {
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": birth_certificate(spec),
        "parameters": count_parameters(model),
        "steps": steps,
        "samples_seen": samples,
        **chips.facts(samples),
        "gflops_fwd": gflops.forward,
        "gflops_train": (gflops.forward + gflops.backward) * samples,
        "lr": spec.lr,
    }


def card_of(spec: PretrainSpec, stats: BandStats) -> dict[str, Any]:
    """What one must know to use the weights."""
    return {
        "architecture": spec.architecture,
        "size": spec.size,
        "model": spec.model,
        "bands": list(BANDS),
        "transform": spec.transform,
        "statistics": stats.as_dict(),
        "objective": spec.objective.model_dump(mode="json"),
    }
