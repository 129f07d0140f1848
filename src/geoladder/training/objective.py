"""Pretraining objective (arXiv 2506.14765): masked reconstruction, and targets of whole chips; the oracle's labels.

Here are its terms, the errors on the validation set, and the journal of a run.

Rows of the journal travel inside checkpoints, so that a resumed run neither loses nor repeats one.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from lightning.fabric.loggers import TensorBoardLogger

from geoladder.data.batches.batch import PretrainBatch
from geoladder.models.build import PretrainModel, PretrainOutput
from geoladder.registry import TASKS
from geoladder.runs.atomic import atomic_path
from geoladder.study.pretraining import Objective

if TYPE_CHECKING:
    from geoladder.data.batches.chip_store import Chips

ROWS = 100
PROBES = 4
PROBED_SHARE = 4
"""A probe looks at one in so many validation chips."""
WRITE_EVERY_S = 5.0


class PretrainTerms(dict[str, torch.Tensor]):
    """Terms of the objective by name, each a mean over chips.

    They are masked_mse, visible_mse, one of each target and, in nats per pixel, one of each task.
    """

    def total(self, objective: Objective) -> torch.Tensor:
        """Weighted sum."""
        pixels = objective.masked_weight * self["masked_mse"] + objective.visible_weight * self["visible_mse"]
        maps = sum((self[f"{name}_loss"] for name in objective.tasks), pixels)
        return sum(
            (use.weight * self[term_name(name, objective)] for name, use in objective.targets.items()), maps
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
    """Squared error on hidden and on visible pixels apart, and the losses of each target and of each task.

    Every chip hides the same number of pixels, so means over equally large batches pool to the mean over all. For
    the same reason a chip without truth counts as one without error, and so does a pixel without a label.
    """
    error = (output.reconstruction.float() - batch.pixels).square().mean(dim=1, keepdim=True)
    hidden = batch.mask.float()
    terms = PretrainTerms(
        masked_mse=(error * hidden).sum() / hidden.sum().clamp(min=1),
        visible_mse=(error * (1 - hidden)).sum() / (1 - hidden).sum(),
    )
    for name, use in objective.targets.items():
        summed = use.entry.loss(output.targets[name].float(), batch.targets[name])
        terms[term_name(name, objective)] = summed / len(batch.pixels)
    for name in objective.tasks:
        task, labels = TASKS[name], batch.targets[name]
        labelled_share = task.valid(labels).float().mean()
        terms[f"{name}_loss"] = labelled_share * task.loss(output.maps[name].float(), labels)
    return terms


def validate(
    model: PretrainModel, chips: "Chips", objective: Objective, limit: int | None = None
) -> dict[str, float]:
    """Errors on the validation set, or on at most `limit` chips, evenly spaced in it and under the same masks.

    Sums over chips in float64, divided once; the model is put back into its mode.

    Returns:
        `val_masked_mse` and `val_visible_mse` (standardised reflectance squared), the loss of each target
        (`val_geo_mse`, `val_climate_cross_entropy`) and of each task (`val_roads_loss`), `val_loss` (their weighted
        sum), and the metrics of each target (`val_geo_km`, `val_climate_accuracy`).
    """
    positions = np.linspace(0, len(chips) - 1, min(limit or len(chips), len(chips))).astype(np.int64)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    sums = torch.zeros(2 + len(objective.targets) + len(objective.tasks), dtype=torch.float64)
    terms = PretrainTerms()
    outputs: list[dict[str, torch.Tensor]] = []
    truth: list[dict[str, torch.Tensor]] = []
    with torch.inference_mode():
        for cpu_batch in chips.validation_batches(objective, positions):
            batch = cpu_batch.to(device)
            output = model(batch.pixels, batch.mask)
            # Every chip hides as many pixels, so a batch's mean counts as often as the batch has chips.
            terms = pretrain_terms(output, batch, objective)
            sums += len(batch.pixels) * terms.stacked().cpu().double()
            outputs.append({name: values.float().cpu() for name, values in output.targets.items()})
            truth.append(cpu_batch.targets)
    model.train(was_training)
    terms = terms.with_values(sums / positions.size)
    errors = {f"val_{name}": float(value) for name, value in terms.items()}
    errors["val_loss"] = float(terms.total(objective))
    for name, use in objective.targets.items():
        predicted = torch.cat([of_batch[name] for of_batch in outputs]).numpy()
        true = torch.cat([of_batch[name] for of_batch in truth]).numpy()
        metrics = use.entry.metrics(predicted, true, chips.places(positions))
        errors |= {f"val_{name}_{suffix}": value for suffix, value in metrics.items()}
    return errors


class Journal:
    """About a hundred rows, evenly spaced, of step, samples, lr, loss, its terms and samples_per_second.

    Four of them, the probes, also have errors on a part of the validation set, `val_...`. A row describes the state
    after its step: the loss is that of the step's batch before the update. While the run lasts, all rows also stand
    in a file that can be watched, CSV `path` (None on ranks that write none), and on the `board`, if there is one.
    """

    def __init__(
        self,
        path: Path | None,
        steps: int,
        batch: int,
        judge: Callable[[], dict[str, float]],
        board: TensorBoardLogger | None = None,
    ) -> None:
        self._path, self._batch, self._judge, self._board = path, batch, judge, board
        self._every = max(1, steps // ROWS)
        self._probes = {round(steps * (i + 1) / PROBES) for i in range(PROBES)}
        self._written_s = 0.0
        self.take_up(0, [])

    def take_up(self, step: int, rows: list[dict[str, float]]) -> None:
        """Go on from a step with the rows so far; starts the clock of samples_per_second."""
        self.rows, self._since = rows, (step, time.perf_counter())

    def note(self, step: int, lr: float, loss: float, terms: PretrainTerms) -> None:
        """Log a step, where a row is due; all ranks must call this together."""
        is_probe = step in self._probes
        if not (is_probe or step == 1 or step % self._every == 0):
            return
        row = {"step": step, "samples": step * self._batch, "lr": lr, "loss": loss}
        row |= {name: float(value) for name, value in terms.items()}
        first, start = self._since
        row["samples_per_second"] = (step - first) * self._batch / (time.perf_counter() - start)
        if is_probe:
            row |= self._judge()
        self.rows.append(row)
        self._since = (step, time.perf_counter())
        if self._path and time.perf_counter() - self._written_s > WRITE_EVERY_S:
            self.write(self._path)
            self._written_s = time.perf_counter()
        if self._board:
            self._board.log_metrics({name: value for name, value in row.items() if name != "step"}, step)
            self._board.save()

    def write(self, path: Path) -> None:
        """Write all rows so far as CSV; the file is never half-written."""
        with atomic_path(path) as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False)
