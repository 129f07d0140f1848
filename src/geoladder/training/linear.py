"""Linear heads in closed form on a frozen encoder: what a cell has learnt, judged without training it.

Every patch is encoded once for all tasks, draws and n of the cell. Training patches become sums, added up for each
subset and each part of it that is left out in turn; test patches are judged by all heads as they pass.

Unusual: the strength is chosen by the task's own error. For classes that is the share of wrong pixels, of which each
training patch keeps some as a sample; by the squared error of shares, land cover of the synthetic bench came out
stronger and worse (n = 4: error .587 in place of .568).
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from geoladder.counting import count_parameters
from geoladder.data.bench.nshot import test_rows
from geoladder.data.bench.reader import Bench
from geoladder.data.bench.split import read_subset
from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone
from geoladder.models.build import LinearModel, logits_of_shares
from geoladder.models.demand import demand_scan
from geoladder.registry import TASKS
from geoladder.runs.atomic import write_json
from geoladder.runs.provenance import birth_certificate, code_fingerprint
from geoladder.scans import ScanName
from geoladder.study.downstream_specs import LinearCell, LinearSpec
from geoladder.training.checkpoints import load_backbone
from geoladder.training.memory import memory_for
from geoladder.training.patches import input_of, tile_names
from geoladder.training.ridge import Head, Part, Sums, choose_head
from geoladder.training.score import Score
from geoladder.training.shown import shown_places, write_shown
from geoladder.training.starting_model import seeded_backbone
from geoladder.training.tap_reader import PATCH, TapBatch, TapReader
from geoladder.training.tuned import save_tuned

FOLDS = 24
"""Training patches are left out one by one up to so many, as at n = 4 in six buckets, and in so many parts beyond."""
SAMPLE = 128
"""Pixels a training patch keeps where classes are told apart."""
SUMS_BYTES = 1 << 30
"""Sums kept at a time. A subset may have more: 24 parts of an encoder of 4,000 taps have 3 GB."""
LESS_MEMORY = (
    f"set a smaller linear.n (sums of up to {FOLDS} patches are kept at a time), or give more memory"
)


class Trial(NamedTuple):
    """One head: its subset of labelled patches, of a task, draw and n."""

    task: str
    draw: int
    n: int


def fit_linear(
    cell: LinearCell,
    bench: Path,
    index: Path,
    stats: Path,
    splits: list[Path],
    checkpoint: Path | None,
    out: Path,
    threads: int = 1,
    scan: ScanName = "auto",
) -> None:
    """Fit and judge the linear heads of one cell; write `<task>.json` for each task into the folder `out`.

    The encoder is that of the pretraining run in folder `checkpoint`, or random. `splits` are files of subsets, of
    each task one for each draw, in order. A result has `points`, one for each draw and n: draw, n, strength,
    left_out_error, train_patches, and the keys of `Score.result` but `details`. Models that the spec wants kept go to
    `<task>/n<n>/`, of the first draw.

    Raises:
        GeoladderError: a checkpoint or files of subsets that do not fit, a subset without a label, too little memory.
    """
    torch.set_num_threads(threads)
    demand_scan(scan)
    start, first = time.perf_counter(), cell.heads[0]
    pixels = input_of(first, stats)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with memory_for(f"linear probing of {first.architecture}-{first.size}", LESS_MEMORY):
        backbone = frozen_backbone(first, checkpoint).to(device)
        reader = TapReader(Bench(bench, index, pixels.harmonise), backbone, pixels)
        subsets = read_subsets(cell, reader.bench, splits)
        heads: dict[Trial, Head] = {}
        for trials in _passes(subsets, reader.features):
            parts = gather(reader, {trial: subsets[trial] for trial in trials}, first.pixels)
            heads |= {trial: choose_head(parts.pop(trial), first.strengths) for trial in trials}
        scores = judge(reader, heads, first.test_patches)
    seconds = time.perf_counter() - start
    for spec in cell.heads:
        of_task = [trial for trial in subsets if trial.task == spec.task]
        points = [
            {"draw": trial.draw, "n": trial.n, "train_patches": len(subsets[trial])}
            | {"strength": heads[trial].strength, "left_out_error": heads[trial].left_out_error}
            | {key: value for key, value in scores[trial].result().items() if key != "details"}
            for trial in of_task
        ]
        for n in spec.keep:
            model = linear_model(backbone, heads[Trial(spec.task, 0, n)])
            save_tuned(model, spec, pixels.stats, reader.side_px, out / spec.task / f"n{n}")
        _show(reader, spec, {n: heads[Trial(spec.task, 0, n)] for n in spec.n}, out / spec.task)
        write_json(out / f"{spec.task}.json", _result(spec, backbone, points, seconds / len(cell.heads)))


def _result(
    spec: LinearSpec, backbone: Backbone, points: list[dict[str, Any]], seconds: float
) -> dict[str, Any]:
    code = code_fingerprint("linear", spec.architecture, spec.task)
    return {
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": birth_certificate(spec.fingerprint, code),
        "points": points,
        "parameters": count_parameters(backbone),
        "seconds": seconds,
    }


def read_subsets(cell: LinearCell, bench: Bench, splits: list[Path]) -> dict[Trial, pd.DataFrame]:
    """Training patches of every head, as rows of the bench's pool.

    Raises:
        GeoladderError: there are not as many files as tasks and draws, or as `read_subset`.
    """
    draws = [(spec, draw) for spec in cell.heads for draw in range(len(spec.subsets))]
    if len(splits) != len(draws):
        raise GeoladderError(
            f"the spec has {len(draws)} draws of all tasks together, but {len(splits)} files of subsets are given; "
            "give --split once for each draw of each task"
        )
    return {
        Trial(spec.task, draw, n): read_subset(file, bench, spec.task, n, fingerprint).train_rows
        for (spec, draw), file in zip(draws, splits, strict=True)
        for n, fingerprint in zip(spec.n, spec.subsets[draw], strict=True)
    }


def frozen_backbone(spec: LinearSpec, checkpoint: Path | None) -> Backbone:
    """The pretrained backbone of a cell, or a new one, which the seed alone makes.

    Raises:
        GeoladderError: the spec and the checkpoint do not go together.
    """
    backbone = seeded_backbone(spec, checkpoint)
    if checkpoint is not None:
        load_backbone(backbone, checkpoint, spec)
    return backbone


def linear_model(backbone: Backbone, head: Head) -> LinearModel:
    """A head on its backbone, as a model of images."""
    weights = head.weights.float()
    model = LinearModel(backbone, len(weights) - 1, weights.shape[1])
    model.head.load_state_dict({"weight": weights[:-1].T[..., None, None], "bias": weights[-1]})
    return model.eval()


def _passes(subsets: dict[Trial, pd.DataFrame], features: int) -> Iterator[list[Trial]]:
    """Trials whose sums are kept together: as many as fit, and at least one."""
    part_bytes = 8 * (features + 1) ** 2
    trials: list[Trial] = []
    kept_bytes = 0
    for trial, rows in subsets.items():
        more = min(FOLDS, len(rows)) * part_bytes
        if trials and kept_bytes + more > SUMS_BYTES:
            yield trials
            trials, kept_bytes = [], 0
        trials.append(trial)
        kept_bytes += more
    yield trials


def gather(reader: TapReader, subsets: dict[Trial, pd.DataFrame], pixels: int) -> dict[Trial, list[Part]]:
    """Parts of each subset, from at most `pixels` labelled pixels of each patch.

    A subset has at most `FOLDS` parts, among which its patches are dealt out in turn.

    Raises:
        GeoladderError: a subset has no labelled pixel.
    """
    parts: list[Part] = []
    of_trial: dict[Trial, list[Part]] = {}
    uses = []
    for trial, rows in subsets.items():
        of_trial[trial] = [Part() for _ in range(min(FOLDS, len(rows)))]
        uses.append(rows[PATCH].assign(task=trial.task, part=len(parts) + np.arange(len(rows)) % FOLDS))
        parts += of_trial[trial]
    for batch in reader.batches(pd.concat(uses)):
        _add(batch, parts, pixels)
    for trial, parts_of_trial in of_trial.items():
        if not any(part.sums for part in parts_of_trial):
            raise GeoladderError(
                f"none of the {len(subsets[trial])} patches of {trial.task} (n={trial.n}, draw {trial.draw}) has a "
                f"labelled pixel; check the *_label_{TASKS[trial.task].label}.npy files in {reader.bench.archive}, "
                "or raise n"
            )
    return of_trial


def _add(batch: TapBatch, parts: list[Part], pixels: int) -> None:
    """Add the patches of a batch to all parts that they are of."""
    task, device = TASKS[batch.task], batch.features.device
    at, of_use = batch.uses["at"].to_numpy(), batch.uses["part"].to_numpy()
    first = np.flatnonzero(np.diff(at, prepend=-1))
    patches = zip(batch.uses[PATCH].to_numpy()[first], np.split(of_use, first[1:]), strict=True)
    maps = zip(batch.features, batch.labels, strict=True)
    for (names, of_patch), (features, labels) in zip(patches, maps, strict=True):
        order = torch.from_numpy(np.random.default_rng(names).permutation(labels.numel()))
        chosen = order[task.valid(labels).flatten()[order]][:pixels]
        if not len(chosen):
            continue
        x = features.flatten(1)[:, chosen.to(device)].T
        y = labels.flatten()[chosen].to(device)
        sums = Sums.of(x, task.shares(y))
        sample = (x[:SAMPLE].clone(), y[:SAMPLE]) if task.outputs > 1 else None
        for part in of_patch:
            parts[part].add(sums, sample)


def judge(reader: TapReader, heads: dict[Trial, Head], test_patches: int) -> dict[Trial, Score]:
    """Score every head on its task's test patches, at most so many, on all their pixels."""
    scores = {trial: Score(TASKS[trial.task]) for trial in heads}
    of_task: dict[str, list[Trial]] = {}
    for trial in heads:
        of_task.setdefault(trial.task, []).append(trial)
    weights = {
        task: torch.cat([heads[trial].weights for trial in trials], 1).float()
        for task, trials in of_task.items()
    }
    tests = [test_rows(reader.bench, task, test_patches).assign(task=task) for task in of_task]
    for batch in reader.batches(pd.concat(tests)):
        task, trials, stacked = TASKS[batch.task], of_task[batch.task], weights[batch.task]
        shares = functional.conv2d(batch.features, stacked[:-1].T[..., None, None], stacked[-1]).cpu()
        buckets, tiles = batch.uses["bucket"].to_numpy(), tile_names(batch.uses)
        for trial, of_head in zip(trials, shares.unflatten(1, (len(trials), -1)).unbind(1), strict=True):
            scores[trial].update(task.prediction(logits_of_shares(of_head)), batch.labels, buckets, tiles)
    return scores


def _show(reader: TapReader, spec: LinearSpec, heads: dict[int, Head], out: Path) -> None:
    """Write `out`/n<n>.npz, as `write_shown`, for the head of each n."""
    task, rows = TASKS[spec.task], test_rows(reader.bench, spec.task, spec.test_patches)
    places = shown_places(len(rows))
    # Rows of the pool are in the order of the bench, in which the reader gives patches.
    batches = list(reader.batches(rows.iloc[places].assign(task=spec.task)))
    features = torch.cat([batch.features for batch in batches])
    labels = torch.cat([batch.labels for batch in batches])
    for n, head in heads.items():
        weights = head.weights.float()
        shares = functional.conv2d(features, weights[:-1].T[..., None, None], weights[-1]).cpu()
        write_shown(out / f"n{n}.npz", task, places, task.prediction(logits_of_shares(shares)), labels)
