"""Trained models on disk: `model.safetensors` with the weights, `model.json` with all one must know to use them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone
from geoladder.models.build import PretrainModel, build_from
from geoladder.runs.atomic import atomic_path, write_json
from geoladder.study.pretraining import Objective
from geoladder.study.specs import FinetuneSpec

BACKBONE = "backbone."
FEW = 4
"""Names an error message lists of each kind."""


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
        return card | {"objective": _with_targets(card.get("objective"))}
    except (OSError, ValueError) as problem:
        raise GeoladderError(f"{path} is no model card ({problem}); is it a finished run?") from None


def _with_targets(objective: dict[str, Any] | None) -> dict[str, Any] | None:
    """The objective of a card, in today's words where it was written before targets were entries."""
    if objective is None or "targets" in objective:
        return objective
    older = {"geo_weight", "climate_weight", "label_weight", "labels"}
    rasters = {
        name: {"kind": "raster", "weight": objective.get("label_weight", 0.02), **label}
        for name, label in objective.get("labels", {}).items()
    }
    weights = {name: objective.get(f"{name}_weight", 0.0) for name in ("geo", "climate")}
    targets = {name: {"kind": name, "weight": weight} for name, weight in weights.items()} | rasters
    return {key: value for key, value in objective.items() if key not in older} | {"targets": targets}


def _head_name(name: str) -> str:
    """Name of a head's weight today: `geo.bias` was that of `heads.geo.bias`, and `labels.map.bias` of its map."""
    head = name.removeprefix("labels.")
    return name if head.startswith(("heads.", "reconstruction.")) else f"heads.{head}"


def load_backbone(backbone: Backbone, folder: Path, spec: FinetuneSpec) -> None:
    """Load pretrained weights into a backbone, every one of them or none.

    Raises:
        GeoladderError: the checkpoint is missing or damaged, or is not the one `spec` asks for: another run, another
            architecture, size or arguments, another transform of reflectance; or its weights do not fit.
    """
    card = load_card(folder)
    wanted = {key: getattr(spec, key) for key in ("architecture", "size", "model", "transform")}
    for key, value in (wanted | {"fingerprint": spec.pretrained}).items():
        if card.get(key) != value:
            raise GeoladderError(
                f"{folder} is not the checkpoint asked for: its {key} is {card.get(key)}, but {value} is wanted; "
                "make it again with snakemake, or give the right --checkpoint"
            )
    _fill(backbone, folder, card)


def load_trained(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Backbone of a finished run or an exported model, built as its card says, in evaluation mode; and the card.

    Returns:
        The backbone (see geoladder.models.backbone.Backbone) on the CPU, and model.json as a dictionary.

    Raises:
        GeoladderError: a file is missing or damaged, the card describes no architecture of this version, or the
            weights do not fit it: missing, extra or of other shapes.
    """
    card = load_card(folder)
    try:
        architecture, kwargs, bands = card["architecture"], card["model"], card["bands"]
    except KeyError as missing:
        raise GeoladderError(
            f"{folder / 'model.json'} lacks {missing}; was it written by geoladder?"
        ) from None
    with torch.random.fork_rng(devices=[]):
        backbone = build_from(architecture, kwargs, len(bands))
        heads = _fill(backbone, folder, card)
        if heads:
            sizes = Objective.model_validate(card.get("objective") or {}).head_sizes
            _, own_heads = _split(PretrainModel(backbone, len(bands), head_sizes=sizes).state_dict())
            check_fit(f"heads in {folder} do not fit {architecture}-{card.get('size')}", own_heads, heads)
    return backbone.eval(), card


def _fill(backbone: Backbone, folder: Path, card: dict[str, Any]) -> dict[str, Tensor]:
    """Fill a backbone with the weights in a folder; return those of the heads."""
    path = Path(folder) / "model.safetensors"
    try:
        weights, heads = _split(load_file(path))
    except (OSError, SafetensorError) as problem:
        raise GeoladderError(
            f"{path} cannot be read ({problem}); delete the folder and make it again"
        ) from None
    name = f"{card['architecture']}-{card.get('size')}"
    check_fit(f"{path} does not fit {name}", backbone.state_dict(), weights)
    backbone.load_state_dict(weights)
    return heads


def _split(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of the backbone by its own names, and those of the heads."""
    backbone = {name: value for name, value in state.items() if name.startswith(BACKBONE)}
    heads = {_head_name(name): value for name, value in state.items() if name not in backbone}
    return {name.removeprefix(BACKBONE): value for name, value in backbone.items()}, heads


def check_fit(problem: str, model: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Compare names and shapes of a model's state dict and of weights for it.

    Raises:
        GeoladderError: begins with `problem`; counts missing, extra and misshapen weights, the first of each named.
    """
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(model[name].shape)}"
        for name in model
        if name in weights and weights[name].shape != model[name].shape
    ]
    missing = [name for name in model if name not in weights]
    extra = [name for name in weights if name not in model]
    refuse(problem, {"missing": missing, "extra": extra, "of another shape": shapes})


def refuse(problem: str, names: Mapping[str, Sequence[str]]) -> None:
    """Raise GeoladderError where any kind has names: `problem: 7 missing (a, b, c, d, ...); 1 extra (e)`."""
    kinds = [
        f"{len(of_kind)} {kind} ({', '.join([*of_kind[:FEW], *['...'] * (len(of_kind) > FEW)])})"
        for kind, of_kind in names.items()
        if of_kind
    ]
    if kinds:
        raise GeoladderError(f"{problem}: {'; '.join(kinds)}")
