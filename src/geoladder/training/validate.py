"""Judging a pretrained model on the common validation set."""

import numpy as np
import torch

from geoladder.data.batches.batch import PretrainBatch
from geoladder.data.batches.stream import Chips, validation_batches
from geoladder.data.labels.label_rasters import UNKNOWN
from geoladder.data.labels.targets import decode_geo, great_circle_km
from geoladder.models.heads import PretrainModel
from geoladder.study.pretraining import Objective
from geoladder.training.losses import PretrainTerms, pretrain_terms, split_labels


def validate(
    model: PretrainModel, chips: Chips, objective: Objective, limit: int | None = None
) -> dict[str, float]:
    """Errors on the validation set: sums over chips in float64, divided once.

    Args:
        model: on any device; put back into its mode afterwards.
        chips: the validation set.
        objective: block size and ratio of the masks, weights of `val_loss`.
        limit: at most so many chips, evenly spaced in the set, under the same masks as in the whole set.

    Returns:
        `val_masked_mse` and `val_visible_mse` (standardised reflectance squared), `val_geo_mse`,
        `val_climate_cross_entropy`, `val_loss` (their weighted sum), `val_geo_km` (median great-circle error) and
        `val_climate_accuracy`; with further maps `val_label_cross_entropy`, and `val_<map>_accuracy` of each
        in which any chip has a label.
    """
    numbers = np.linspace(0, len(chips) - 1, min(limit or len(chips), len(chips))).astype(np.int64)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    sums = np.zeros(len(PretrainTerms._fields))
    right = 0
    sizes = objective.label_sizes.values()
    label_right, labelled = np.zeros(len(objective.labels)), np.zeros(len(objective.labels))
    geo = []
    with torch.inference_mode():
        for cpu_batch in validation_batches(objective, chips, numbers):
            batch = PretrainBatch(*(part.to(device) for part in cpu_batch))
            output = model(batch.pixels, batch.mask)
            # Every chip hides as many pixels, so a batch's mean counts as often as the batch has chips.
            pooled = pretrain_terms(output, batch, sizes)
            sums += len(batch.pixels) * np.array([float(term) for term in pooled])
            right += int((output.climate_logits.argmax(dim=1) == batch.climate).sum())
            for column, logits in enumerate(split_labels(output, sizes)):
                label = batch.labels[:, column]
                label_right[column] += int((logits.argmax(dim=1) == label).sum())
                labelled[column] += int((label != UNKNOWN).sum())
            geo.append(output.geo.float().cpu().numpy())
    model.train(was_training)
    terms = PretrainTerms(*torch.from_numpy(sums / numbers.size))
    lat_deg, lon_deg = decode_geo(np.concatenate(geo))
    found = {
        "val_masked_mse": float(terms.masked_mse),
        "val_visible_mse": float(terms.visible_mse),
        "val_geo_mse": float(terms.geo_mse),
        "val_climate_cross_entropy": float(terms.climate_cross_entropy),
        "val_loss": float(terms.total(objective)),
        "val_geo_km": float(np.median(great_circle_km(lat_deg, lon_deg, *chips.places_deg[numbers].T))),
        "val_climate_accuracy": right / numbers.size,
    }
    if objective.labels:
        found["val_label_cross_entropy"] = float(terms.label_cross_entropy)
    found |= {
        f"val_{name}_accuracy": correct / known
        for name, correct, known in zip(objective.labels, label_right, labelled, strict=True)
        if known
    }
    return found
