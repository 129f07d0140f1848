r"""Weights from elsewhere, taken under an explicit map from their names to ours; nothing is taken or left silently.

The map is YAML with up to three keys:

    names:                                  # ours: theirs
      encoder.cls: cls_token
    rules:                                  # regular expressions on whole names; the first match wins
      - {theirs: 'blocks\.(\d+)\.attn\.qkv\.(\w+)', ours: 'encoder.blocks.\1.qkv.\2'}
    ignore:                                 # regular expressions on whole names of theirs that are not wanted
      - 'head\..*'
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
import yaml
from pydantic import BeforeValidator, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from geoladder import __version__
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.models.build import build_backbone
from geoladder.registry.ladder import rung
from geoladder.runs.digest import sha256
from geoladder.study.block import Block
from geoladder.training.checkpoints import BACKBONE, check_fit, refuse, save_model


def _compiled(pattern: object) -> object:
    try:
        return re.compile(pattern) if isinstance(pattern, str) else pattern
    except re.error as problem:
        raise ValueError(f"'{pattern}' is no regular expression: {problem}") from None


Pattern = Annotated[re.Pattern[str], BeforeValidator(_compiled)]


class Rule(Block):
    """A regular expression on a whole name of theirs, and our name with its groups put in."""

    theirs: Pattern
    ours: str


class NameMap(Block):
    """Where each of their weights goes."""

    names: dict[str, str] = Field(default_factory=dict)
    rules: list[Rule] = Field(default_factory=list)
    ignore: list[Pattern] = Field(default_factory=list)


def import_weights(state: Path, name_map: Path, architecture: str, size: str, out: Path) -> tuple[int, int]:
    """Write `out`/model.safetensors and model.json, as those of an export, from a backbone's state dict.

    The state is `.safetensors`, or a torch file that holds nothing but tensors by name. model.json has
    `architecture`, `size`, `model`, `bands` (ours; the weights must be of these) and `provenance` (file, sha256,
    map); its `statistics` and `transform` are null, since nothing says what the weights were fed with.

    Returns:
        Number of weights taken, and of weights the map ignores.

    Raises:
        GeoladderError: a file cannot be read, the rung is unknown, or a weight is missing, extra (neither mapped nor
            ignored), given twice, of another shape, or not finite.
    """
    chosen = rung(architecture, size)
    theirs, names = read_state(state), read_map(name_map)
    renamed, ignored = rename(theirs, names, name_map)
    with torch.random.fork_rng(devices=[]):
        ours = build_backbone(architecture, size).state_dict()
    check_fit(f"{state}, renamed by {name_map}, does not fit {architecture}-{size}", ours, renamed)
    check_finite(state, renamed)
    weights = {BACKBONE + name: value.to(ours[name].dtype) for name, value in renamed.items()}
    card = {
        "architecture": architecture,
        "size": size,
        "model": chosen.kwargs,
        "bands": list(BANDS),
        "transform": None,
        "statistics": None,
        "objective": None,
        "provenance": {
            "geoladder": __version__,
            "imported_from": state.name,
            "sha256": sha256(state),
            "map": names.model_dump(mode="json"),
        },
    }
    save_model(weights, card, out)
    return len(weights), ignored


def check_finite(source: Path, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are no numbers; raises GeoladderError that counts them and names the first."""
    refuse(
        f"{source} holds weights that are NaN or infinite",
        {"not finite": [name for name, value in weights.items() if not value.isfinite().all()]},
    )


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name.

    Raises:
        GeoladderError: the file is missing, damaged, or holds something else than tensors by name.
    """
    try:
        is_safe = path.suffix == ".safetensors"
        state = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError) as problem:
        raise GeoladderError(f"{path} cannot be read: {problem}") from None
    except Exception as problem:  # unpickling: errors of any kind
        raise GeoladderError(
            f"{path} is no torch file of tensors alone ({type(problem).__name__}); save its state_dict() by itself"
        ) from problem
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        keys = ", ".join(map(str, state)) if isinstance(state, dict) else type(state).__name__
        raise GeoladderError(
            f"{path} holds no tensors by name, but {keys[:200]}; save its state dict by itself"
        )
    return state


def read_map(path: Path) -> NameMap:
    """Read a map of names; raises GeoladderError where it is missing, no YAML, or of another form."""
    try:
        return NameMap.model_validate(yaml.safe_load(path.read_text()) or {})
    except (OSError, yaml.YAMLError, ValidationError) as problem:
        raise GeoladderError(
            f"{path} is no map of names ({problem}); it has `names` (ours: theirs), `rules` (a list of theirs, ours: "
            "regular expressions) and `ignore` (a list), see docs/checkpoints.md"
        ) from None


def rename(theirs: Mapping[str, Tensor], names: NameMap, source: Path) -> tuple[dict[str, Tensor], int]:
    """Their weights under our names, and how many were ignored.

    Raises:
        GeoladderError: a weight of theirs that nothing maps or ignores, a name of theirs in the map that they do not
            have, two weights for one of ours, or a rule that asks for a group it does not have.
    """
    absent = [name for name in names.names.values() if name not in theirs]
    refuse(f"{source} names weights that are not there", {"missing": absent})
    ours_of = {theirs_name: ours for ours, theirs_name in names.names.items()}
    taken: dict[str, list[str]] = {}
    ignored, extra = list[str](), list[str]()
    for name in theirs:
        ours = ours_of.get(name) or _by_rule(name, names, source)
        if ours:
            taken.setdefault(ours, []).append(name)
        else:
            is_ignored = any(pattern.fullmatch(name) for pattern in names.ignore)
            (ignored if is_ignored else extra).append(name)
    twice = [f"{ours} from {' and '.join(several)}" for ours, several in taken.items() if len(several) > 1]
    refuse(
        f"{source} does not map every weight to a place of its own",
        {"extra, neither mapped nor ignored": extra, "given twice": twice},
    )
    return {ours: theirs[name] for ours, (name,) in taken.items()}, len(ignored)


def _by_rule(name: str, names: NameMap, source: Path) -> str | None:
    for rule in names.rules:
        match = rule.theirs.fullmatch(name)
        try:
            if match:
                return match.expand(rule.ours)
        except (re.error, IndexError) as problem:
            raise GeoladderError(
                f"{source}: '{rule.ours}' asks for a group that '{rule.theirs.pattern}' does not have: {problem}"
            ) from None
    return None
