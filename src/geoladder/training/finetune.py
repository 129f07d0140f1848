"""One fine-tuning run: a few labelled patches in, test errors of the best state out.

Unusual: the best state by validation loss is kept as a copy and truly restored (a `state_dict()` alone is a view of
weights that training goes on changing). Every arm of a study gets the same patches, the same order, the same
turns and, for one architecture, the same initial head at the same seed.
"""

import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from geoladder.counting import count_parameters, gflops_fwd
from geoladder.data.bench.nshot import test_rows
from geoladder.data.bench.reader import Bench
from geoladder.errors import GeoladderError
from geoladder.models.build import FinetuneModel, build_backbone
from geoladder.registry import TASKS
from geoladder.runs.atomic import atomic_path, write_json
from geoladder.runs.provenance import birth_certificate, code_fingerprint
from geoladder.study.specs import FinetuneSpec
from geoladder.training.checkpoints import load_backbone
from geoladder.training.job import Hardware
from geoladder.training.patches import Patches, input_of, patch_batches, read_patches, subset_of
from geoladder.training.ranks import SIGTERM_STATUS, sigterm_noted
from geoladder.training.score import Score
from geoladder.training.trainer import adamw, cosine_with_warmup, kernels, place, update

EVALUATION_BATCH = 64
SHOWN_PATCHES = 8
GRADIENT_CLIP = 1.0
BETAS = (0.9, 0.999)


def finetune(
    spec: FinetuneSpec,
    bench: Path,
    index: Path,
    stats: Path,
    checkpoint: Path | None,
    out: Path,
    threads: int = 1,
    indices: Path | None = None,
) -> None:
    """Fine-tune at one n of one curve and judge the best state on the test patches.

    Starts from the pretraining run in folder `checkpoint`, or from scratch, on patches of an official index file
    `indices`, or drawn by seed. `out` is the result, JSON; predictions at a few fixed test patches go beside it,
    `.npz`: test_patch (row of `test_rows`), predicted and label, (8, P, P).

    Raises:
        GeoladderError: n above the pool of a bucket, a checkpoint or index file that does not fit, a loss that is not
            a number.
        SystemExit: after SIGTERM.
    """
    torch.set_num_threads(threads)
    start, task = time.perf_counter(), TASKS[spec.task]
    opened = Bench(bench, index, spec.harmonise)
    subset = subset_of(opened, spec, indices)
    band_stats = input_of(spec, stats).stats
    rows = test_rows(opened, spec.task, spec.test_patches)
    train, val, test = (
        read_patches(opened, part, spec, band_stats) for part in (subset.train_rows, subset.val_rows, rows)
    )
    model = build_model(spec, checkpoint, train.labels)
    curve = train_best(model, spec, train, val)
    predicted, score = task.prediction(logits_of(model, test.pixels)), Score(task)
    score.update(predicted, test.labels, test.buckets, test.tiles)
    code = code_fingerprint("finetune", spec.architecture, spec.task)
    device = next(model.parameters()).device
    result = {
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": birth_certificate(spec.fingerprint, code) | {"kernels": kernels(model, device.type)},
        **score.result(),
        "validation": curve,
        "parameters": count_parameters(model),
        "gflops_fwd": gflops_fwd(model, test.pixels.shape[-1]),
        "train_patches": len(train.pixels),
        "val_patches": len(val.pixels),
        "steps": spec.steps,
        "samples_seen": spec.steps * spec.batch,
        "lr": spec.lr,
        "seconds": time.perf_counter() - start,
    }
    shown = np.linspace(0, len(rows) - 1, min(SHOWN_PATCHES, len(rows))).astype(np.int64)
    maps, labels = task.as_map(predicted)[shown].numpy(), test.labels[shown].numpy()
    with atomic_path(out.with_suffix(".npz")) as path:
        np.savez_compressed(path, test_patch=shown, predicted=maps, label=labels)
    write_json(out, result)


def build_model(spec: FinetuneSpec, checkpoint: Path | None, labels: torch.Tensor) -> FinetuneModel:
    """Backbone (pretrained or not) and a fresh head that first predicts the mean of the training `labels`.

    The initial head and, from scratch, the initial backbone depend on the seed alone. Frozen parts take no gradient.

    Raises:
        GeoladderError: the spec and the checkpoint do not go together.
    """
    if (checkpoint is None) != (spec.pretrained is None):
        raise GeoladderError(
            f"the spec of {spec.architecture}-{spec.size} from {spec.corpus} says pretrained: {spec.pretrained}, but "
            f"the checkpoint given is {checkpoint}; give --checkpoint exactly for arms that are pretrained"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        backbone = build_backbone(spec.architecture, spec.size)
        torch.manual_seed(spec.seed)  # the head must not depend on how many numbers the backbone drew
        model = FinetuneModel(backbone, TASKS[spec.task].outputs, TASKS[spec.task].prior(labels))
    if checkpoint is not None:
        load_backbone(backbone, checkpoint, spec)
    for part in frozen_parts(model, spec.mode):
        part.requires_grad_(False)
    return model


def frozen_parts(model: FinetuneModel, mode: str) -> list[nn.Module]:
    """Modules a mode leaves as they are: `frozen` the encoder, `probe` all but the last 1x1 convolution."""
    if mode == "full":
        return []
    return [model.backbone if mode == "probe" else model.backbone.get_submodule("encoder")]


def train_best(
    model: FinetuneModel, spec: FinetuneSpec, train: Patches, val: Patches
) -> list[dict[str, float]]:
    """Train for the spec's steps; leave the state of lowest validation loss in the model, in evaluation mode.

    Returns:
        By validation: step, train_loss (of that step's batch) and val_loss.
    """
    fabric, forward = place(model, spec.precision, Hardware())
    task, optimizer = TASKS[spec.task], adamw(model, spec.lr, spec.weight_decay, BETAS)
    rate = cosine_with_warmup(spec.steps, spec.warmup_share)
    validated = {round(spec.steps * (i + 1) / spec.validations) for i in range(spec.validations)}
    best, best_loss = copy.deepcopy(model.state_dict()), math.inf
    curve: list[dict[str, float]] = []
    _start_training(model, spec.mode)
    batches = patch_batches(train, spec.batch, spec.seed)
    with sigterm_noted() as sigterm:
        for step, (pixels, labels) in zip(range(1, spec.steps + 1), batches, strict=False):
            logits = forward(pixels.to(fabric.device)).float()
            loss = task.loss(logits, labels.to(fabric.device))
            train_loss = float(loss.detach())
            _check_finite(train_loss, "loss", spec, step - 1)
            fabric.backward(loss)
            update(model, optimizer, spec.lr * rate(step - 1), GRADIENT_CLIP)
            if sigterm:
                raise SystemExit(SIGTERM_STATUS)
            if step not in validated:
                continue
            val_loss = float(task.loss(logits_of(model, val.pixels), val.labels))
            _check_finite(val_loss, "validation loss", spec, step)
            if val_loss < best_loss:
                best, best_loss = copy.deepcopy(model.state_dict()), val_loss
            curve.append({"step": step, "train_loss": train_loss, "val_loss": val_loss})
            _start_training(model, spec.mode)
    model.load_state_dict(best)
    model.eval()
    return curve


def _start_training(model: FinetuneModel, mode: str) -> None:
    """Training mode; but norms of frozen parts keep their statistics, too."""
    model.train()
    for part in frozen_parts(model, mode):
        part.eval()


def _check_finite(value: float, name: str, spec: FinetuneSpec, step: int) -> None:
    if math.isfinite(value):
        return
    raise GeoladderError(
        f"the {name} of {spec.architecture}-{spec.size} from {spec.corpus} on {spec.task} (n={spec.n}, seed "
        f"{spec.seed}) became {value} at step {step} of {spec.steps}; lower "
        f"finetune.lr.{spec.architecture} (here {spec.lr:.3g})"
    )


def logits_of(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Logits (N, outputs, P, P) float32 on the CPU; leaves the model in evaluation mode."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(part.to(device)).float().cpu() for part in pixels.split(EVALUATION_BATCH)])
