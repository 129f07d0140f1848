"""One fine-tuning run: a few labelled patches in, test errors of the best state out.

Every arm of a study gets the same patches, the same order and the same changes of them. Checkpoints of an unfinished
run live in `state/<fingerprint>/` beside the result, where the workflow does not delete them, and go when it is done.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor

from geoladder.counting import count_parameters, gflops_fwd
from geoladder.data.batches.batch import BandStats
from geoladder.data.bench.nshot import test_rows
from geoladder.data.bench.reader import Bench
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.runs.atomic import only_job, write_json
from geoladder.runs.digest import intact
from geoladder.runs.provenance import birth_certificate, code_fingerprint
from geoladder.study.downstream_specs import FinetuneSpec
from geoladder.training.augmentation import Augmentation
from geoladder.training.criterion import Criterion
from geoladder.training.job import Hardware
from geoladder.training.memory import memory_for
from geoladder.training.patches import Patches, check_labelled, input_of, read_patches, subset_of
from geoladder.training.ranks import other_ranks
from geoladder.training.score import Score
from geoladder.training.settling import Curve, best_of, has_settled
from geoladder.training.shown import shown_places, write_shown
from geoladder.training.starting_model import build_model
from geoladder.training.trainer import kernels
from geoladder.training.tuned import save_tuned
from geoladder.training.tuning import Tuning, evaluation_parts, outputs_of

log = logging.getLogger(__name__)

ALONE = Hardware()


@dataclass(frozen=True)
class BenchFiles:
    """What a run reads its patches from."""

    archive: Path
    index: Path
    """parquet of its files"""
    stats: Path
    """JSON written by `stats`"""
    split: Path
    """few-shot subsets written by `split`"""


class Labelled(NamedTuple):
    """Patches of one run."""

    train: Patches
    val: Patches


def finetune(
    spec: FinetuneSpec,
    files: BenchFiles,
    checkpoint: Path | None,
    out: Path,
    hardware: Hardware = ALONE,
    choice: Path | None = None,
) -> None:
    """Fine-tune at one n of one curve, or what is left of it after an interruption; judge the best state.

    Starts from the pretraining run in folder `checkpoint`, or from scratch. The rate is that of the spec, or the one
    in `choice`, written by `choose_rate`. `out` is the result, JSON; predictions at a few fixed test patches go
    beside it, `.npz`: test_patch (row of `test_rows`), predicted and label, (8, P, P); and, if the spec keeps it, the
    model, in a folder of the same name.

    Raises:
        GeoladderError: a checkpoint, choice or file of subsets that does not fit, a loss
            that is not a number, another job at work on this run, too little memory, or a failure of another rank.
        SystemExit: after SIGTERM; the same call goes on from there.
    """
    start = time.perf_counter()
    rate = _chosen_rate(spec, choice)
    hardware = of_whole_models(hardware)
    with (
        alone_in_state(out, spec) as state,
        other_ranks(hardware.devices, partial(finetune, spec, files, checkpoint, out, hardware, choice)),
        enough_memory(spec),
    ):
        torch.set_num_threads(hardware.threads)
        opened = Bench(files.archive, files.index, spec.harmonise)
        data, test = read_labelled(opened, spec, files), test_rows(opened, spec.task, spec.test_patches)
        check_labelled(opened, test, spec)
        run, curve = tune(spec.model_copy(update={"lr": rate["lr"]}), data, checkpoint, hardware, state)
        predicted = partial(_predicted, run, opened, spec, data.train.stats)
        score = _score(run, spec, test, predicted)
        if run.fabric.is_global_zero:
            if spec.keep:
                save_tuned(run.model, spec, data.train.stats, data.train.side_px, out.with_suffix(""))
            places = shown_places(len(test))
            patches, maps = predicted(test.iloc[places])
            write_shown(out.with_suffix(".npz"), TASKS[spec.task], places, maps, patches.labels)
            seconds = time.perf_counter() - start
            write_json(out, _result(run, spec, data, curve) | score.result() | rate | {"seconds": seconds})


def tune(
    spec: FinetuneSpec, data: Labelled, checkpoint: Path | None, hardware: Hardware, state: Path | None
) -> tuple[Tuning, Curve]:
    """Train a model as the spec says, at its `lr`; return it in its best state, and the validations."""
    criterion = Criterion(TASKS[spec.task], spec, data.train.labels)
    model = build_model(spec, checkpoint, criterion.prior)
    augmentation = Augmentation.of(spec.augmentation, spec.seed, data.train.stats, spec.transform)
    run = Tuning(model, spec, criterion, augmentation, hardware)
    return run, run.train(data.train, data.val, state)


def read_labelled(bench: Bench, spec: FinetuneSpec, files: BenchFiles) -> Labelled:
    """Read the training and validation patches; raises as `subset_of`, `check_labelled` and `Bench.read`."""
    subset, stats = subset_of(bench, spec, files.split), input_of(spec, files.stats).stats
    for rows in subset:
        check_labelled(bench, rows, spec)
    return Labelled(*(read_patches(bench, rows, spec, stats) for rows in subset))


def enough_memory(spec: FinetuneSpec) -> AbstractContextManager[None]:
    """Where a run does not fit into memory, say so, and what helps."""
    what = f"fine-tuning {spec.architecture}-{spec.size} on {spec.task} (n={spec.n}, batches of {spec.batch})"
    return memory_for(what, "set a smaller compute.micro_batch or finetune.n")


def of_whole_models(hardware: Hardware) -> Hardware:
    """The same hardware, with whole models on each device: fine-tuning evaluates too often to gather shared ones."""
    if hardware.strategy != "fsdp":
        return hardware
    log.info("compute.strategy is fsdp; fine-tuning holds the whole model on each device (ddp)")
    return replace(hardware, strategy="ddp")


@contextmanager
def alone_in_state(out: Path, spec: FinetuneSpec) -> Iterator[Path]:
    """Folder of the checkpoints behind `out`, held by this job; removed when the block ends well."""
    state = out.parent / "state" / spec.fingerprint
    is_first_rank = not getattr(rank_zero_only, "rank", 0)
    try:
        with only_job(state) if is_first_rank else nullcontext():
            yield state
        if is_first_rank:
            shutil.rmtree(state)
    finally:
        for folder in (state, state.parent) if is_first_rank else ():
            with suppress(OSError):  # there are checkpoints, or those of runs at other n
                folder.rmdir()


def _chosen_rate(spec: FinetuneSpec, choice: Path | None) -> dict[str, Any]:
    """The rate of a run and, where it was chosen, how; raises GeoladderError where spec and file do not fit."""
    if (choice is None) != (spec.choice is None):
        raise GeoladderError(
            f"the spec says choice: {spec.choice}, but the file of the chosen rate is {choice}; give --rate exactly "
            "where the study has finetune.lr.choose"
        )
    if choice is None:
        return {"lr": spec.lr}
    try:
        chosen: dict[str, Any] = json.loads(intact(choice).read_text())
        rate = {"lr": chosen["lr"], "rate_choice": {key: chosen[key] for key in ("inside", "tried")}}
        fingerprint = chosen["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise GeoladderError(
            f"{choice} holds no choice of a rate ({problem!r}); make it again with snakemake"
        ) from None
    if fingerprint != spec.choice:
        raise GeoladderError(
            f"{choice} is another choice: its fingerprint is {fingerprint}, but {spec.choice} is wanted; make it "
            "again with snakemake"
        )
    return rate


def _score(
    run: Tuning,
    spec: FinetuneSpec,
    test: pd.DataFrame,
    predicted: Callable[[pd.DataFrame], tuple[Patches, Tensor]],
) -> Score:
    """Score the model on all test patches, which ranks share; no more are in memory than are evaluated at a time."""
    score = Score(TASKS[spec.task])
    for part in evaluation_parts(len(test), run.fabric.global_rank, run.fabric.world_size):
        patches, maps = predicted(test.iloc[part])
        score.update(maps, patches.labels, patches.buckets, patches.tiles, part.start)
    score.reduce()
    return score


def _predicted(
    run: Tuning, bench: Bench, spec: FinetuneSpec, stats: BandStats, rows: pd.DataFrame
) -> tuple[Patches, Tensor]:
    """Some test patches, and what the model predicts there, as `Task.prediction` says it."""
    patches = read_patches(bench, rows, spec, stats)
    return patches, run.criterion.prediction(outputs_of(run.model, patches.pixels()))


def _result(run: Tuning, spec: FinetuneSpec, data: Labelled, curve: Curve) -> dict[str, Any]:
    """What the result says of a run but for its scores, its rate and its time."""
    code, steps = code_fingerprint("finetune", spec.architecture, spec.task), int(curve[-1]["step"])
    certificate = birth_certificate(spec.fingerprint, code)
    return {
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": certificate | {"kernels": kernels(run.model, run.fabric.device.type)},
        "validation": curve,
        "settled": has_settled(curve, spec),
        "best_step": int(best_of(curve)["step"]),
        "parameters": count_parameters(run.model),
        "gflops_fwd": gflops_fwd(run.model, data.train.side_px),
        "train_patches": len(data.train),
        "val_patches": len(data.val),
        "steps": steps,
        "samples_seen": steps * spec.batch,
    }
