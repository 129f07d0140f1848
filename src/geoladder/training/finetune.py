"""One fine-tuning run: a few labelled patches in, test errors of the best state out.

Unusual: the best state by validation loss is kept as a copy and truly restored (a `state_dict()` alone is a view of
weights that training goes on changing). Every arm of a study gets the same patches, the same order, the same
turns and, for one architecture, the same initial head at the same seed.
"""

import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import nn

from geoladder.counting import count_parameters, gflops_fwd
from geoladder.data.batches.batch import BandStats
from geoladder.data.bench.nshot import test_rows
from geoladder.data.bench.reader import Bench
from geoladder.errors import GeoladderError
from geoladder.models.build import FinetuneModel, build_backbone
from geoladder.registry import TASKS
from geoladder.runs.atomic import atomic_path, write_json
from geoladder.runs.provenance import birth_certificate, code_fingerprint
from geoladder.study.specs import FinetuneSpec
from geoladder.training.checkpoints import load_backbone
from geoladder.training.optimisation import adamw, per_step
from geoladder.training.patches import Patches, patch_batches, read_patches, subset_of
from geoladder.training.trainer import fit, make_trainer

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

    Args:
        spec: the run.
        bench: folder of the bench.
        index: its index.
        stats: stats.json.
        checkpoint: folder of a pretraining run; None to start from scratch.
        out: result, JSON; predictions at a few fixed test patches go beside it, `.npz`: test_patch (row of
            `test_rows`), predicted and label, (8, P, P).
        threads: CPU threads.
        indices: official index file to take the patches from; None to draw them by seed.

    Raises:
        GeoladderError: n above the pool of a bucket, a checkpoint or index file that does not fit, a loss that is not
            a number.
        SystemExit: after SIGTERM.
    """
    torch.set_num_threads(threads)
    start, task = time.perf_counter(), TASKS[spec.task]
    opened = Bench(bench, index, spec.harmonise)
    subset = subset_of(opened, spec, indices)
    band_stats = BandStats.load(stats)
    train, val, test = (
        read_patches(opened, rows, spec, band_stats)
        for rows in (subset.train_rows, subset.val_rows, test_rows(opened, spec.task, spec.test_patches))
    )
    model = build_model(spec, checkpoint, train.labels)
    curve = train_best(model, spec, train, val)
    predicted = task.prediction(logits_of(model, test.pixels))
    code = code_fingerprint("finetune", spec.architecture, spec.task)
    result = {
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": birth_certificate(spec.fingerprint, code),
        "metrics": task.metrics(predicted, test.labels),
        "by_bucket": task.by_bucket(predicted, test.labels, test.buckets),
        "validation": curve,
        "parameters": count_parameters(model),
        "gflops_fwd": gflops_fwd(model, test.pixels.shape[-1]),
        "train_patches": len(train.pixels),
        "val_patches": len(val.pixels),
        "test_patches": len(test.pixels),
        "steps": spec.steps,
        "samples_seen": spec.steps * spec.batch,
        "lr": spec.lr,
        "seconds": time.perf_counter() - start,
    }
    _write(result, task.as_map(predicted), test.labels, out)


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
    module = FinetuneModule(spec, model, train, val)
    fit(make_trainer(spec.steps, spec.precision, GRADIENT_CLIP), module)
    model.load_state_dict(module.best)
    model.eval()
    return module.curve


class FinetuneModule(lightning.LightningModule):
    """The model and its task, as Lightning wants them.

    Attributes:
        best: copy of the state of lowest validation loss so far.
        curve: one entry per validation.
    """

    def __init__(self, spec: FinetuneSpec, model: FinetuneModel, train: Patches, val: Patches) -> None:
        """Take over a model whose frozen parts already take no gradient."""
        super().__init__()
        self.spec, self.model, self._task = spec, model, TASKS[spec.task]
        self._train, self._val = train, val
        self._checked = {round(spec.steps * (i + 1) / spec.validations) for i in range(spec.validations)}
        self._best_loss = math.inf
        self.best = copy.deepcopy(model.state_dict())
        self.curve: list[dict[str, float]] = []

    def train_dataloader(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of pixels and labels."""
        return patch_batches(self._train, self.spec.batch, self.spec.seed)

    def configure_optimizers(self) -> Any:  # noqa: ANN401  (Lightning's own union type)
        """AdamW with a warmed-up cosine per step."""
        optimizer = adamw(self.model, self.spec.lr, self.spec.weight_decay, BETAS)
        return per_step(optimizer, self.spec.steps, self.spec.warmup_share)

    def on_train_start(self) -> None:
        """Put frozen parts in evaluation mode: their norms keep their statistics, too."""
        self.model.train()
        for part in frozen_parts(self.model, self.spec.mode):
            part.eval()

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """Loss of one batch; raises GeoladderError when it is not finite."""
        pixels, labels = batch
        loss = self._task.loss(self.model(pixels), labels)
        self._check_finite(float(loss.detach()), "loss")
        return loss

    def on_train_batch_end(self, outputs: Any, batch: object, batch_idx: int) -> None:  # noqa: ANN401
        """Validate where it is due."""
        if self.global_step not in self._checked:
            return
        val_loss = float(self._task.loss(logits_of(self.model, self._val.pixels), self._val.labels))
        self._check_finite(val_loss, "validation loss")
        self.curve.append(
            {"step": self.global_step, "train_loss": float(outputs["loss"]), "val_loss": val_loss}
        )
        if val_loss < self._best_loss:
            self.best, self._best_loss = copy.deepcopy(self.model.state_dict()), val_loss
        self.on_train_start()

    def _check_finite(self, value: float, name: str) -> None:
        if math.isfinite(value):
            return
        spec = self.spec
        raise GeoladderError(
            f"the {name} of {spec.architecture}-{spec.size} from {spec.corpus} on {spec.task} (n={spec.n}, seed "
            f"{spec.seed}) became {value} at step {self.global_step} of {spec.steps}; lower "
            f"finetune.lr.{spec.architecture} (here {spec.lr:.3g})"
        )


def logits_of(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Logits (N, outputs, P, P) float32 on the CPU; leaves the model in evaluation mode."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(part.to(device)).float().cpu() for part in pixels.split(EVALUATION_BATCH)])


def _write(result: dict[str, Any], maps: torch.Tensor, labels: torch.Tensor, out: Path) -> None:
    shown = np.linspace(0, len(labels) - 1, min(SHOWN_PATCHES, len(labels))).astype(np.int64)
    with atomic_path(out.with_suffix(".npz")) as path:
        np.savez_compressed(
            path, test_patch=shown, predicted=maps[shown].numpy(), label=labels[shown].numpy()
        )
    write_json(out, result)
