"""One pretraining run: chips in, `model.safetensors`, `model.json`, `log.csv` and `metrics.json` out.

Every random choice is a function of (seed, step), so a run that was killed continues from its highest checkpoint and
ends with the same numbers, bit for bit, as one that was not. Checkpoints live in `state/<fingerprint>/` beside the
results, where the workflow does not delete them, and go when the run is done.
"""

import logging
import math
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import SoftFileLease
from lightning.fabric.loggers import TensorBoardLogger
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.fsdp import FSDPModule

from geoladder.counting import count_gflops, count_parameters
from geoladder.data.batches.batch import BandStats, PretrainBatch, Source
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.models.build import PretrainModel, build_from
from geoladder.runs.atomic import check_held, only_job, write_json
from geoladder.runs.provenance import birth_certificate, code_fingerprint
from geoladder.study.compute import accumulation
from geoladder.study.specs import PretrainSpec
from geoladder.training.checkpoints import WHOLE, load_progress, newest_checkpoint, save_model, save_progress
from geoladder.training.job import Hardware, Inputs
from geoladder.training.memory import LESS_TRAINING_MEMORY, memory_for
from geoladder.training.objective import PROBED_SHARE, Journal, PretrainTerms, pretrain_terms, validate
from geoladder.training.ranks import SIGTERM_STATUS, other_ranks, sigterm_noted
from geoladder.training.trainer import adamw, cosine_with_warmup, kernels, place, update

if TYPE_CHECKING:
    from geoladder.data.batches.chip_store import Chips

log = logging.getLogger(__name__)


class Pretraining:
    """One run at work: the model, on the devices of this rank, and its optimiser.

    The spec's seed alone draws the first weights; a device takes its share of a batch in so many `passes`. Every rank
    judges the same loss, and a checkpoint or a signal never comes between two passes of one step. Maps of tasks start
    at their `priors`.
    """

    def __init__(
        self, spec: PretrainSpec, hardware: Hardware, passes: int, priors: Mapping[str, list[float]]
    ) -> None:
        self.spec, self._passes = spec, passes
        self.steps = math.ceil(spec.samples / spec.batch)
        self.model = _new_model(spec)
        self.model.start_maps(priors)
        # The summary of an image serves its targets alone.
        self.fabric, self._forward = place(
            self.model, spec.precision, hardware, partial_use=not spec.objective.targets
        )
        self.optimizer = adamw(self.model, spec.lr, spec.weight_decay)
        self._rate = cosine_with_warmup(self.steps, spec.warmup_share)
        self._last_finite = math.nan

    def judge(self, chips: "Chips", limit: int | None = None) -> dict[str, float]:
        """Errors on (at most `limit`) validation chips, on rank 0; nothing on the others, which must ask, too."""
        model = self.whole_model()
        return validate(model, chips, self.spec.objective, limit) if self.fabric.is_global_zero else {}

    def whole_model(self) -> PretrainModel:
        """The model; where its weights are shared out, a copy, filled on rank 0, that all ranks must ask for."""
        if not isinstance(self.model, FSDPModule):
            return self.model
        copy, weights = _new_model(self.spec), get_model_state_dict(self.model, options=WHOLE)
        if weights:
            copy.load_state_dict(weights)
        return copy.to(self.fabric.device)

    def train(
        self, data: Source, journal: Journal, state: Path, lease: SoftFileLease | None, progress: bool
    ) -> None:
        """Take all steps that are left, and save every few of them; SIGTERM to any rank saves and ends the run."""
        fabric, first = self.fabric, self._resume(state, journal)
        is_shown = progress and fabric.is_global_zero and sys.stderr.isatty()
        batches = data.batches(first, fabric.global_rank, fabric.world_size)
        with sigterm_noted() as sigterm, _shown(range(first + 1, self.steps + 1), is_shown) as steps:
            for step, batch in zip(steps, batches, strict=False):
                journal.note(step, *self._step(step, batch))
                if lease is not None:
                    check_held(lease)
                must_stop = self._over_ranks(len(sigterm), "max") > 0
                if must_stop or (step % self.spec.checkpoint_every == 0 and step < self.steps):
                    save_progress(state, step, self.model, self.optimizer, journal.rows)
                if must_stop:
                    log.info("stopped by SIGTERM after step %d, which is saved; run again to go on", step)
                    raise SystemExit(SIGTERM_STATUS)

    def _resume(self, state: Path, journal: Journal) -> int:
        """Go on from the newest checkpoint in `state`, if there is one; return its step, else 0."""
        checkpoint = newest_checkpoint(state)
        step = int(checkpoint.stem.removeprefix("step-")) if checkpoint else 0
        lowest, highest = self._over_ranks(step, "min"), self._over_ranks(step, "max")
        # Ranks that share out weights read a checkpoint together, so they compare before they read.
        if lowest != highest:
            raise GeoladderError(
                f"ranks go on from different steps [{lowest}, {highest}] of {state}; do all nodes see one folder? "
                "Run again, or delete it to train this run from the start"
            )
        if checkpoint:
            progress = load_progress(checkpoint, self.model, self.optimizer)
            journal.take_up(progress.step, progress.rows)
            if self.fabric.is_global_zero:
                log.info("resuming from %s", checkpoint)
        return step

    def _over_ranks(self, value: int, extreme: str) -> int:
        """The lowest (`min`) or highest (`max`) of the values that all ranks have; they must ask together."""
        if self.fabric.world_size == 1:  # without waiting for the device
            return value
        here = torch.tensor(value, device=self.fabric.device)
        return int(self.fabric.strategy.all_reduce(here, reduce_op=extreme))

    def _step(self, number: int, batch: PretrainBatch) -> tuple[float, float, PretrainTerms]:
        """Optimiser step `number` (1, 2, ...): its learning rate, its loss and terms (means over all devices)."""
        terms = self._gradients(batch.to(self.fabric.device))
        pooled = terms.with_values(self.fabric.strategy.all_reduce(terms.stacked()))
        loss = float(pooled.total(self.spec.objective))
        self._last_finite = self.check_finite(loss, "loss", number - 1)
        lr = self.spec.lr * self._rate(number - 1)
        update(self.model, self.optimizer, lr, self.spec.gradient_clip)
        return lr, loss, pooled

    def _gradients(self, batch: PretrainBatch) -> PretrainTerms:
        """Add up gradients of this device's share of a batch, pass by pass; return the terms' means over it.

        Every chip hides as many pixels and all passes take as many chips, so means of means are means over all.
        """
        objective, pass_terms = self.spec.objective, []
        for number, part in enumerate(batch.chunk(self._passes), start=1):
            with self.fabric.no_backward_sync(self._forward, enabled=number < self._passes):
                terms = pretrain_terms(self._forward(part.pixels, part.mask), part, objective)
                self.fabric.backward(terms.total(objective) / self._passes)
            pass_terms.append(terms.stacked().detach())
        return terms.with_values(torch.stack(pass_terms).mean(0))

    def check_finite(self, value: float, name: str, step: int) -> float:
        """Return the value of the loss called `name` after a step; raise GeoladderError when it is not finite."""
        if math.isfinite(value):
            return value
        cell = f"{self.spec.architecture}-{self.spec.size}"
        raise GeoladderError(
            f"the {name} of {cell} on {self.spec.corpus} (seed {self.spec.seed}) became {value} at step "
            f"{step} of {self.steps} (last finite loss {self._last_finite:.4g}); lower "
            f"pretrain.rungs.{cell}.lr below {self.spec.lr:.3g}, or look for bad pixels with `geoladder inspect`"
        )


@contextmanager
def _shown(steps: range, is_shown: bool) -> Iterator[Iterable[int]]:
    """Steps, maybe under a progress bar; it is done when the block ends, so that an error message stands after it."""
    if not is_shown:
        yield steps
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        yield bar.track(steps, total=steps.stop - 1, completed=steps.start - 1, description="pretraining")


def pretrain(
    spec: PretrainSpec, inputs: Inputs, hardware: Hardware, out: Path, progress: bool = True
) -> None:
    """Train one cell, or what is left of it after an interruption, with a progress bar if this is a terminal.

    The last file written to folder `out` is `metrics.json`.

    Raises:
        GeoladderError: no chips, a loss that is not a number, another job at work on this run, devices that cannot
            share the batch, a precision, a scan backend, memory or a number of GPUs that this machine lacks, or a
            failure of another rank.
        SystemExit: after SIGTERM, with the step reached saved; the same call goes on from there.
    """
    from geoladder.data.batches.chip_store import validation_chips

    passes = accumulation(spec.batch, hardware.devices, hardware.micro_batch)
    torch.set_num_threads(hardware.threads)
    start = time.perf_counter()
    stats = BandStats.load(inputs.stats, spec.stats)
    val = validation_chips(spec, inputs.validation, stats, inputs.labels)
    data = _training_data(spec, inputs, stats, val.side_px, hardware.workers)
    state = out / "state" / spec.fingerprint
    is_first_rank = not getattr(rank_zero_only, "rank", 0)
    lock: AbstractContextManager[SoftFileLease | None] = only_job(state) if is_first_rank else nullcontext()
    same_run = partial(pretrain, spec, inputs, hardware, out, progress)
    share = spec.batch // hardware.devices // passes
    batch = f"a pass of {share} images of {spec.architecture}-{spec.size}"
    with lock as lease, other_ranks(hardware.devices, same_run), memory_for(batch, LESS_TRAINING_MEMORY):
        run = Pretraining(spec, hardware, passes, data.priors())
        board = _tensorboard(out) if spec.tensorboard else None
        probe = partial(run.judge, val, len(val) // PROBED_SHARE + 1)
        log_path = state / "log.csv" if is_first_rank else None
        journal = Journal(log_path, run.steps, spec.batch, probe, board)
        run.train(data, journal, state, lease, progress)
        model = run.whole_model()
        if is_first_rank:
            metrics = validate(model, val, spec.objective)
            # The last update comes after the last loss, so it is judged here.
            run.check_finite(metrics["val_loss"], "validation loss", run.steps)
            facts = _facts(spec, model, data, run.steps)
            save_model(model.state_dict(), _card(spec, stats) | facts, out)
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
        from geoladder.data.batches.tile_stream import TileCrops

        return TileCrops(spec, inputs.archive, inputs.index, stats, crop_px, workers)
    if inputs.chips is not None:
        from geoladder.data.batches.chip_store import training_chips

        return training_chips(spec, inputs.chips, stats, inputs.labels)
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
    samples, device = steps * spec.batch, next(model.parameters()).device
    code = code_fingerprint("pretrain", spec.architecture, *spec.objective.tasks)
    certificate = birth_certificate(spec.fingerprint, code)
    gflops = count_gflops(model, data.side_px)
    return {
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": certificate | {"kernels": kernels(model, device.type)},
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
        learnt = spec.objective
        return PretrainModel(
            backbone, fill=learnt.fill, head_sizes=learnt.head_sizes, map_sizes=learnt.map_sizes
        )
