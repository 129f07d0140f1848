"""Pretraining as Lightning wants it: the model, its objective, one optimiser step, and its journal.

Unusual: it optimises by hand. One training step is one optimiser step, however many passes over micro-batches it
takes, so that a checkpoint or a signal never comes between two of them, and every rank judges the same loss. Rows of
the journal travel inside checkpoints, so that a resumed run neither loses nor repeats one, which Lightning's own
CSVLogger cannot promise.
"""

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.optim.lr_scheduler import LambdaLR

from geoladder.data.batches.batch import PretrainBatch, Source
from geoladder.data.batches.chip_store import Chips
from geoladder.errors import GeoladderError
from geoladder.models.heads import PretrainModel
from geoladder.models.ladder import build_backbone
from geoladder.runs.atomic import atomic_path
from geoladder.study.pretraining import Objective
from geoladder.study.specs import PretrainSpec
from geoladder.training.distributed import (
    checkpoint_blocks,
    compile_blocks,
    gradients_stay,
    is_sharded,
    mean_over_ranks,
    shard,
    whole_weights,
)
from geoladder.training.losses import PretrainTerms, pretrain_terms
from geoladder.training.optimisation import adamw, per_step
from geoladder.training.trainer import number_by_name
from geoladder.training.validate import validate

ROWS = 100
PROBES = 4
PROBED_SHARE = 4
"""A probe looks at one in so many validation chips."""
WRITE_EVERY_S = 5.0


class PretrainModule(lightning.LightningModule):
    """The model and its objective."""

    def __init__(
        self,
        spec: PretrainSpec,
        source: Source,
        passes: int = 1,
        activation_checkpointing: bool = False,
        compile_model: bool = False,
    ) -> None:
        """Build the model from the spec's seed, leaving global random state as it was."""
        super().__init__()
        self.automatic_optimization = False
        self.spec, self._source, self._passes = spec, source, passes
        self.steps = math.ceil(spec.samples / spec.batch)
        self.model = _new_model(spec)
        if activation_checkpointing:
            checkpoint_blocks(self.model)
        if compile_model:
            compile_blocks(self.model)
        self._last_finite = math.nan

    def configure_model(self) -> None:
        """Share out the weights, where the strategy is to do so."""
        if isinstance(self.trainer.strategy, ModelParallelStrategy) and not is_sharded(self.model):
            assert self.device_mesh is not None
            shard(self.model, self.device_mesh["data_parallel"])

    def whole_model(self) -> PretrainModel:
        """The model; where its weights are shared out, a copy, filled on rank 0, that all ranks must ask for."""
        if not is_sharded(self.model):
            return self.model
        copy, weights = _new_model(self.spec), whole_weights(self.model)
        if weights:
            copy.load_state_dict(weights)
        return copy.to(self.device)

    def train_dataloader(self) -> Iterator[PretrainBatch]:
        """Batches from the step this run has reached."""
        trainer = self.trainer
        return self._source.batches(self.global_step, trainer.global_rank, trainer.world_size)

    def configure_optimizers(self) -> Any:  # noqa: ANN401  (Lightning's own union type)
        """AdamW with a warmed-up cosine per step."""
        optimizer = adamw(self.model, self.spec.lr, self.spec.weight_decay)
        return per_step(optimizer, self.steps, self.spec.warmup_share)

    def training_step(self, batch: PretrainBatch, _: int) -> dict[str, Any]:
        """One optimiser step; its loss, terms (means over all devices) and learning rate.

        Raises:
            GeoladderError: the loss is not finite; on all ranks.
        """
        optimizer = cast(LightningOptimizer, self.optimizers())
        optimizer.zero_grad()
        terms = self._gradients(batch)
        pooled = terms.with_values(mean_over_ranks(terms.stacked()))
        loss = pooled.total(self.spec.objective)
        self._last_finite = self.check_finite(float(loss), "loss")
        lr = optimizer.param_groups[0]["lr"]
        optimizer.step()
        cast(LambdaLR, self.lr_schedulers()).step()
        return {"loss": loss, "terms": pooled, "lr": lr}

    def _gradients(self, batch: PretrainBatch) -> PretrainTerms:
        """Add up gradients of this device's share of a batch, pass by pass; return the terms' means over it.

        Every chip hides as many pixels and all passes take as many chips, so means of means are means over all.
        """
        objective, pass_terms = self.spec.objective, []
        for number, part in enumerate(batch.chunk(self._passes), start=1):
            with gradients_stay(self.trainer.strategy.model, self.model, stay=number < self._passes):
                output = self.model(part.pixels, part.mask)
                terms = pretrain_terms(output, part, objective)
                with torch.autocast(self.device.type, enabled=False):  # it is for forward passes only
                    self.manual_backward(terms.total(objective) / self._passes)
            pass_terms.append(terms.stacked().detach())
        return terms.with_values(torch.stack(pass_terms).mean(0))

    def check_finite(self, value: float, name: str) -> float:
        """Return the value of the loss called `name`; raise GeoladderError when it is not finite."""
        if math.isfinite(value):
            return value
        cell = f"{self.spec.architecture}-{self.spec.size}"
        raise GeoladderError(
            f"the {name} of {cell} on {self.spec.corpus} (seed {self.spec.seed}) became {value} at step "
            f"{self.global_step} of {self.steps} (last finite loss {self._last_finite:.4g}); lower "
            f"pretrain.rungs.{cell}.lr below {self.spec.lr:.3g}, or look for bad pixels with `geoladder inspect`"
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning calls this before it saves."""
        if not is_sharded(self.model):
            number_by_name(checkpoint["optimizer_states"][0], self.trainer.optimizers[0], self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning calls this before it resumes; raises GeoladderError where steps were counted in another way."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.manual_optimization.optim_step_progress"]
        if progress["total"]["completed"] != checkpoint["global_step"]:
            raise GeoladderError(
                f"the checkpoint of step {checkpoint['global_step']} was written by an older version of geoladder; "
                f"delete state/{self.spec.fingerprint} beside the results to train this run from the start"
            )


class Journal(Callback):
    """About a hundred rows, evenly spaced, of step, samples, lr, loss, its terms and samples_per_second.

    Four of them, the probes, also have errors on a part of the validation set, `val_...`. A row describes the state
    after its step: the loss is that of the step's batch before the update. While the run lasts, all rows also stand
    in a file that can be watched.
    """

    def __init__(self, path: Path, steps: int, batch: int, chips: Chips, objective: Objective) -> None:
        """Log into CSV `path` (on rank 0) a run of so many steps, judged on validation set `chips`."""
        self._path, self._batch = path, batch
        self._chips, self._objective = chips, objective
        self._every = max(1, steps // ROWS)
        self._probes = {round(steps * (i + 1) / PROBES) for i in range(PROBES)}
        self._rows: list[dict[str, float]] = []
        self._since = (0, 0.0)
        self._written_s = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock of samples_per_second."""
        self._since = (trainer.global_step, time.perf_counter())

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Mapping[str, Any] | Any,  # noqa: ANN401  (Lightning's own signature)
        batch: object,
        batch_idx: int,
    ) -> None:
        """Lightning calls this after every step, with what `training_step` returned."""
        step = trainer.global_step
        is_probe = step in self._probes
        if not (is_probe or step == 1 or step % self._every == 0):
            return
        row = {
            "step": step,
            "samples": step * self._batch,
            "lr": outputs["lr"],
            "loss": float(outputs["loss"]),
        }
        row |= {name: float(value) for name, value in outputs["terms"].items()}
        row["samples_per_second"] = self._speed(step)
        if is_probe:
            assert isinstance(pl_module, PretrainModule)
            model = pl_module.whole_model()  # on all ranks
            if trainer.is_global_zero:
                row |= validate(model, self._chips, self._objective, len(self._chips) // PROBED_SHARE + 1)
        self._rows.append(row)
        self._since = (step, time.perf_counter())
        if trainer.is_global_zero and time.perf_counter() - self._written_s > WRITE_EVERY_S:
            self.write(self._path)
            self._written_s = time.perf_counter()
        if trainer.logger is not None:
            trainer.logger.log_metrics({k: v for k, v in row.items() if k != "step"}, step=step)

    def _speed(self, step: int) -> float:
        first, start = self._since
        return (step - first) * self._batch / (time.perf_counter() - start)

    def write(self, path: Path) -> None:
        """Write all rows so far as CSV; the file is never half-written."""
        with atomic_path(path) as temporary:
            pd.DataFrame(self._rows).to_csv(temporary, index=False)

    def state_dict(self) -> dict[str, Any]:
        """What Lightning puts into a checkpoint."""
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the log up where a checkpoint left it."""
        self._rows = list(state_dict["rows"])


def _new_model(spec: PretrainSpec) -> PretrainModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        backbone = build_backbone(spec.architecture, spec.size)
        return PretrainModel(backbone, fill=spec.objective.fill, head_sizes=spec.objective.head_sizes)
