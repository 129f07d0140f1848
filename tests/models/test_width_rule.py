"""Coordinate check of the width rule: activations and what updates change in them stay put as rungs widen."""

from functools import cache

import pytest
import torch
from torch.nn.functional import interpolate

from geoladder.data.batches.batch import PretrainBatch, block_masks
from geoladder.models.architectures import mamba_upernet, unet, vit_upernet
from geoladder.models.build import PretrainModel, build_from
from geoladder.registry import ARCHITECTURES
from geoladder.registry.ladder import Rung, scaled_lr
from geoladder.study.pretraining import Objective
from geoladder.training.objective import pretrain_terms
from geoladder.training.trainer import adamw

WIDTHS = {"unet": (8, 32, 128), "vit_upernet": (16, 64, 256), "mamba_upernet": (16, 64, 256)}
FAMILIES = tuple(WIDTHS)
DIALS = {"unet": unet.dial, "vit_upernet": vit_upernet.dial, "mamba_upernet": mamba_upernet.dial}
LINEAR = 0.1
"""Share of the study rate: small enough that norms do not hide how far weights have moved."""
STEPS = 4
SEEDS = (0, 1)


def batch():
    generator = torch.Generator().manual_seed(0)
    pixels = 1.3 * interpolate(torch.randn(8, 10, 8, 8, generator=generator), size=32, mode="bilinear")
    mask = block_masks(8, 32, 32, 4, 0.6, generator)
    places = torch.rand(8, 4, generator=generator)
    climate = torch.randint(31, (8,), generator=generator)
    return PretrainBatch(pixels, mask, {"geo": places, "climate": climate})


def rms(tensor):
    return float(tensor.square().mean().sqrt())


@cache
def sizes(architecture, width, scaled=True):
    """Root mean squares: dense features and summary at the start, their change after 1 and after 4 steps."""
    data, rows = batch(), []
    for seed in SEEDS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            chosen = Rung(architecture, "any", width, DIALS[architecture](width))
            model = PretrainModel(build_from(architecture, chosen.kwargs))
        lr = ARCHITECTURES[architecture].pretrain_lr * LINEAR
        optimizer = adamw(model, scaled_lr(lr, chosen) if scaled else lr, 0.05)
        with torch.no_grad():
            first = model.backbone(data.pixels, data.mask)
        row = [*map(rms, first)]
        for step in range(1, STEPS + 1):
            pretrain_terms(model(data.pixels, data.mask), data, Objective()).total(Objective()).backward()
            optimizer.step()
            optimizer.zero_grad()
            if step in (1, STEPS):
                with torch.no_grad():
                    now = model.backbone(data.pixels, data.mask)
                row += [rms(new - old) for new, old in zip(now, first, strict=True)]
        rows.append(row)
    return torch.tensor(rows).mean(0)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_activations_and_their_changes_stay_put(architecture):
    table = torch.stack([sizes(architecture, width) for width in WIDTHS[architecture]])
    ratios = (table.amax(0) / table.amin(0)).tolist()
    assert max(ratios[:2]) < 1.25, f"activations at the start, widest over narrowest: {ratios[:2]}"
    assert max(ratios[2:]) < 2.0, f"their change after 1 and {STEPS} steps: {ratios[2:]}"


@pytest.mark.parametrize("architecture", FAMILIES)
def test_without_the_rule_the_changes_grow_with_width(architecture):
    """The check can fail: at one rate for all widths the widest moves twice as far or more."""
    narrow, _, wide = WIDTHS[architecture]
    assert ARCHITECTURES[architecture].base_width < wide
    unscaled = sizes(architecture, wide, scaled=False)[2] / sizes(architecture, narrow, scaled=False)[2]
    scaled = sizes(architecture, wide)[2] / sizes(architecture, narrow)[2]
    assert unscaled > 2 * scaled
