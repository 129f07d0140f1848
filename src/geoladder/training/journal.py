"""The log of a pretraining run: about a hundred rows, evenly spaced, and a look at the validation set now and then.

Unusual: rows travel inside the checkpoint, so that a resumed run neither loses nor repeats one, which Lightning's own
CSVLogger cannot promise. While the run lasts, they also stand in a file that can be watched.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
from lightning.pytorch.callbacks import Callback

from geoladder.data.batches.stream import Chips
from geoladder.models.heads import PretrainModel
from geoladder.runs.atomic import atomic_path
from geoladder.study.pretraining import Objective
from geoladder.training.validate import validate

ROWS = 100
PROBES = 4
PROBED_SHARE = 4
"""A probe looks at one in so many validation chips."""
WRITE_EVERY_S = 5.0


class Journal(Callback):
    """Collects rows of step, samples, lr, loss, its terms and samples_per_second; at probes also `val_...`.

    A row describes the state after its step: the loss is that of the step's batch before the update.
    """

    def __init__(self, path: Path, steps: int, batch: int, chips: Chips, objective: Objective) -> None:
        """Log into CSV `path` (on rank 0) a run of so many steps, judged on validation set `chips`."""
        self._path, self._steps, self._batch = path, steps, batch
        self._chips, self._objective = chips, objective
        self._every = max(1, steps // ROWS)
        self._probes = {round(steps * (i + 1) / PROBES) for i in range(PROBES)}
        self._rows: list[dict[str, float]] = []
        self._since = (0, 0.0)
        self._written_s = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock of samples_per_second."""
        self._since = (trainer.global_step, time.perf_counter())

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Mapping[str, Any] | Any,  # noqa: ANN401  (Lightning's own signature)
        batch: object,
        batch_idx: int,
    ) -> None:
        """Lightning calls this after every step, with what `training_step` returned."""
        step = trainer.global_step
        is_probe = step in self._probes
        if not (is_probe or step == 1 or step % self._every == 0):
            return
        row = {
            "step": step,
            "samples": step * self._batch,
            "lr": outputs["lr"],
            "loss": float(outputs["loss"]),
        }
        row |= {name: float(value) for name, value in outputs["terms"].items()}
        row["samples_per_second"] = self._speed(step)
        if is_probe and trainer.is_global_zero:
            model = pl_module.get_submodule("model")
            assert isinstance(model, PretrainModel)
            row |= validate(model, self._chips, self._objective, len(self._chips) // PROBED_SHARE + 1)
        self._rows.append(row)
        self._since = (step, time.perf_counter())
        if trainer.is_global_zero and time.perf_counter() - self._written_s > WRITE_EVERY_S:
            self.write(self._path)
            self._written_s = time.perf_counter()
        if trainer.logger is not None:
            trainer.logger.log_metrics({k: v for k, v in row.items() if k != "step"}, step=step)

    def _speed(self, step: int) -> float:
        first, start = self._since
        return (step - first) * self._batch / (time.perf_counter() - start)

    def write(self, path: Path) -> None:
        """Write all rows so far as CSV; the file is never half-written."""
        with atomic_path(path) as temporary:
            pd.DataFrame(self._rows).to_csv(temporary, index=False)

    def state_dict(self) -> dict[str, Any]:
        """What Lightning puts into a checkpoint."""
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the log up where a checkpoint left it."""
        self._rows = list(state_dict["rows"])
