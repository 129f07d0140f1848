"""The loop of fine-tuning: from a model and patches to the best state, on one device or several, with resumption.

Unusual: the best state by validation loss is kept as a copy and truly restored (a `state_dict()` alone is a view of
weights that training goes on changing). The model before its first step, which predicts the training mean, is one of
the states. The rate and the end of a run are functions of the step and of its validations, so a checkpoint holds no
more than weights, moments and the validations so far, and a resumed run has the same numbers, bit for bit.
"""

import copy
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from geoladder.errors import GeoladderError
from geoladder.models.build import FinetuneModel
from geoladder.study.downstream_specs import FinetuneSpec
from geoladder.training.augmentation import Augmentation
from geoladder.training.checkpoints import Progress, load_progress, newest_checkpoint, save_progress
from geoladder.training.criterion import Criterion
from geoladder.training.job import Hardware
from geoladder.training.patches import Patches, patch_batches
from geoladder.training.ranks import SIGTERM_STATUS, sigterm_noted
from geoladder.training.schedules import Schedule
from geoladder.training.settling import Curve, best_of, must_end
from geoladder.training.starting_model import start_training
from geoladder.training.trainer import adamw, place, update

log = logging.getLogger(__name__)

EVALUATION_BATCH = 64
SAVE_EVERY_S = 60.0
"""Seconds of training between two checkpoints; when one is written changes no number."""
BETAS = (0.9, 0.999)


class Diverged(GeoladderError):
    """A loss is not a number any more."""


class Tuning:
    """One model in training, on the devices of this rank.

    Every rank takes its share of each batch and of the validation patches, and judges the same losses.
    """

    def __init__(
        self,
        model: FinetuneModel,
        spec: FinetuneSpec,
        criterion: Criterion,
        augmentation: Augmentation,
        hardware: Hardware,
    ) -> None:
        self.model, self.criterion, self._spec = model, criterion, spec
        self._augmentation, self._micro_batch = augmentation, hardware.micro_batch
        self.fabric, self._forward = place(model, spec.precision, hardware, partial_use=True)
        self._patches = 0
        self._optimizer = adamw(model, spec.lr, spec.weight_decay, BETAS, spec.adam_eps)

    def train(self, train: Patches, val: Patches, state: Path | None = None) -> Curve:
        """Train until the run has settled, or for all its steps; leave the best state in the model.

        The model is in evaluation mode then. Goes on from the newest checkpoint in the folder `state`, and writes
        them there; None: neither.

        Returns:
            The validations.

        Raises:
            Diverged: a loss that is not a number.
            SystemExit: after SIGTERM, with the step reached saved.
        """
        self._patches = len(train)
        length = self._spec.length(self._patches)
        schedule = Schedule(self._spec, self._spec.lr, length.ceiling, self._patches)
        progress = self._resume(state) or Progress(0, [self._validation(0, val)], self._copy())
        curve, best, saved_s = progress.rows, progress.best, time.monotonic()
        batches = self._batches(train, progress.step)
        start_training(self.model, self._spec.mode)
        with sigterm_noted() as sigterm:
            for step in range(progress.step + 1, length.ceiling + 1):
                lr = schedule.rate(step - 1, curve)
                train_loss = self._step(step, lr, *next(batches))
                if step in length.validated:
                    curve.append(self._validation(step, val) | {"train_loss": train_loss, "lr": lr})
                    if best_of(curve) is curve[-1]:
                        best = self._copy()
                    if must_end(curve, self._spec):
                        break
                    start_training(self.model, self._spec.mode)
                must_stop = self._over_ranks(len(sigterm)) > 0
                if state and (must_stop or self._over_ranks(time.monotonic() - saved_s > SAVE_EVERY_S)):
                    save_progress(state, step, self.model, self._optimizer, curve, best)
                    saved_s = time.monotonic()
                if must_stop:
                    log.info("stopped by SIGTERM after step %d", step)
                    raise SystemExit(SIGTERM_STATUS)
        self.model.load_state_dict(best)
        self.model.eval()
        return curve

    def _resume(self, state: Path | None) -> Progress | None:
        checkpoint = newest_checkpoint(state) if state else None
        if checkpoint is None:
            return None
        if self.fabric.is_global_zero:
            log.info("resuming from %s", checkpoint)
        return load_progress(checkpoint, self.model, self._optimizer)

    def _copy(self) -> dict[str, Tensor]:
        return copy.deepcopy(self.model.state_dict())

    def _batches(self, train: Patches, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        rank = slice(self.fabric.global_rank, None, self.fabric.world_size)
        return patch_batches(train, self._spec.batch, self._augmentation, first, rank)

    def _step(self, step: int, lr: float, pixels: Tensor, labels: Tensor) -> float:
        """One optimiser step on this rank's share of a batch; return the loss of the whole batch before it."""
        size = self._micro_batch or len(pixels)
        parts = list(zip(pixels.split(size), labels.split(size), strict=True))
        weights = [self.criterion.weight(part) for _, part in parts]
        whole = self._over_ranks(sum(weights)) or 1.0
        total = 0.0
        for number, ((x, y), weight) in enumerate(zip(parts, weights, strict=True), start=1):
            with self.fabric.no_backward_sync(self._forward, enabled=number < len(parts)):
                outputs = self._forward(x.to(self.fabric.device)).float()
                loss = self.criterion.loss(outputs, y.to(self.fabric.device)) * (weight / whole)
                # Gradients of ranks are averaged, and these are shares of a sum.
                self.fabric.backward(loss * self.fabric.world_size)
            total += float(loss.detach())
        train_loss = self._finite(self._over_ranks(total), "loss", step - 1)
        update(self.model, self._optimizer, lr, self._spec.gradient_clip)
        return train_loss

    def _validation(self, step: int, val: Patches) -> dict[str, float]:
        """Validation loss of the model as it is after a step, over all validation patches."""
        total = weight = 0.0
        for part in evaluation_parts(len(val), self.fabric.global_rank, self.fabric.world_size):
            labels = val.labels[part]
            share = self.criterion.weight(labels)
            total += float(self.criterion.loss(outputs_of(self.model, val.pixels(part)), labels)) * share
            weight += share
        loss = self._over_ranks(total) / (self._over_ranks(weight) or 1.0)
        return {"step": step, "val_loss": self._finite(loss, "validation loss", step)}

    def _over_ranks(self, value: float) -> float:
        """Sum of the values that all ranks have; they must ask together."""
        if self.fabric.world_size == 1:  # without waiting for the device
            return value
        here = torch.tensor(float(value), dtype=torch.float64, device=self.fabric.device)
        return float(self.fabric.strategy.all_reduce(here, reduce_op="sum"))

    def _finite(self, value: float, name: str, step: int) -> float:
        if math.isfinite(value):
            return value
        spec, ceiling = self._spec, self._spec.length(self._patches).ceiling
        raise Diverged(
            f"the {name} of {spec.architecture}-{spec.size} from {spec.corpus} on {spec.task} (n={spec.n}, seed "
            f"{spec.seed}) became {value} at step {step} of {ceiling}; lower finetune.lr.{spec.architecture} (here "
            f"{spec.lr:.3g}), or have it chosen: finetune.lr.choose"
        )


def evaluation_parts(patches: int, rank: int = 0, ranks: int = 1) -> list[slice]:
    """Places of the patches that this rank evaluates, in parts small enough for a forward pass."""
    starts = range(rank * EVALUATION_BATCH, patches, ranks * EVALUATION_BATCH)
    return [slice(start, start + EVALUATION_BATCH) for start in starts]


def outputs_of(model: nn.Module, pixels: Tensor) -> Tensor:
    """Outputs (N, outputs, P, P) float32 on the CPU; leaves the model in evaluation mode."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        parts = [model(pixels[part].to(device)).float().cpu() for part in evaluation_parts(len(pixels))]
    return torch.cat(parts)
