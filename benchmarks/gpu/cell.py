"""One pretraining run by the project's own trainer, on chips in memory: whole, and killed and resumed."""

import os
import signal
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.gpu.check import SEED, Check, Row, at_most, synthetic_batch

from geoladder.data.batches.batch import PretrainBatch
from geoladder.registry.ladder import rung
from geoladder.study.pretraining import Objective
from geoladder.study.specs import PretrainSpec
from geoladder.training.job import Hardware
from geoladder.training.pretrain import Pretraining

KILLED_AT = 0.5
"""Share of the steps after which SIGTERM comes."""
RESUME_LIMIT = {"cpu": 0.0, "cuda": 1e-3}
"""Largest difference of the last loss, as a share of it; sums on a GPU may come in another order."""


def cell(check: Check) -> Iterator[Row]:
    """Train so many steps; the loss must fall, and the run that was killed must end with the same loss."""
    steps, px = check.sized(300, 12), check.sized(128, 16)
    architecture, size = ("vit_upernet", "P16-100M") if not check.dry else ("unet", "xs")
    spec = cell_spec(architecture, size, steps, check.sized(32, 4))
    whole = Losses()
    with tempfile.TemporaryDirectory() as folder:
        run(spec, px, Path(folder), whole)
    killed, resumed = Losses(kill_at=round(KILLED_AT * steps)), Losses()
    with tempfile.TemporaryDirectory() as folder:
        try:
            run(spec, px, Path(folder), killed)
        except SystemExit as problem:
            status = problem.code
        run(spec, px, Path(folder), resumed)
    name, setting = f"{architecture}-{size}", f"{steps} steps"
    yield Row(name, setting, "exit status after SIGTERM", float(status), "", "143", status == 143)
    fall = whole.at(-1) / whole.at(0)
    yield at_most(0.98, name, setting, "last loss over the first", fall, "1")
    miss = abs(resumed.at(-1) / whole.at(-1) - 1)
    yield at_most(
        RESUME_LIMIT[check.device], name, setting, "last loss, killed and resumed against whole", miss, "1"
    )


class Losses:
    """A run's journal (see `geoladder.training.objective.Journal`) of every loss; may send SIGTERM after a step."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.rows: list[dict[str, float]] = []
        self._kill_at = kill_at

    def take_up(self, step: int, rows: list[dict[str, float]]) -> None:
        """Go on from a step with the rows so far."""
        self.rows = rows

    def note(self, step: int, lr: float, loss: float, terms: object) -> None:
        """Keep the loss of a step."""
        self.rows.append({"loss": loss})
        if step == self._kill_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def at(self, step: int) -> float:
        """Loss of a step of the run, -1 for its last."""
        return self.rows[step]["loss"]


class InMemory:
    """A `Source` of synthetic chips: sixteen batches, over and over."""

    def __init__(self, batch: int, px: int) -> None:
        self.side_px = px
        self._batches = [synthetic_batch(batch, px, seed) for seed in range(16)]

    def __len__(self) -> int:
        """Number of chips."""
        return len(self._batches) * len(self._batches[0].pixels)

    def batches(self, first_step: int, rank: int = 0, ranks: int = 1) -> Iterator[PretrainBatch]:
        """Endless batches from `first_step` on; a rank's slice of each."""
        for step in count(first_step):
            yield self._batches[step % len(self._batches)].chunk(ranks)[rank]

    def facts(self, samples: int) -> dict[str, Any]:
        """What a run has seen."""
        return {"unique_chips": len(self), "unique_pixels": len(self) * self.side_px**2}


def cell_spec(architecture: str, size: str, steps: int, batch: int) -> PretrainSpec:
    """A run of so many steps; what it reads is left open."""
    return PretrainSpec(
        corpus="memory", architecture=architecture, size=size, model=rung(architecture, size).kwargs, seed=SEED,
        stats="0", transform="sqrt", batch=batch, lr=1e-3 if size == "xs" else 1e-4, weight_decay=0.05,
        warmup_share=0.1, precision="auto", code=None, fraction=Fraction(1), chips="0", validation_chips=1,
        samples=steps * batch, gradient_clip=1.0, checkpoint_every=max(1, steps // 10), objective=Objective(),
        tensorboard=False,
    )  # fmt: skip


def run(spec: PretrainSpec, px: int, folder: Path, losses: Losses) -> None:
    """Train from the newest checkpoint in `folder`, or from the start."""
    Pretraining(spec, Hardware(), 1, {}).train(InMemory(spec.batch, px), losses, folder, None, progress=False)
