"""How the paper's models look: colour says architecture, marker what one was pretrained on, shade its size."""

from typing import Any

import pandas as pd
from matplotlib.colors import to_rgb

from geoladder.registry import ARCHITECTURES

MARKERS = {
    "none": "X",
    "imagenet": "P",
    "globe": "o",
    "fasttom": "^",
    "majortom": "s",
    "terramesh": "D",
    "hls": "v",
}
"""By what a model was pretrained on."""
NAMELESS = ("0.35", "0.65")
"""Colours of architectures that this project does not have, in the order of a chart."""
SMALL = ("41M", "43M", "44M", "100M")
"""Sizes in a lighter colour."""
LIGHTER = 0.4


def looks(models: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Colour and marker by name of a model; columns `model`, `architecture`, `size` and `corpus`, as `chart` has."""
    models = models.drop_duplicates("model").set_index("model")
    nameless = list(models.index[models.architecture == ""])
    return {
        str(model): {
            "marker": MARKERS[row["corpus"]],
            "color": _shade(ARCHITECTURES[row["architecture"]].colour, row["size"])
            if row["architecture"]
            else NAMELESS[nameless.index(model) % len(NAMELESS)],
        }
        for model, row in models.iterrows()
    }


def _shade(colour: str, size: str) -> tuple[float, ...]:
    lighter = LIGHTER if size in SMALL else 0.0
    return tuple(part + lighter * (1 - part) for part in to_rgb(colour))
