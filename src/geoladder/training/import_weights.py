"""Weights from elsewhere, taken whole under an explicit map (`geoladder.training.name_map`), or not at all."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from geoladder import __version__
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.models.build import build_backbone
from geoladder.registry.ladder import rung
from geoladder.runs.digest import sha256
from geoladder.training.checkpoints import BACKBONE, DECODER_SEED, check_fit, refuse, save_model
from geoladder.training.name_map import read_map, rename

log = logging.getLogger(__name__)

NESTS = ("state_dict", "model_state_dict", "module", "model")
"""Keys at which Lightning, many scripts, DeepSpeed and others keep the weights."""


def import_weights(state: Path, name_map: Path, architecture: str, size: str, out: Path) -> tuple[int, int]:
    """Write `out`/model.safetensors and model.json, as those of an export, from a backbone's state dict.

    The state is `.safetensors`, or a torch file that holds nothing but tensors and plain values. model.json has
    `architecture`, `size`, `model`, `bands` (ours; the weights must be of these) and `provenance` (file, sha256,
    map, and `initial`: names of ours that were not given, which the map allows, and are as a seed of 0 starts them);
    its `statistics` and `transform` are null, since nothing says what the weights were fed with.

    Returns:
        Number of weights taken, and of weights the map ignores. The log names those of ours that stay as they start.

    Raises:
        GeoladderError: a file cannot be read, the rung is unknown, or a weight is missing, extra (neither mapped nor
            ignored), given twice, of another shape, of another kind of number, or not finite.
    """
    chosen = rung(architecture, size)
    names = read_map(name_map)
    renamed, ignored = rename(read_state(state, names.key), names, name_map)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(DECODER_SEED)
        ours = build_backbone(architecture, size).state_dict()
    initial = sorted(names.may_be_initial(ours.keys() - renamed.keys()))
    given = {name: value for name, value in ours.items() if name not in initial}
    check_fit(f"{state}, renamed by {name_map}, does not fit {architecture}-{size}", given, renamed)
    weights = ours | cast_weights(state, renamed, ours)
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
            "initial": initial,
        },
    }
    save_model({BACKBONE + name: value for name, value in weights.items()}, card, out)
    if initial:
        log.info("%d weights stay as a seed starts them: %s", len(initial), ", ".join(initial))
    return len(renamed), ignored


def cast_weights(
    source: Path, weights: Mapping[str, Tensor], like: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Weights in the dtypes of `like`, which has all of their names.

    Raises:
        GeoladderError: weights are of another kind of number (integers of a quantised model, complex numbers, sparse
            ones), or not finite in the dtype of ours; counts them and names the first.
    """
    other_kind = [name for name, value in weights.items() if _kind(value) != _kind(like[name])]
    refuse(
        f"{source} holds weights of another kind of number than ours, such as those of a quantised model",
        {f"not of {dtype}": names for dtype, names in _by_dtype(other_kind, like).items()},
    )
    cast = {name: value.to(like[name].dtype) for name, value in weights.items()}
    refuse(
        f"{source} holds weights that are NaN or infinite",
        {"not finite": [name for name, value in cast.items() if not value.isfinite().all()]},
    )
    return cast


def _kind(value: Tensor) -> tuple[bool, bool, bool]:
    """What must be alike: floating, complex, and laid out as plain numbers."""
    plain = value.layout == torch.strided and not value.is_quantized
    return value.is_floating_point(), value.is_complex(), plain


def _by_dtype(names: list[str], like: Mapping[str, Tensor]) -> dict[torch.dtype, list[str]]:
    dtypes = dict.fromkeys(like[name].dtype for name in names)
    return {dtype: [name for name in names if like[name].dtype == dtype] for dtype in dtypes}


def read_state(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Tensors by name, of the whole file or of what it holds at `key`, such as `state_dict` or `model.state_dict`.

    Raises:
        GeoladderError: the file is missing, damaged, has no such key, or holds something else than tensors by name.
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
    if key is not None:
        state = _at(state, key, path)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        nests = [name for name in NESTS if isinstance(state, dict) and isinstance(state.get(name), dict)]
        way = f"write `key: {nests[0]}` into the map" if nests else "save its state dict by itself"
        keys = ", ".join(map(str, state)) if isinstance(state, dict) else type(state).__name__
        raise GeoladderError(f"{path} holds no tensors by name, but {keys[:200]}; {way}")
    return state


def _at(state: object, key: str, path: Path) -> object:
    """What a file holds at a key, or at keys with dots between them."""
    if isinstance(state, dict) and key in state:
        return state[key]
    first, _, rest = key.partition(".")
    if rest and isinstance(state, dict) and first in state:
        return _at(state[first], rest, path)
    keys = ", ".join(map(str, state)) if isinstance(state, dict) else type(state).__name__
    raise GeoladderError(
        f"{path} has no key '{key}', but {keys[:200]}; mend `key` of the map, or leave it out"
    )
