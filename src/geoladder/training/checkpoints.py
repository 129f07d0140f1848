"""What training leaves on disk: models, and where a run stands.

A model is `model.safetensors` with the weights, and `model.json` with all one must know to use them. An unfinished
run has `step-<step>.ckpt`: whole tensors, whatever number of devices made them, and never half of a file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict
from torch.distributed.tensor import DTensor, distribute_tensor

from geoladder.data.batches.batch import BandStats
from geoladder.errors import GeoladderError
from geoladder.models.backbone import Backbone
from geoladder.models.build import PretrainModel, build_from
from geoladder.runs.atomic import atomic_path, write_json
from geoladder.runs.digest import discard, intact
from geoladder.runs.remake import remake
from geoladder.study.downstream_specs import FinetuneSpec, LinearSpec
from geoladder.study.pretraining import Objective
from geoladder.training.card import read_card

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
"""Gathered on the CPU of rank 0; the others get nothing, but must ask, too."""
BACKBONE = "backbone."
ENCODER = "encoder."
DECODER_SEED = 0
"""Of the initial weights of a decoder where a model is of the encoder alone, as released ones are."""
FEW = 4
"""Names an error message lists of each kind."""


def save_model(weights: Mapping[str, Tensor], card: dict[str, Any], folder: Path) -> None:
    """Write the weights of a backbone (`backbone.<name>`) and maybe of heads, then the card.

    The card is JSON-able and has at least `architecture`, `size`, `model` (the ladder row's arguments), `transform`,
    `statistics`, of a run its `fingerprint`, and `parts: encoder` where there is no decoder. The folder is made if
    missing.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with atomic_path(folder / "model.safetensors", card.get("fingerprint")) as path:
        # One key: the library writes several in an order of chance, and equal runs have equal files.
        save_file(plain, path, metadata={"format": "pt"})
    # Where weights are of no run, their user may complete the card.
    write_json(folder / "model.json", card, sealed="fingerprint" in card)


def load_card(folder: Path) -> dict[str, Any]:
    """Read model.json; raises GeoladderError where it is missing, damaged or no card."""
    card = read_card(folder)
    return card | {"objective": _with_targets(card.get("objective"))}


def load_weights(folder: Path, card: dict[str, Any]) -> dict[str, Tensor]:
    """Read the model.safetensors that belongs to a card.

    Raises:
        GeoladderError: it is missing, damaged, or of another run.
    """
    path = folder / "model.safetensors"
    try:
        return load_file(intact(path, card.get("fingerprint"), whole=True))
    except (OSError, SafetensorError) as problem:
        raise GeoladderError(f"{path} cannot be read ({problem}); {remake(path)}") from None


def statistics_of(card: dict[str, Any]) -> BandStats:
    """What pixels of a model are standardised with; raises GeoladderError where its card does not say, nor how."""
    if card.get("statistics") is None or card.get("transform") is None:
        raise GeoladderError(
            f"nothing says what pixels {card['architecture']}-{card.get('size')} was fed with: its weights are from "
            "elsewhere; write `statistics` and `transform` into its model.json, as those of a run have them"
        )
    try:
        return BandStats.from_dict(card["statistics"])
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise GeoladderError(
            f"the `statistics` in the model.json of {card['architecture']}-{card.get('size')} are none ({problem}); "
            "take them from the run that made it"
        ) from None


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
    return name if head.startswith(("heads.", "maps.", "reconstruction.")) else f"heads.{head}"


def load_backbone(backbone: Backbone, folder: Path, spec: FinetuneSpec | LinearSpec) -> None:
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
    _fill(backbone, folder, card, load_weights(folder, card))


def load_trained(folder: Path) -> tuple[Backbone, dict[str, Any]]:
    """Backbone of a run or an export, on the CPU, in evaluation mode; its card.

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
    weights = load_weights(folder, card)
    with torch.random.fork_rng(devices=[]):
        with torch.device("meta"):  # a card may ask for more than there is memory
            _check_backbone(build_from(architecture, kwargs, len(bands)), folder, card, _split(weights)[0])
        torch.manual_seed(DECODER_SEED)
        backbone = build_from(architecture, kwargs, len(bands))
        heads = _fill(backbone, folder, card, weights)
        if heads:
            learnt = _objective(folder, card)
            model = PretrainModel(
                backbone, len(bands), head_sizes=learnt.head_sizes, map_sizes=learnt.map_sizes
            )
            _, own_heads = _split(model.state_dict())
            check_fit(f"heads in {folder} do not fit {architecture}-{card.get('size')}", own_heads, heads)
    return backbone.eval(), card


def _objective(folder: Path, card: dict[str, Any]) -> Objective:
    try:
        return Objective.model_validate(card.get("objective") or {})
    except ValidationError as problem:
        raise GeoladderError(
            f"{folder / 'model.json'} has an objective of no run: {problem.errors()[0]['msg']}"
        ) from None


def _fill(
    backbone: Backbone, folder: Path, card: dict[str, Any], state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Fill a backbone with the weights of a folder; return those of the heads.

    Of a card with `parts: encoder` these are the encoder's, and the decoder stays as it is.
    """
    weights, heads = _split(state)
    _check_backbone(backbone, folder, card, weights)
    backbone.load_state_dict(weights, strict="parts" not in card)
    return heads


def _check_backbone(
    backbone: Backbone, folder: Path, card: dict[str, Any], weights: Mapping[str, Tensor]
) -> None:
    wanted = backbone.state_dict()
    if card.get("parts") == "encoder":
        wanted = {name: value for name, value in wanted.items() if name.startswith(ENCODER)}
    name = f"{card['architecture']}-{card.get('size')}"
    check_fit(f"{folder / 'model.safetensors'} does not fit {name}", wanted, weights)


def _split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
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


class Progress(NamedTuple):
    """Where a run stands."""

    step: int
    rows: list[dict[str, float]]
    """of its log."""
    best: dict[str, Tensor]
    """The weights to keep, of a run that looks for the best; else empty."""


def save_progress(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rows: list[dict[str, float]],
    best: Mapping[str, Tensor] = MappingProxyType({}),
) -> None:
    """Write a checkpoint of a whole step, see `Progress`, and remove older ones.

    All ranks must call this together; rank 0 writes.
    """
    weights, moments = get_state_dict(model, optimizer, options=WHOLE)
    if not weights:
        return
    path = folder / f"step-{step:09d}.ckpt"
    state = {"global_step": step, "state_dict": weights, "optimizer_states": [moments]}
    state |= {"callbacks": {"Journal": {"rows": rows}}, "best": dict(best)}
    with atomic_path(path) as temporary:
        torch.save(state, temporary)
    for older in folder.glob("step-*.ckpt"):
        if older != path:
            discard(older)


def newest_checkpoint(folder: Path) -> Path | None:
    """Checkpoint of the highest step in `folder`; None where there is none."""
    return max(folder.glob("step-*.ckpt"), default=None)


def load_progress(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Take up weights and the optimiser's state, also as Lightning's trainer saved them; all ranks together.

    Raises:
        GeoladderError: the file is damaged.
    """
    intact(path, whole=True)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # unpickling damaged bytes raises errors of any kind
        raise GeoladderError(
            f"checkpoint {path} cannot be read ({problem!r}); delete it to train this run from the start"
        ) from problem
    weights = {name.removeprefix("model."): value for name, value in state["state_dict"].items()}
    model.load_state_dict({name: _laid_out(weights[name], like) for name, like in model.state_dict().items()})
    moments = state["optimizer_states"][0]
    # Keys are names or numbers, by who wrote them; the order in each group is the same.
    for group, saved in zip(optimizer.param_groups, moments["param_groups"], strict=True):
        for parameter, key in zip(group["params"], saved["params"], strict=True):
            # A parameter that never had a gradient has no moments.
            optimizer.state[parameter] = {
                name: _laid_out(value, parameter.detach())
                for name, value in moments["state"].get(key, {}).items()
            }
    return Progress(state["global_step"], state["callbacks"]["Journal"]["rows"], state.get("best", {}))


def _laid_out(value: Tensor, like: Tensor) -> Tensor:
    """`value` on the device of `like` and, if it has its shape, shared out and in the order of memory as that is.

    A fused optimiser walks weights and moments as plain memory, without a look at their strides, and those of FSDP
    are contiguous where those of one device are channels-last.
    """
    if value.shape != like.shape:
        return value.to(like.device)
    if isinstance(like, DTensor):
        value = distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return torch.empty_like(like).copy_(value)
