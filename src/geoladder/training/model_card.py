"""The model card: README.md with the YAML front matter the Hugging Face hub reads, and model.json in words."""

from typing import Any, NamedTuple

import yaml

from geoladder.data.labels.bands import BANDS
from geoladder.registry import TARGETS


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
TEMPLATE = """---
{front}---

# {title}

A {architecture} backbone of {millions:.3f} million parameters (size `{size}` of geoladder's ladder), pretrained on
Sentinel-2-like images of ten bands by masked reconstruction, geo-location and Köppen-Geiger class
(arXiv 2506.14765). It gives dense features at full resolution and one summary vector an image.

## How to load

```python
import torch
from geoladder.data.batches.stats import BandStats
from geoladder.training.hub import load_model

backbone, card = load_model("PATH or hf://owner/name@revision")
statistics = BandStats.from_dict(card["statistics"])
reflectance = torch.rand(1, {bands}, {chip_px}, {chip_px}) * 0.3       # (DN - offset) / 10000
features = backbone(statistics.standardise(reflectance, card["transform"]))
features.dense, features.summary                      # (1, F, {chip_px}, {chip_px}), (1, S)
```

Bands, in this order: {band_names}. The 20 m bands are brought to 10 m first. `geoladder load` checks the files.

## Data

{data} Chips of {chip_px} x {chip_px} pixels at 10 m; {samples:,} samples seen, {unique:,} unique pixels.

## Metrics

On validation images held out by grid cell:

| metric | value | meaning |
|---|---|---|
{metrics}

## Intended use and limits

For research on scaling and transfer: as a start for fine-tuning on dense tasks with Sentinel-2 images, or as a frozen
extractor of features. Not made or tested for decisions about people or property.

- Bands, their order, and the statistics must be those above; other sensors and top-of-atmosphere reflectance are not
  what it saw. DN 0 is missing data: fill or leave out such pixels.
- {sides}Sizes far from {chip_px} pixels are untested.
- Training chips had at most {cloud:.0%} cloud, so thick cloud is rare in what it saw.

## Provenance

| | |
|---|---|
{provenance}
"""


def model_card(card: dict[str, Any]) -> str:
    """README.md of an exported model; `card` is its model.json with `metrics`, `data` and `licence`."""
    data = card["data"]
    of_source, stride = DATA[data["source"]], card["stride"]
    name = f"{card['architecture']}-{card['size']}"
    front = {
        "license": card["licence"],
        "library_name": "geoladder",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["earth-observation", "remote-sensing", "sentinel-2", "scaling-laws", card["architecture"]],
        "datasets": list(of_source.hub_sets),
    }
    return TEMPLATE.format(
        front=yaml.safe_dump({key: value for key, value in front.items() if value}, sort_keys=False),
        title=f"{name}, pretrained on {data['corpus']}",
        architecture=card["architecture"],
        size=card["size"],
        millions=card["parameters"]["total"] / 1e6,
        bands=len(card["bands"]),
        band_names=" ".join(BANDS),
        chip_px=data["chip_px"],
        data=of_source.words.format(**data),
        samples=card["samples_seen"],
        unique=card["unique_pixels"],
        metrics=_rows({key: (f"{card['metrics'][key]:.4g}", words) for key, words in _metrics(card).items()}),
        sides=f"Image sides are multiples of {stride} pixels. " if stride else "",
        cloud=data["cleaning"]["chip_max_cloud_share"],
        provenance=_rows(_provenance(card)),
    )


def _metrics(card: dict[str, Any]) -> dict[str, str]:
    """Metrics of a card and what they are: those of pixels, and those that its targets have."""
    words = {
        f"val_{name}_{suffix}": text.format(name=name)
        for name, use in card["objective"]["targets"].items()
        for suffix, text in TARGETS[use["kind"]].meanings.items()
    }
    return METRICS | {key: text for key, text in words.items() if key in card["metrics"]}


def _provenance(card: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    made, objective = card["provenance"], card["objective"]
    return {
        "run": (f"`{card['fingerprint']}`, seed {card['spec']['seed']}",),
        "code": (
            f"geoladder {made['geoladder']}, commit `{made['commit']}`" + " (edited)" * bool(made["dirty"]),
        ),
        "versions": (", ".join(f"{package} {number}" for package, number in made["versions"].items()),),
        "device": (made["device"],),
        "steps": (
            f"{card['steps']} of {card['spec']['batch']} samples, peak learning rate {card['lr']:.3g}",
        ),
        "compute": (f"{card['gflops_train']:.4g} GFLOP",),
        "objective": (
            f"mask ratio {objective['mask_ratio']}, blocks of {objective['mask_block_px']} px"
            + f"; targets {', '.join(objective['targets']) or 'none'}",
        ),
        "ladder row": (", ".join(f"{key} {value}" for key, value in card["model"].items()),),
        "licence of the weights": (card["licence"],),
    }


def _rows(table: dict[str, tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join((key, *cells))} |" for key, cells in table.items())


def describe(card: dict[str, Any], parameters: int) -> str:
    """A card for the terminal; what a card does not have is left out."""
    keys = ("model", "bands", "data", "samples_seen", "objective", "metrics", "licence", "provenance")
    entries = {key: card[key] for key in keys if card.get(key)}
    name = f"{card['architecture']}-{card.get('size')}"
    return (
        f"{name}: {parameters:,} parameters without heads; all weights fit\n"
        f"{yaml.safe_dump(entries, sort_keys=False, default_flow_style=None, width=100)}"
    )
