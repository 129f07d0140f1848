"""The model card of an external model's weights in our format, which others have trained."""

from typing import Any

import yaml

TEMPLATE = """---
{front}---

# {name}, weights released by others

The encoder of `{name}` of geoladder's ladder, with the weights of `{file}` ({imported_from}, sha256 `{sha256}`),
which others have trained and whose licence is {licence}. It has no decoder: that of a model built from it is
untrained.

`geoladder.training.hub.load_model("PATH or hf://owner/name@revision")` gives the backbone and this card as a
dictionary; `backbone.encoder(pixels)` gives four maps and a summary. Pixels are the bands {bands}, in this order, as
digital numbers / 10000, standardised by `statistics` of model.json ({harmonised}). Bands that the
model does not take may hold anything.
"""
HARMONISED = {
    "baseline": "the +1000 DN of newer Sentinel-2 products subtracted before",
    "none": "the +1000 DN of newer Sentinel-2 products left in",
    None: "null: by those of your own images",
}


def released_card(card: dict[str, Any]) -> str:
    """README.md of an exported released model; `card` is its model.json with `licence`."""
    front = {
        "license": card["licence"],
        "library_name": "geoladder",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["earth-observation", "remote-sensing", "sentinel-2", card["architecture"]],
    }
    return TEMPLATE.format(
        **card["provenance"],
        front=yaml.safe_dump(front, sort_keys=False),
        name=f"{card['architecture']}-{card['size']}",
        licence=card["licence"],
        bands=" ".join(card["bands"]),
        harmonised=HARMONISED[card["harmonise"]],
    )
