"""What a pretraining run says of itself: facts in `metrics.json`, and the card `model.json` beside the weights."""

from typing import Any

from torch import nn

from geoladder.counting.flops import count_gflops
from geoladder.counting.params import count_parameters
from geoladder.data.batches.batch import Source
from geoladder.data.batches.stats import BandStats
from geoladder.data.labels.bands import BANDS
from geoladder.runs.code import code_fingerprint
from geoladder.runs.provenance import birth_certificate
from geoladder.study.specs import PretrainSpec


def facts_of(spec: PretrainSpec, model: nn.Module, source: Source, steps: int) -> dict[str, Any]:
    """What every result says of the run: identity, sizes, data and compute.

    Args:
        spec: the run.
        model: with its heads, and whole.
        source: what it was trained on.
        steps: optimiser steps.
    """
    samples = steps * spec.batch
    gflops = count_gflops(model, source.side_px)
    return {
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": birth_certificate(spec.fingerprint, code_fingerprint("pretrain", spec.architecture)),
        "parameters": count_parameters(model),
        "steps": steps,
        "samples_seen": samples,
        **source.facts(samples),
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
