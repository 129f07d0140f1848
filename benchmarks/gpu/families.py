"""Training of every family on the device against float64 on the CPU: one step's gradients, and twenty steps' losses.

Models are reduced in width, not in kind, so that the CPU keeps up; weights, batches and learning rate are the same.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from benchmarks.gpu.check import REDUCED, Check, Row, at_most, left_out, reduced_model, synthetic_batch

from geoladder.data.batches.batch import PretrainBatch
from geoladder.models.build import PretrainModel
from geoladder.study.pretraining import Objective
from geoladder.training.job import Hardware
from geoladder.training.objective import pretrain_terms
from geoladder.training.trainer import adamw, place

LR = 1e-4
LIMITS = {"32-true": 1e-4, "bf16-mixed": 2e-2}
"""Largest difference of a loss, as a share of it."""
GRADIENT_LIMITS = {"32-true": 1e-3, "bf16-mixed": 0.2}
"""Largest difference of the gradient of all weights together, as a share of its norm."""


def families(check: Check) -> Iterator[Row]:
    """Parity of the first step's gradient and of the losses of twenty steps, in float32 and bf16."""
    steps, samples = check.sized(20, 2), check.sized(4, 2)
    for name, (_, px, _) in REDUCED.items():
        if check.out_of_time():
            yield left_out(name, "", "out of time")
            continue
        batches = [synthetic_batch(samples, px, seed) for seed in range(steps)]
        exact_losses, exact_gradient = exact(reduced_model(name), batches)
        for precision, limit in LIMITS.items():
            losses, gradient = train(reduced_model(name), batches, precision)
            error = float((gradient - exact_gradient).norm() / exact_gradient.norm())
            yield at_most(
                GRADIENT_LIMITS[precision],
                name,
                precision,
                "first gradient against float64 on the CPU",
                error,
                "1",
            )
            error = max(
                abs(ours / exact_loss - 1) for ours, exact_loss in zip(losses, exact_losses, strict=True)
            )
            yield at_most(
                limit, name, precision, f"loss over {steps} steps against float64 on the CPU", error, "1"
            )


def exact(model: PretrainModel, batches: list[PretrainBatch]) -> tuple[list[float], torch.Tensor]:
    """As `train`, in float64 on the CPU by bare torch."""
    doubled = [batch._replace(pixels=batch.pixels.double()) for batch in batches]
    return steps_of(model, model.double(), torch.Tensor.backward, doubled)


def train(
    model: PretrainModel, batches: list[PretrainBatch], precision: str
) -> tuple[list[float], torch.Tensor]:
    """Losses of the steps, and the first gradient of all weights, (parameters,) float64, on the device."""
    fabric, forward = place(model, precision, Hardware())
    return steps_of(model, forward, fabric.backward, [batch.to(fabric.device) for batch in batches])


def steps_of(
    model: PretrainModel, forward: Any, backward: Callable[[torch.Tensor], None], batches: list[PretrainBatch]
) -> tuple[list[float], torch.Tensor]:
    """Train on each batch once."""
    objective, optimizer = Objective(), adamw(model, LR, 0.05)
    losses, first = [], torch.empty(0)
    for batch in batches:
        loss = pretrain_terms(forward(batch.pixels, batch.mask), batch, objective).total(objective)
        optimizer.zero_grad()
        backward(loss)
        if not losses:
            gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
            first = torch.cat(gradients).double().cpu()
        losses.append(float(loss.detach()))
        optimizer.step()
    return losses, first
