"""Pretraining as Lightning wants it: the model, its objective, one optimiser step, and its journal.

Unusual: it optimises by hand. One training step is one optimiser step, however many passes over micro-batches it
takes, so that a checkpoint or a signal never comes between two of them, and every rank judges the same loss.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from geoladder.data.batches.batch import PretrainBatch, Source
from geoladder.errors import GeoladderError
from geoladder.models.heads import PretrainModel
from geoladder.models.ladder import build_backbone
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
from geoladder.training.journal import Journal
from geoladder.training.losses import PretrainTerms, pretrain_terms
from geoladder.training.resume import number_by_name
from geoladder.training.schedule import adamw, per_step


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
        objective, values = self.spec.objective, []
        for number, part in enumerate(batch.chunk(self._passes), start=1):
            with gradients_stay(self.trainer.strategy.model, self.model, stay=number < self._passes):
                output = self.model(part.pixels, part.mask)
                terms = pretrain_terms(output, part, objective)
                with torch.autocast(self.device.type, enabled=False):  # it is for forward passes only
                    self.manual_backward(terms.total(objective) / self._passes)
            values.append(terms.stacked().detach())
        return terms.with_values(torch.stack(values).mean(0))

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


class PretrainJournal(Journal):
    """Probes a whole copy of a model whose weights are shared out, since rank 0 alone cannot run that."""

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Mapping[str, Any] | Any,  # noqa: ANN401  (Lightning's own signature)
        batch: object,
        batch_idx: int,
    ) -> None:
        """Lightning calls this after every step, on all ranks."""
        assert isinstance(pl_module, PretrainModule)
        if trainer.global_step in self._probes and is_sharded(pl_module.model):
            whole = nn.ModuleDict({"model": pl_module.whole_model()})
            pl_module = cast(lightning.LightningModule, whole)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def _new_model(spec: PretrainSpec) -> PretrainModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        backbone = build_backbone(spec.architecture, spec.size)
        return PretrainModel(backbone, fill=spec.objective.fill, head_sizes=spec.objective.head_sizes)
