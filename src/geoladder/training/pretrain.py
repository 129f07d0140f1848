"""One pretraining run: chips in, `model.safetensors`, `model.json`, `log.csv` and `metrics.json` out.

Every random choice is a function of (seed, step), so a run that was killed continues from its highest checkpoint and
ends with the same numbers, bit for bit, as one that was not. Checkpoints live in `state/<fingerprint>/` beside the
results, where the workflow does not delete them, and go when the run is done.
"""

import logging
import shutil
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import SoftFileLease
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from geoladder.counting import count_gflops, count_parameters
from geoladder.data.batches.batch import BandStats, Source
from geoladder.data.batches.chip_store import training_chips, validation_chips
from geoladder.data.batches.tile_stream import TileCrops
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import write_json
from geoladder.runs.lock import only_job
from geoladder.runs.provenance import birth_certificate, code_fingerprint
from geoladder.study.accumulation import accumulation
from geoladder.study.specs import PretrainSpec
from geoladder.training.checkpoints import save_model
from geoladder.training.distributed import StrategyName, other_ranks
from geoladder.training.pretrain_module import Journal, PretrainModule
from geoladder.training.trainer import Saver, fit, make_trainer, newest_checkpoint
from geoladder.training.validate import validate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """Files a run reads.

    Attributes:
        validation: chip folder with the common validation set.
        stats: stats.json.
        chips: chip folder of the cell's corpus, for runs that read chips.
        archive: MajorTOM folder, for runs that read tiles.
        index: its index.parquet, for runs that read tiles.
    """

    validation: Path
    stats: Path
    chips: Path | None = None
    archive: Path | None = None
    index: Path | None = None


@dataclass(frozen=True)
class Hardware:
    """What a run computes on; none of it changes results beyond rounding.

    Attributes:
        threads: CPU threads. Results are bit-identical at a fixed number of them.
        devices: GPUs, or CPU processes; each takes a slice of every batch.
        strategy: `auto`, `ddp` or `fsdp`.
        micro_batch: samples in one pass of one device; None: its whole share of the batch.
        activation_checkpointing: compute the inside of blocks again in the backward pass.
        compile_model: compile the blocks.
        workers: processes of each device that read tiles. Changes no result.
    """

    threads: int = 1
    devices: int = 1
    strategy: StrategyName = "auto"
    micro_batch: int | None = None
    activation_checkpointing: bool = False
    compile_model: bool = False
    workers: int = 0


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
        module = PretrainModule(
            spec, train, passes, hardware.activation_checkpointing, hardware.compile_model
        )
        journal = Journal(state / "log.csv", module.steps, spec.batch, val, spec.objective)
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
