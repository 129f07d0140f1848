"""Models of a task, fine-tuned or linear, on disk: all that a map needs is in one folder.

`model.safetensors` has the weights of backbone and head, `model.json` says what they are and what pixels they take.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geoladder.counting import count_parameters
from geoladder.data.batches.batch import BandStats
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.models.build import FinetuneModel, LinearModel, RawDensityModel, build_from
from geoladder.registry import TASKS
from geoladder.registry.task import Task
from geoladder.runs.provenance import birth_certificate
from geoladder.study.downstream_specs import FinetuneSpec, LinearSpec
from geoladder.training.checkpoints import check_fit, load_card, load_weights, save_model, statistics_of


def save_tuned(
    model: nn.Module, spec: FinetuneSpec | LinearSpec, stats: BandStats, patch_px: int, folder: Path
) -> None:
    """Write a tuned model and its card.

    The card has also `task`, `categories`, `mode`, `harmonise`, `patch_px` and the run's spec. `stats` are those the
    model's pixels were standardised with, `patch_px` is the side of the patches it was tuned on. The folder is made
    if missing.
    """
    card = {
        "architecture": spec.architecture,
        "size": spec.size,
        "model": spec.model,
        "bands": list(BANDS),
        "task": spec.task,
        "categories": _categories(TASKS[spec.task]),
        "mode": spec.mode,
        "transform": spec.transform,
        "harmonise": spec.harmonise,
        "statistics": stats.as_dict(),
        "patch_px": patch_px,
        "parameters": count_parameters(model),
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": birth_certificate(spec.fingerprint),
    }
    save_model(model.state_dict(), card, folder)


def load_tuned(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A tuned model on the CPU, in evaluation mode, and its card.

    The model takes (B, 10, H, W) pixels standardised by the card's statistics, and gives what the task's
    `prediction` takes.

    Raises:
        GeoladderError: a file is missing or damaged, the model has no task (a pretraining run), its task is none of
            this version or has other classes there, or the weights do not fit.
    """
    card = load_card(folder)
    if "task" not in card:
        raise GeoladderError(
            f"{folder} is a pretrained {card.get('architecture')}-{card.get('size')} without a task; give the folder "
            "of a fine-tuned or linear model, which a study keeps as its finetune.keep and linear.keep say"
        )
    path, weights = folder / "model.safetensors", load_weights(folder, card)
    try:
        task, categories = TASKS[card["task"]], card["categories"]
        statistics_of(card)
        with torch.random.fork_rng(devices=[]):
            backbone = build_from(card["architecture"], card["model"], len(card["bands"]))
            kind = RawDensityModel if _is_raw(card["spec"], task) else FinetuneModel
            model: nn.Module = (
                LinearModel(backbone, weights["head.weight"].shape[1], task.outputs)
                if card["mode"] == "linear"
                else kind(backbone, task.outputs)
            )
    except (KeyError, TypeError) as problem:
        raise GeoladderError(
            f"{folder / 'model.json'} is no card of a tuned model ({problem!r}); was it written by geoladder?"
        ) from None
    if categories != _categories(task):
        raise GeoladderError(
            f"{folder} was trained for the classes {categories} of '{task.name}', but these are now "
            f"{_categories(task)}; take the version of geoladder it was made with, or train it again"
        )
    check_fit(f"{path} does not fit {card['architecture']}-{card.get('size')}", model.state_dict(), weights)
    model.load_state_dict(weights)
    return model.eval(), card


def _is_raw(spec: Mapping[str, Any], task: Task) -> bool:
    """Whether a model's outputs are densities themselves: it was trained by their squared errors."""
    return spec.get("loss") == "mse" and task.outputs == 1


def _categories(task: Task) -> list[list[int | str]]:
    """Stored number and name of each class, as JSON has them."""
    return [[number, name] for number, (name, _) in task.layer.categories.items()]
