"""A trained model as others can use it: weights, `model.json` for programs, `README.md` for people and the hub.

The study says where the data came from, and must be the one the run was trained in: a run knows its data by
fingerprint only, and a card must not call synthetic tiles satellite images, nor the other way round.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path, write_json
from geoladder.study.specs import ChipsSpec
from geoladder.study.study import Study
from geoladder.training.checkpoints import load_trained
from geoladder.training.model_card import DATA, model_card


def export_model(folder: Path, out: Path, study: Study, licence: str | None = None) -> None:
    """Write `out`/model.safetensors, model.json and, last, README.md.

    model.json is the run's, and besides `metrics` (of the validation set, with units in docs/checkpoints.md), `data`
    (source, licence, cleaning), `licence` of the weights and `stride` (image sides are multiples of it, if not null).

    Args:
        folder: a finished pretraining run.
        out: made if missing; must not be `folder`.
        study: that the run was trained in.
        licence: of the weights, as the hub spells it; None: that of the data, or ours for synthetic data.

    Raises:
        GeoladderError: the run is not finished, its weights do not fit its card, it is of another study, or nothing
            says what the licence is.
    """
    if out.resolve() == folder.resolve():
        raise GeoladderError(f"{out} is the run itself; export to another folder")
    backbone, card = load_trained(folder)
    data = _data_of(card, study, folder)
    licence = licence or data["licence"]
    if licence is None:
        raise GeoladderError(
            f"the licence of the data of {folder} (source: {data['source']}) is not known to geoladder; name that of "
            "the weights, which it may bind, with --licence, such as --licence cc-by-sa-4.0"
        )
    stride = getattr(backbone, "stride", None)
    card |= {"metrics": _metrics(folder), "data": data, "licence": licence, "stride": stride}
    with atomic_path(out / "model.safetensors") as path:
        shutil.copyfile(folder / "model.safetensors", path)
    write_json(out / "model.json", card)
    with atomic_path(out / "README.md") as path:
        path.write_text(model_card(card))


def _data_of(card: dict[str, Any], study: Study, folder: Path) -> dict[str, Any]:
    try:
        spec = card["spec"]
        name, chips = spec["corpus"], spec["chips"]
    except (KeyError, TypeError):
        raise GeoladderError(f"{folder} is no pretraining run: its model.json has no spec") from None
    corpus = study.corpora.get(name)
    if corpus is None or ChipsSpec.of(study, name).pixels != chips:
        raise GeoladderError(
            f"{folder} was not trained in study '{study.name}': its chips of '{name}' are {chips}, the "
            "study's are others; give the study it was trained in with --study"
        )
    made = f"synthetic Earth {study.earth.seed}, like {corpus.like}"
    return {
        "corpus": name,
        "fraction": spec["fraction"],
        "source": corpus.source,
        "archive": corpus.path.name if corpus.path else corpus.url or made,
        "licence": DATA[corpus.source].licence,
        "chip_px": study.cleaning.chip_px,
        "cleaning": study.cleaning.model_dump(mode="json"),
    }


def _metrics(folder: Path) -> dict[str, float]:
    path = folder / "metrics.json"
    try:
        metrics: dict[str, float] = json.loads(path.read_text())["metrics"]
    except (OSError, ValueError, KeyError) as problem:
        raise GeoladderError(
            f"{path} has no metrics ({problem!r}); the run is not finished: start it again and it goes on"
        ) from None
    return metrics
