"""Pretraining objective (arXiv 2506.14765): masked reconstruction, and targets of whole chips.

Here are its terms, the errors on the validation set, and the journal of a run.

Rows of the journal travel inside checkpoints, so that a resumed run neither loses nor repeats one, which Lightning's
own CSVLogger cannot promise.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback

from geoladder.data.batches.batch import PretrainBatch
from geoladder.data.batches.chip_store import Chips
from geoladder.models.build import PretrainModel, PretrainOutput
from geoladder.runs.atomic import atomic_path
from geoladder.study.pretraining import Objective

ROWS = 100
PROBES = 4
PROBED_SHARE = 4
"""A probe looks at one in so many validation chips."""
WRITE_EVERY_S = 5.0


class PretrainTerms(dict[str, torch.Tensor]):
    """Terms of the objective by name, each a mean over chips: masked_mse, visible_mse, and one of each target."""

    def total(self, objective: Objective) -> torch.Tensor:
        """Weighted sum."""
        pixels = objective.masked_weight * self["masked_mse"] + objective.visible_weight * self["visible_mse"]
        return sum(
            (use.weight * self[term_name(name, objective)] for name, use in objective.targets.items()), pixels
        )

    def stacked(self) -> torch.Tensor:
        """(terms,) values, for sums over batches and devices."""
        return torch.stack(list(self.values()))

    def with_values(self, values: torch.Tensor) -> "PretrainTerms":
        """The same terms with other values (terms,)."""
        return PretrainTerms(zip(self, values, strict=True))


def term_name(target: str, objective: Objective) -> str:
    """Name of a target's term, such as `geo_mse`."""
    return f"{target}_{objective.targets[target].entry.measure}"


def pretrain_terms(output: PretrainOutput, batch: PretrainBatch, objective: Objective) -> PretrainTerms:
    """Squared error on hidden and on visible pixels apart, and the loss of each target.

    Every chip hides the same number of pixels, so means over equally large batches pool to the mean over all. For
    the same reason a chip without truth counts as one without error.

    Args:
        output: of the model.
        batch: what it should have been.
        objective: its targets.
    """
    error = (output.reconstruction.float() - batch.pixels).square().mean(dim=1, keepdim=True)
    hidden = batch.mask.float()
    terms = PretrainTerms(
        masked_mse=(error * hidden).sum() / hidden.sum(),
        visible_mse=(error * (1 - hidden)).sum() / (1 - hidden).sum(),
    )
    for name, use in objective.targets.items():
        summed = use.entry.loss(output.targets[name].float(), batch.targets[name])
        terms[term_name(name, objective)] = summed / len(batch.pixels)
    return terms


def validate(
    model: PretrainModel, chips: Chips, objective: Objective, limit: int | None = None
) -> dict[str, float]:
    """Errors on the validation set: sums over chips in float64, divided once.

    Args:
        model: on any device; put back into its mode afterwards.
        chips: the validation set.
        objective: block size and ratio of the masks, targets, weights of `val_loss`.
        limit: at most so many chips, evenly spaced in the set, under the same masks as in the whole set.

    Returns:
        `val_masked_mse` and `val_visible_mse` (standardised reflectance squared), the loss of each target
        (`val_geo_mse`, `val_climate_cross_entropy`), `val_loss` (their weighted sum), and the metrics of each target
        (`val_geo_km`, `val_climate_accuracy`).
    """
    positions = np.linspace(0, len(chips) - 1, min(limit or len(chips), len(chips))).astype(np.int64)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    sums = torch.zeros(2 + len(objective.targets), dtype=torch.float64)
    outputs: dict[str, list[np.ndarray]] = {name: [] for name in objective.targets}
    truth: dict[str, list[np.ndarray]] = {name: [] for name in objective.targets}
    terms = PretrainTerms()
    with torch.inference_mode():
        for cpu_batch in chips.validation_batches(objective, positions):
            batch = cpu_batch.to(device)
            output = model(batch.pixels, batch.mask)
            # Every chip hides as many pixels, so a batch's mean counts as often as the batch has chips.
            terms = pretrain_terms(output, batch, objective)
            sums += len(batch.pixels) * terms.stacked().cpu().double()
            for name, values in output.targets.items():
                outputs[name].append(values.float().cpu().numpy())
                truth[name].append(cpu_batch.targets[name].numpy())
    model.train(was_training)
    terms = terms.with_values(sums / positions.size)
    errors = {f"val_{name}": float(value) for name, value in terms.items()}
    errors["val_loss"] = float(terms.total(objective))
    for name, use in objective.targets.items():
        metrics = use.entry.metrics(
            np.concatenate(outputs[name]), np.concatenate(truth[name]), chips.places(positions)
        )
        errors |= {f"val_{name}_{suffix}": value for suffix, value in metrics.items()}
    return errors


class Journal(Callback):
    """About a hundred rows, evenly spaced, of step, samples, lr, loss, its terms and samples_per_second.

    Four of them, the probes, also have errors on a part of the validation set, `val_...`. A row describes the state
    after its step: the loss is that of the step's batch before the update. While the run lasts, all rows also stand
    in a file that can be watched.
    """

    def __init__(
        self,
        path: Path,
        steps: int,
        batch: int,
        chips: Chips,
        objective: Objective,
        whole_model: Callable[[], PretrainModel],
    ) -> None:
        """Log into CSV `path` (on rank 0) a run of so many steps, judged on validation set `chips`.

        All ranks call `whole_model` together, for the model of the moment.
        """
        self._path, self._batch, self._whole_model = path, batch, whole_model
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
        if is_probe:
            model = self._whole_model()  # on all ranks
            if trainer.is_global_zero:
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
