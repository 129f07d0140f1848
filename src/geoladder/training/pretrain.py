"""One pretraining run: chips in, `model.safetensors`, `model.json`, `log.csv` and `metrics.json` out.

Every random choice is a function of (seed, step), so a run that was killed continues from its highest checkpoint and
ends with the same numbers, bit for bit, as one that was not. Checkpoints live in `state/<fingerprint>/` beside the
results, where the workflow does not delete them, and go when the run is done.
"""

import logging
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from filelock import SoftFileLease
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from geoladder.counting import count_gflops, count_parameters
from geoladder.data.batches.batch import BandStats, PretrainBatch, Source
from geoladder.data.batches.chip_store import training_chips, validation_chips
from geoladder.data.batches.tile_stream import TileCrops
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.models.build import PretrainModel, build_from
from geoladder.runs.atomic import only_job, write_json
from geoladder.runs.provenance import birth_certificate, code_fingerprint
from geoladder.study.compute import accumulation
from geoladder.study.specs import PretrainSpec
from geoladder.training.checkpoints import save_model
from geoladder.training.distributed import (
    checkpoint_blocks,
    compile_blocks,
    gradients_stay,
    is_sharded,
    mean_over_ranks,
    other_ranks,
    shard,
    whole_weights,
)
from geoladder.training.job import Hardware, Inputs
from geoladder.training.objective import Journal, PretrainTerms, pretrain_terms, validate
from geoladder.training.optimisation import adamw, per_step
from geoladder.training.trainer import Saver, fit, make_trainer, newest_checkpoint, number_by_name

log = logging.getLogger(__name__)


class PretrainModule(lightning.LightningModule):
    """Pretraining as Lightning wants it: the model, its objective, and one optimiser step.

    Unusual: it optimises by hand. One training step is one optimiser step, however many passes over micro-batches it
    takes, so that a checkpoint or a signal never comes between two of them, and every rank judges the same loss.
    """

    def __init__(self, spec: PretrainSpec, source: Source, passes: int, hardware: Hardware) -> None:
        """Build the model from the spec's seed, leaving global random state as it was.

        A device takes its share of a batch in so many `passes`.
        """
        super().__init__()
        self.automatic_optimization = False
        self.spec, self._source, self._passes = spec, source, passes
        self.steps = math.ceil(spec.samples / spec.batch)
        self.model = _new_model(spec)
        if hardware.activation_checkpointing:
            checkpoint_blocks(self.model)
        if hardware.compile_model:
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


def pretrain(
    spec: PretrainSpec, inputs: Inputs, hardware: Hardware, out: Path, progress: bool = True
) -> None:
    """Train one cell, or what is left of it after an interruption.

    Args:
        spec: the run.
        inputs: what it reads.
        hardware: what it computes on.
        out: result folder; `metrics.json` in it is written last.
        progress: draw a progress bar, if this is a terminal.

    Raises:
        GeoladderError: no chips, a loss that is not a number, another job at work on this run, devices that cannot
            share the batch, a precision or a number of GPUs that this machine lacks, or a failure of another rank.
        SystemExit: after SIGTERM, with the step reached saved; the same call goes on from there.
    """
    passes = accumulation(spec.batch, hardware.devices, hardware.micro_batch)
    torch.set_num_threads(hardware.threads)
    start = time.perf_counter()
    stats = BandStats.load(inputs.stats)
    val = validation_chips(spec, inputs.validation, stats)
    train = _training_data(spec, inputs, stats, val.side_px, hardware.workers)
    state = out / "state" / spec.fingerprint
    is_first_rank = not getattr(rank_zero_only, "rank", 0)
    lock: AbstractContextManager[SoftFileLease | None] = only_job(state) if is_first_rank else nullcontext()
    same_run = partial(pretrain, spec, inputs, hardware, out, progress)
    with lock as lease, other_ranks(hardware.devices, same_run):
        module = PretrainModule(spec, train, passes, hardware)
        journal = Journal(
            state / "log.csv", module.steps, spec.batch, val, spec.objective, module.whole_model
        )
        trainer = make_trainer(
            module.steps,
            spec.precision,
            spec.gradient_clip,
            [journal, Saver(state, spec.checkpoint_every, lease)],
            _tensorboard(out) if spec.tensorboard else None,
            hardware.devices,
            hardware.strategy,
            progress,
        )
        fit(trainer, module, newest_checkpoint(state))
        model = module.whole_model()
        if trainer.is_global_zero:
            metrics = validate(model, val, spec.objective)
            # The last update comes after the last loss, so it is judged here.
            module.check_finite(metrics["val_loss"], "validation loss")
            facts = _facts(spec, model, train, module.steps)
            save_model(model, _card(spec, stats) | facts, out)
            journal.write(out / "log.csv")
            seconds = time.perf_counter() - start
            write_json(out / "metrics.json", facts | {"metrics": metrics, "seconds": seconds})
            log.info("%s-%s on %s: %s", spec.architecture, spec.size, spec.corpus, metrics)
    if is_first_rank:
        # Not earlier: some file systems keep a folder as long as a file in it, the lock, is open.
        shutil.rmtree(out / "state")


def _training_data(
    spec: PretrainSpec, inputs: Inputs, stats: BandStats, crop_px: int, workers: int
) -> Source:
    if spec.tiles is not None:
        return TileCrops(spec, inputs.archive, inputs.index, stats, crop_px, workers)
    if inputs.chips is not None:
        return training_chips(spec, inputs.chips, stats)
    raise GeoladderError("this run reads chips: give their folder with --chips")


def _tensorboard(out: Path) -> TensorBoardLogger:
    try:
        return TensorBoardLogger(out, name="tensorboard", version="")
    except ModuleNotFoundError:
        raise GeoladderError(
            "pretrain.tensorboard is true, but TensorBoard is not installed; pip install 'geoladder[tensorboard]', "
            "or set it to false"
        ) from None


def _facts(spec: PretrainSpec, model: nn.Module, data: Source, steps: int) -> dict[str, Any]:
    """What `metrics.json` and `model.json` say of a run: identity, sizes, data and compute."""
    samples = steps * spec.batch
    gflops = count_gflops(model, data.side_px)
    return {
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": birth_certificate(spec.fingerprint, code_fingerprint("pretrain", spec.architecture)),
        "parameters": count_parameters(model),
        "steps": steps,
        "samples_seen": samples,
        **data.facts(samples),
        "gflops_fwd": gflops.forward,
        "gflops_train": (gflops.forward + gflops.backward) * samples,
        "lr": spec.lr,
    }


def _card(spec: PretrainSpec, stats: BandStats) -> dict[str, Any]:
    """What one must know to use the weights, for `model.json`."""
    return {
        "architecture": spec.architecture,
        "size": spec.size,
        "model": spec.model,
        "bands": list(BANDS),
        "transform": spec.transform,
        "statistics": stats.as_dict(),
        "objective": spec.objective.model_dump(mode="json"),
    }


def _new_model(spec: PretrainSpec) -> PretrainModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        backbone = build_from(spec.architecture, spec.model)
        return PretrainModel(backbone, fill=spec.objective.fill, head_sizes=spec.objective.head_sizes)
