"""Trained models on disk: `model.safetensors` with the weights, `model.json` with all one must know to use them."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from geoladder.atomic import atomic_path, write_json
from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone, module
from geoladder.models.heads import PretrainModel
from geoladder.specs import FinetuneSpec

BACKBONE = "backbone."


def save_model(model: PretrainModel, card: dict[str, Any], folder: Path) -> None:
    """Write the weights of backbone and heads, then the card.

    Args:
        model: weights on any device.
        card: JSON-able; at least `architecture`, `size`, `model` (the ladder row's arguments), `transform`,
            `statistics` and the run's `fingerprint`.
        folder: made if missing.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic_path(folder / "model.safetensors") as path:
        save_file(
            weights, path, metadata={"format": "pt", "architecture": f"{card['architecture']}-{card['size']}"}
        )
    write_json(folder / "model.json", card)


def load_card(folder: Path) -> dict[str, Any]:
    """Read model.json.

    Raises:
        GeoladderError: missing or damaged.
    """
    path = Path(folder) / "model.json"
    try:
        card: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise GeoladderError(f"{path} is no model card ({problem}); is it a finished run?") from None
    return card


def load_backbone(backbone: Backbone, folder: Path, spec: FinetuneSpec) -> None:
    """Load pretrained weights into a backbone, every one of them or none.

    Raises:
        GeoladderError: the checkpoint is missing or damaged, or is not the one `spec` asks for: another run, another
            architecture, size or arguments, another transform of reflectance; or its weights do not fit.
    """
    card = load_card(folder)
    asked = {
        "architecture": spec.architecture,
        "size": spec.size,
        "model": spec.model,
        "transform": spec.transform,
        "fingerprint": spec.pretrained,
    }
    for key, value in asked.items():
        if card.get(key) != value:
            raise GeoladderError(
                f"{folder} is not the checkpoint asked for: its {key} is {card.get(key)}, but {value} is wanted; "
                "make it again with snakemake, or give the right --checkpoint"
            )
    path = Path(folder) / "model.safetensors"
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as problem:
        raise GeoladderError(
            f"{path} cannot be read ({problem}); delete the folder and train again"
        ) from None
    own = {name.removeprefix(BACKBONE): value for name, value in weights.items() if name.startswith(BACKBONE)}
    try:
        module(backbone).load_state_dict(own, strict=True)
    except RuntimeError as problem:
        raise GeoladderError(f"{path} does not fit {spec.architecture}-{spec.size}: {problem}") from None
