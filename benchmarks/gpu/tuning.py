"""A short fine-tuning and its evaluation, by the project's own code, on labelled patches in memory."""

from collections.abc import Iterator

import numpy as np
import torch
from benchmarks.gpu.check import SEED, Check, Row, at_most, synthetic_batch

from geoladder.data.batches.batch import BandStats, Moments
from geoladder.data.labels.bands import BANDS, DN_PER_REFLECTANCE
from geoladder.models.build import FinetuneModel, build_backbone
from geoladder.registry import TASKS
from geoladder.registry.ladder import rung
from geoladder.study.downstream_specs import FinetuneSpec
from geoladder.training.augmentation import Augmentation
from geoladder.training.criterion import Criterion
from geoladder.training.job import Hardware
from geoladder.training.patches import Patches
from geoladder.training.score import Score
from geoladder.training.tuning import Tuning, outputs_of


def tuning(check: Check) -> Iterator[Row]:
    """Learn a density that is a band, from eight patches; the validation loss must fall."""
    steps, px = check.sized(100, 8), check.sized(128, 16)
    architecture, size = ("vit_upernet", "P16-100M") if not check.dry else ("unet", "xs")
    train, val = patches(8, px, SEED), patches(8, px, SEED + 1)
    task = TASKS["roads"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = FinetuneModel(build_backbone(architecture, size), task.outputs, task.prior(train.labels))
    spec = FinetuneSpec(
        corpus="memory", architecture=architecture, size=size, model=rung(architecture, size).kwargs, seed=SEED,
        stats="0", transform="linear", batch=8, lr=1e-2 if check.dry else 1e-4, weight_decay=0.05, warmup_share=0.1,
        precision="auto", code=None, task="roads", n=8, subset="0", bench="0", harmonise="none", test_patches=8,
        pretrained=None, steps=steps, validations=4, mode="full",
    )  # fmt: skip
    criterion, turns = (
        Criterion(task, spec, train.labels),
        Augmentation("turns", SEED, torch.zeros(10), False),
    )
    curve = Tuning(model, spec, criterion, turns, Hardware()).train(train, val)
    score = Score(task)
    score.update(task.prediction(outputs_of(model, val.pixels())), val.labels, val.buckets, val.tiles)
    metrics = score.result()["metrics"]
    name, setting = f"{architecture}-{size}", f"{steps} steps"
    fall = min(point["val_loss"] for point in curve) / curve[0]["val_loss"]
    yield at_most(1.0, name, setting, "best validation loss over the first", fall, "1")
    finite = all(np.isfinite(value) for value in metrics.values())
    yield Row(name, setting, task.error, metrics[task.error], "", "all metrics finite", finite)


def patches(count: int, px: int, seed: int) -> Patches:
    """Smooth images whose label is their first band, squashed to 0..1."""
    pixels = synthetic_batch(count, px, seed).pixels
    moments = Moments([0.5] * len(BANDS), [0.1] * len(BANDS))
    dn = (DN_PER_REFLECTANCE * (0.5 + 0.1 * pixels)).round().clamp(0, 2**16 - 1).to(torch.uint16)
    names = (np.array(["memory"] * count),) * 2
    stats = BandStats(list(BANDS), moments, moments, 0, "0")
    return Patches(dn, torch.zeros(count, dtype=torch.int64), pixels[:, 0].sigmoid(), *names, stats, "linear")
