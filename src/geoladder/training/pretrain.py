"""One pretraining run: chips in, `model.safetensors`, `model.json`, `log.csv` and `metrics.json` out.

Unusual: every random choice is a function of (seed, step), so a run that was killed continues from its highest
checkpoint and ends with the same numbers, bit for bit, as one that was not. Checkpoints live in
`state/<fingerprint>/` beside the results, where the workflow does not delete them, and go when the run is done.
"""

import logging
import shutil
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from geoladder.data.batches.batch import Source
from geoladder.data.batches.stats import BandStats
from geoladder.data.batches.stream import Chips, training_chips, validation_chips
from geoladder.data.batches.tile_stream import TileCrops
from geoladder.errors import GeoladderError
from geoladder.models.heads import PretrainModel
from geoladder.runs.atomic import write_json
from geoladder.runs.lock import only_job
from geoladder.study.accumulation import accumulation
from geoladder.study.specs import PretrainSpec
from geoladder.training.checkpoints import save_model
from geoladder.training.distributed import StrategyName
from geoladder.training.pretrain_module import PretrainJournal, PretrainModule
from geoladder.training.ranks import other_ranks
from geoladder.training.results import card_of, facts_of
from geoladder.training.resume import Saver, newest_checkpoint
from geoladder.training.trainer import fit, make_trainer
from geoladder.training.validate import validate

log = logging.getLogger(__name__)


def pretrain(
    spec: PretrainSpec,
    chips: Path | None,
    validation: Path,
    stats: Path,
    out: Path,
    threads: int = 1,
    devices: int = 1,
    strategy: StrategyName = "auto",
    progress: bool = True,
    archive: Path | None = None,
    index: Path | None = None,
    workers: int = 0,
    activation_checkpointing: bool = False,
    micro_batch: int | None = None,
    compile_model: bool = False,
) -> None:
    """Train one cell, or what is left of it after an interruption.

    Args:
        spec: the run.
        chips: chip folder of the cell's corpus, for runs that read chips.
        validation: chip folder with the common validation set.
        stats: stats.json.
        out: result folder; `metrics.json` in it is written last.
        threads: CPU threads. Results are bit-identical at a fixed number of them.
        devices: GPUs, or CPU processes; each takes a slice of every batch.
        strategy: `auto`, `ddp` or `fsdp`.
        progress: draw a progress bar, if this is a terminal.
        archive: MajorTOM folder, for runs that read tiles.
        index: its index.parquet, for runs that read tiles.
        workers: processes of each device that read tiles. Changes no result.
        activation_checkpointing: compute the inside of blocks again in the backward pass.
        micro_batch: samples in one pass of one device; None: its whole share of the batch.
        compile_model: compile the blocks.

    Raises:
        GeoladderError: no chips, a loss that is not a number, another job at work on this run, devices that cannot
            share the batch, a precision or a number of GPUs that this machine lacks, or a failure of another rank.
        SystemExit: after SIGTERM, with the step reached saved; the same call goes on from there.
    """
    arguments = dict(locals())  # for other ranks, which call this function again
    passes = accumulation(spec.batch, devices, micro_batch)
    torch.set_num_threads(threads)
    start = time.perf_counter()
    band_stats = BandStats.load(stats)
    val = validation_chips(spec, validation, band_stats)
    train: Source
    if spec.tiles is not None:
        train = TileCrops(spec, archive, index, band_stats, val.side_px, workers)
    elif chips is not None:
        train = training_chips(spec, chips, band_stats)
    else:
        raise GeoladderError("this run reads chips: give their folder with --chips")
    state = out / "state" / spec.fingerprint
    is_first_rank = not getattr(rank_zero_only, "rank", 0)
    own_lock = only_job(state) if is_first_rank else nullcontext()
    with own_lock as lock, other_ranks(devices, pretrain, arguments):
        module = PretrainModule(spec, train, passes, activation_checkpointing, compile_model)
        journal = PretrainJournal(state / "log.csv", module.steps, spec.batch, val, spec.objective)
        trainer = make_trainer(
            module.steps,
            spec.precision,
            spec.gradient_clip,
            [journal, Saver(state, spec.checkpoint_every, lock)],
            _tensorboard(out) if spec.tensorboard else None,
            devices,
            strategy,
            progress,
        )
        resumed = newest_checkpoint(state)
        if resumed:
            log.info("resuming from %s", resumed)
        fit(trainer, module, resumed)
        model = module.whole_model()
        if trainer.is_global_zero:
            results = _results(module, model, train, val)
            save_model(model, card_of(spec, band_stats) | results.facts, out)
            journal.write(out / "log.csv")
            seconds = time.perf_counter() - start
            write_json(out / "metrics.json", results.facts | {"metrics": results.metrics, "seconds": seconds})
            log.info("%s-%s on %s: %s", spec.architecture, spec.size, spec.corpus, results.metrics)
            shutil.rmtree(out / "state")


class Results(NamedTuple):
    """What a run is (`geoladder.training.results.facts_of`), and its errors on the validation set."""

    facts: dict[str, Any]
    metrics: dict[str, float]


def _results(module: PretrainModule, model: PretrainModel, train: Source, val: Chips) -> Results:
    metrics = validate(model, val, module.spec.objective)
    # The last update comes after the last loss, so it is judged here.
    module.check_finite(metrics["val_loss"], "validation loss")
    return Results(facts_of(module.spec, model, train, module.steps), metrics)


def _tensorboard(out: Path) -> TensorBoardLogger:
    try:
        return TensorBoardLogger(out, name="tensorboard", version="")
    except ModuleNotFoundError:
        raise GeoladderError(
            "pretrain.tensorboard is true, but TensorBoard is not installed; pip install 'geoladder[tensorboard]', "
            "or set it to false"
        ) from None
