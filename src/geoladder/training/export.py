"""A trained model as others can use it: weights, `model.json` for programs, `README.md` for people and the hub.

The study says where the data came from, and must be the one the run was trained in: a run knows its data by
fingerprint only, and a card must not call synthetic tiles satellite images, nor the other way round. `README.md` is a
model card with the YAML front matter that the Hugging Face hub reads, and model.json in words.
"""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.registry import TARGETS
from geoladder.runs.atomic import atomic_path, write_json
from geoladder.runs.digest import intact
from geoladder.study.specs import ChipsSpec
from geoladder.study.study import Study
from geoladder.training.checkpoints import load_trained
from geoladder.training.released_card import released_card


class Data(NamedTuple):
    """What a card says of a corpus, by the corpus' `source`."""

    licence: str | None
    """As the hub spells it; None where it is unknown, so that the exporting person must name one."""
    hub_sets: tuple[str, ...]
    words: str


_MAJORTOM = Data(
    "cc-by-sa-4.0",
    ("Major-TOM/Core-S2L2A",),
    "Sentinel-2 level 2A images of MajorTOM Core (archive `{archive}`, layout `{source}`), fraction {fraction} of "
    "its grid cells. MajorTOM Core-S2L2A is licensed CC-BY-SA-4.0 and contains modified Copernicus Sentinel data.",
)
_OTHER = Data(
    None,
    (),
    "Sentinel-2 images of archive `{archive}` (layout `{source}`), fraction {fraction} of its grid cells, which "
    "contain modified Copernicus Sentinel data. geoladder does not know the archive's licence: ask who made it.",
)
_SYNTHETIC = Data(
    "apache-2.0",  # this package makes them, under its licence
    (),
    "**No satellite image**: tiles that geoladder made itself ({archive}), fraction {fraction} of their grid cells. "
    "The model is good for testing software and methods, not for looking at the Earth.",
)
DATA = {
    "synthetic": _SYNTHETIC,
    "majortom": _MAJORTOM,
    "tree": _MAJORTOM,
    "fasttom_tree": _MAJORTOM,
    "globe": _OTHER,
    "auto": _OTHER,
}
METRICS = {
    "val_masked_mse": "squared error on hidden pixels, standardised reflectance squared",
    "val_visible_mse": "squared error on visible pixels, standardised reflectance squared",
    "val_loss": "weighted sum of the objective",
}
PRETRAIN_WORDS = "masked reconstruction, geo-location and Köppen-Geiger class\n(arXiv 2506.14765)"
ORACLE_WORDS = (
    "labels of their own pixels ({tasks}):\nan oracle, which shows what such a model can learn at best"
)
TEMPLATE = """---
{front}---

# {name}, pretrained on {data[corpus]}

A {architecture} backbone of {millions:.3f} million parameters (size `{size}` of geoladder's ladder), pretrained on
Sentinel-2-like images of ten bands by {learnt}.
It gives dense features at full resolution and one summary vector an image.

## How to load

```python
import torch
from geoladder.data.batches.batch import BandStats
from geoladder.training.hub import load_model

backbone, card = load_model("PATH or hf://owner/name@revision")
statistics = BandStats.from_dict(card["statistics"])
reflectance = torch.rand(1, {band_count}, {px}, {px}) * 0.3       # (DN - offset) / 10000
features = backbone(statistics.standardise(reflectance, card["transform"]))
features.dense, features.summary                      # (1, F, {px}, {px}), (1, S)
```

Bands, in this order: {band_names}. The 20 m bands are brought to 10 m first. `geoladder load` checks the files.

## Data

{words} Chips of {px} x {px} pixels at 10 m; {samples_seen:,} samples seen, {unique_pixels:,} unique pixels.

## Metrics

On validation images held out by grid cell:

| metric | value | meaning |
|---|---|---|
{rows}

## Intended use and limits

For research on scaling and transfer: as a start for fine-tuning on dense tasks with Sentinel-2 images, or as a frozen
extractor of features. Not made or tested for decisions about people or property.

- Bands, their order, and the statistics must be those above; other sensors and top-of-atmosphere reflectance are not
  what it saw. DN 0 is missing data: fill or leave out such pixels.
- {sides}Sizes far from {px} pixels are untested.
- Training chips had at most {data[cleaning][chip_max_cloud_share]:.0%} cloud, so thick cloud is rare in what it saw.

## Provenance

| | |
|---|---|
| run | `{fingerprint}`, seed {spec[seed]} |
| code | geoladder {provenance[geoladder]}, commit `{provenance[commit]}`{edited} |
| versions | {versions} |
| device | {provenance[device]} |
| steps | {steps} of {spec[batch]} samples, peak learning rate {lr:.3g} |
| compute | {gflops_train:.4g} GFLOP |
| objective | mask ratio {objective[mask_ratio]}, blocks of {objective[mask_block_px]} px; targets {targets} |
| ladder row | {ladder_row} |
| licence of the weights | {licence} |
"""


def export_model(folder: Path, out: Path, study: Study, licence: str | None = None) -> None:
    """Write `out`/model.safetensors, model.json and, last, README.md.

    model.json is the run's, and besides `metrics` (of the validation set, with units in docs/checkpoints.md), `data`
    (source, licence, cleaning), `licence` of the weights and `stride` (image sides are multiples of it, if not null).
    The weights have the licence of the data (ours for synthetic data), unless `licence` says otherwise. Those of an
    external model are of no study, and need a `licence`.

    Raises:
        GeoladderError: the run is not finished, its weights do not fit its card, it was not trained in `study`,
            nothing says what the licence is, or `out` is `folder`.
    """
    if out.resolve() == folder.resolve():
        raise GeoladderError(f"{out} is the run itself; export to another folder")
    backbone, card = load_trained(folder)
    released = card.get("parts") == "encoder"
    data = {"source": "released", "licence": None} if released else _data_of(card, study, folder)
    licence = licence or data["licence"]
    if licence is None:
        raise GeoladderError(
            f"the licence of the data of {folder} (source: {data['source']}) is not known to geoladder; name that of "
            "the weights, which it may bind, with --licence, such as --licence cc-by-sa-4.0"
        )
    # A backbone that does not inherit from ours need not say.
    stride = getattr(backbone, "side_px", 0) or getattr(backbone, "stride_px", None)
    metrics = {} if released else _metrics(folder)
    card |= {"metrics": metrics, "data": data, "licence": licence, "stride": stride}
    with atomic_path(out / "model.safetensors", card.get("fingerprint")) as path:
        shutil.copyfile(intact(folder / "model.safetensors", whole=True), path)
    write_json(out / "model.json", card)
    with atomic_path(out / "README.md") as path:
        path.write_text(released_card(card) if released else model_card(card), "utf-8")


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
        metrics: dict[str, float] = json.loads(intact(path).read_text())["metrics"]
    except (OSError, ValueError, KeyError) as problem:
        raise GeoladderError(
            f"{path} has no metrics ({problem!r}); the run is not finished: start it again and it goes on"
        ) from None
    return metrics


def model_card(card: dict[str, Any]) -> str:
    """README.md of an exported model; `card` is its model.json with `metrics`, `data` and `licence`."""
    data, made, stride = (card[key] for key in ("data", "provenance", "stride"))
    of_source, labels = DATA[data["source"]], card["objective"].get("tasks")
    front = {
        "license": card["licence"],
        "library_name": "geoladder",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["earth-observation", "remote-sensing", "sentinel-2", "scaling-laws", card["architecture"]],
        "datasets": list(of_source.hub_sets),
    }
    meanings = METRICS | {
        f"val_{name}_{suffix}": text.format(name=name)
        for name, use in card["objective"]["targets"].items()
        for suffix, text in TARGETS[use["kind"]].meanings.items()
        if f"val_{name}_{suffix}" in card["metrics"]
    }
    words = {
        "front": yaml.safe_dump({key: value for key, value in front.items() if value}, sort_keys=False),
        "name": f"{card['architecture']}-{card['size']}",
        "millions": card["parameters"]["total"] / 1e6,
        "band_count": len(card["bands"]),
        "band_names": " ".join(BANDS),
        "px": data["chip_px"],
        "words": of_source.words.format(**data),
        "rows": "\n".join(
            f"| {key} | {card['metrics'][key]:.4g} | {meaning} |" for key, meaning in meanings.items()
        ),
        "sides": f"Image sides are multiples of {stride} pixels. " if stride and stride > 1 else "",
        "edited": " (edited)" * bool(made["dirty"]),
        "versions": ", ".join(f"{package} {number}" for package, number in made["versions"].items()),
        "targets": ", ".join(card["objective"]["targets"]) or "none",
        "learnt": ORACLE_WORDS.format(tasks=", ".join(labels)) if labels else PRETRAIN_WORDS,
        "ladder_row": ", ".join(f"{key} {value}" for key, value in card["model"].items()),
    }
    return TEMPLATE.format(**card | words)


def describe(card: dict[str, Any], parameters: int) -> str:
    """A card for the terminal; what a card does not have is left out."""
    keys = ("model", "bands", "data", "samples_seen", "objective", "metrics", "licence", "provenance")
    entries = {key: card[key] for key in keys if card.get(key)}
    name = f"{card['architecture']}-{card.get('size')}"
    return (
        f"{name}: {parameters:,} parameters without heads; all weights fit\n"
        f"{yaml.safe_dump(entries, sort_keys=False, default_flow_style=None, width=100)}"
    )
