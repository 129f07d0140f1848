import math

import pytest
import torch

from geoladder.counting import NORMS
from geoladder.models.build import FinetuneModel, PretrainModel, build_backbone, build_from
from geoladder.registry import ARCHITECTURES
from geoladder.training.trainer import adamw, cosine_with_warmup, update


def test_values_by_hand():
    rate = cosine_with_warmup(10, 0.2)
    assert rate(0) == pytest.approx(1 / 3)
    assert rate(1) == pytest.approx(2 / 3)
    assert rate(2) == 1.0
    assert rate(6) == pytest.approx(0.5)  # half way of the eight steps after warm-up
    assert rate(9) == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))
    assert rate(10) == rate(11) == 0.0


def test_without_warmup_the_first_step_has_the_peak():
    assert cosine_with_warmup(5, 0.0)(0) == 1.0
    assert cosine_with_warmup(1, 0.9)(0) == 1.0


def test_it_rises_then_falls():
    rates = list(map(cosine_with_warmup(200, 0.05), range(200)))
    top = rates.index(max(rates))
    assert top == 10
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@pytest.mark.parametrize("lr", [1.0, 0.25])
def test_a_step_has_its_rate_and_clipped_gradients(lr):
    """Plain gradient descent along a slope of 100, so that a step is what clipping leaves."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=7.0)
    for _ in range(3):
        (-100 * model.weight).sum().backward()
        update(model, optimizer, lr, 0.5)
        assert model.weight.grad is None
    assert float(model.weight.detach()) == pytest.approx(3 * lr * 0.5)


SMALL_GEOAWARE = {"width": 4, "dims": [4] * 5, "depths": [1] * 5, "latent": 8, "image_px": 16}


@pytest.mark.parametrize("architecture", ["unet", "vit_upernet", "mamba_upernet", "geoaware_unet", "pixel"])
def test_only_matrices_and_kernels_decay(architecture):
    kwargs = (
        SMALL_GEOAWARE
        if architecture == "geoaware_unet"
        else next(iter(ARCHITECTURES[architecture].rungs.values()))
    )
    backbone = build_from(architecture, kwargs)
    model = FinetuneModel(backbone, 1) if architecture == "pixel" else PretrainModel(backbone)
    decaying, others = adamw(model, 0.1, 0.05).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    norms = {id(p) for m in model.modules() if isinstance(m, NORMS) for p in m.parameters()}
    layers = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    weights = {id(m.weight) for m in model.modules() if isinstance(m, layers)}
    assert {id(p) for p in decaying["params"]} == weights
    assert norms <= {id(p) for p in others["params"]}
    assert len(decaying["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_frozen_parameters_are_left_out():
    model = FinetuneModel(build_backbone("unet", "xs"), 1)
    model.backbone.requires_grad_(False)
    groups = adamw(model, 0.1, 0.05).param_groups
    assert sum(len(group["params"]) for group in groups) == 2
