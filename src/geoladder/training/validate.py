"""Judging a pretrained model on the common validation set."""

import numpy as np
import torch

from geoladder.data.batches.chip_store import Chips
from geoladder.models.heads import PretrainModel
from geoladder.study.pretraining import Objective
from geoladder.training.losses import PretrainTerms, pretrain_terms


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
