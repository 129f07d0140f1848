"""Weights of external models, from the file their authors released to a checkpoint of ours.

The file is `.safetensors`, or a torch file of tensors alone (a pickle of anything else is refused), on this machine
or on the Hugging Face hub at a pinned revision. Names become ours by the rules of the model's entry
(`geoladder.registry.architecture.Release`): every weight of the encoder must be given, and every one of theirs used
or ignored by name. Decoders are not released, and stay as a run's seed makes them.
"""

from pathlib import Path

import torch
from torch import Tensor

from geoladder import __version__
from geoladder.data.batches.batch import Moments
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.models.build import build_from
from geoladder.registry.architecture import Release
from geoladder.runs.digest import sha256
from geoladder.study.downstream_specs import ReleasedSpec
from geoladder.training.checkpoints import BACKBONE, ENCODER, check_fit, save_model
from geoladder.training.hub import fetch
from geoladder.training.import_weights import cast_weights, read_state
from geoladder.training.name_map import NameMap, Rule, rename
from geoladder.training.patches import released_stats

AS_REFLECTANCE = Moments([0.0] * len(BANDS), [1.0] * len(BANDS))
"""Statistics of bands a model does not take, in the card of its weights."""


def import_released(spec: ReleasedSpec, out: Path) -> tuple[int, int]:
    """Write `out`/model.safetensors and model.json (`parts: encoder`) from a released file.

    Returns:
        Number of weights taken, and of weights ignored.

    Raises:
        GeoladderError: the file is not there or cannot be read, or a weight is missing, extra, of another shape, or
            not finite.
    """
    file = _released_file(spec)
    release = spec.release
    names = NameMap(
        rules=[
            Rule.model_validate({"theirs": theirs, "ours": ours}) for theirs, ours in release.rules.items()
        ],
        ignore=release.ignore,
    )
    renamed, ignored = rename(read_state(file), names, file)
    with torch.device("meta"):
        backbone = build_from(spec.architecture, spec.model).state_dict()
    ours = {name: value for name, value in backbone.items() if name.startswith(ENCODER)}
    renamed = {name: _laid_out(value, ours.get(name)) for name, value in renamed.items()}
    check_fit(f"{file} does not fit {spec.architecture}-{spec.size}", ours, renamed)
    weights = cast_weights(file, renamed, ours)
    card = {
        "architecture": spec.architecture,
        "size": spec.size,
        "model": spec.model,
        "parts": "encoder",
        "bands": list(BANDS),
        "transform": "linear",
        # A model without constants of its own has those of each study.
        "statistics": released_stats(spec.input, AS_REFLECTANCE).as_dict() if spec.input.bands else None,
        "harmonise": spec.input.harmonise,
        "objective": None,
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
        "provenance": {
            "geoladder": __version__,
            "imported_from": spec.weights,
            "file": file.name,
            "sha256": sha256(file),
        },
    }
    save_model({BACKBONE + name: value for name, value in weights.items()}, card, out)
    return len(renamed), ignored


def how_to_get(release: Release, size: str) -> str:
    """Command that fetches the released weights of a size, and what to write in the study then."""
    if size not in release.files:
        return "from who released them, and name the file of the state dict"
    repository, _, file = release.files[size].rpartition("/")
    return (
        f"on a machine with network: `hf download {repository} {file} --local-dir weights` (from "
        f"`pip install 'geoladder[hub]'`), then name the file: weights/{file}"
    )


def _released_file(spec: ReleasedSpec) -> Path:
    """The file on this machine."""
    help_words = f"get the weights of {spec.architecture}-{spec.size} {how_to_get(spec.release, spec.size)}"
    if spec.file is not None:
        if not spec.file.is_file():
            raise GeoladderError(f"there are no weights at {spec.file}; {help_words}")
        return spec.file
    if not spec.file_name:
        raise GeoladderError(f"which file of {spec.weights} it is nobody knows; {help_words}")
    try:
        path = fetch(spec.weights, [spec.file_name]) / spec.file_name
    except GeoladderError as problem:
        raise GeoladderError(f"{problem}; {help_words}") from None
    if not path.is_file():
        raise GeoladderError(f"{spec.weights} has no file {spec.file_name}; {help_words}")
    return path


def _laid_out(value: Tensor, like: Tensor | None) -> Tensor:
    """The same numbers in the shape of ours: without axes of one, and with a patch's axes in a row."""
    if like is None or value.numel() != like.numel():
        return value
    rows = next((length for length in value.shape if length > 1), 1)
    return value.reshape(like.shape) if rows == like.shape[0] else value
