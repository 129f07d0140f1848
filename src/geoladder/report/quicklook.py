"""Pictures of imagery for the eye: percentile-stretched composites, labels and masks side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from geoladder.data.labels.targets import LANDCOVER, WORLDCOVER_CODES
from geoladder.runs.atomic import atomic_path

mpl.use("Agg")
STRETCH = (2, 98)
"""Percentiles of the valid pixels that become black and white."""
WORLDCOVER_COLOURS = (
    "#006400", "#ffbb22", "#ffff4c", "#f096ff", "#fa0000", "#b4b4b4", "#f0f0f0", "#0064c8", "#0096a0", "#00cf75",
    "#fae6a0",
)  # fmt: skip
"""ESA WorldCover's own colours, in class order."""


class Panel(NamedTuple):
    """One picture: (H, W, 3) composite in 0..1, or (H, W) numbers of a `kind` (`density`, `landcover`, `mask`)."""

    title: str
    pixels: np.ndarray
    kind: str = "composite"


def composites(bands: dict[str, np.ndarray]) -> list[Panel]:
    """True colour and false colour (near infrared as red) of bands B02 B03 B04 B08, each (H, W) DN."""
    return [
        Panel("true colour", _stretched([bands["B04"], bands["B03"], bands["B02"]])),
        Panel("false colour (B08, B04, B03)", _stretched([bands["B08"], bands["B04"], bands["B03"]])),
    ]


def _stretched(channels: Sequence[np.ndarray]) -> np.ndarray:
    stack = np.stack(channels, axis=-1).astype(np.float64)
    valid = stack[(stack > 0).all(axis=-1)]
    if not valid.size:
        return np.zeros_like(stack)
    low, high = np.percentile(valid, STRETCH)
    return np.clip((stack - low) / max(high - low, 1e-9), 0, 1)


def draw(panels: list[Panel], png: Path) -> None:
    """Write the panels in one row as a PNG."""
    figure = Figure(figsize=(3.2 * len(panels), 3.5), layout="constrained")
    for axis, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        axis.set_axis_off()
        axis.set_title(panel.title, fontsize=8)
        if panel.kind == "composite":
            axis.imshow(panel.pixels, interpolation="nearest")
        elif panel.kind == "landcover":
            classes = np.searchsorted(WORLDCOVER_CODES, panel.pixels).astype(float)
            classes[panel.pixels == 0] = np.nan
            colours = ListedColormap(WORLDCOVER_COLOURS)
            axis.imshow(classes, cmap=colours, vmin=-0.5, vmax=len(LANDCOVER) - 0.5, interpolation="nearest")
        else:
            top = 3 if panel.kind == "mask" else max(1.0, float(np.nanmax(panel.pixels)))
            axis.imshow(panel.pixels, cmap="magma", vmin=0, vmax=top, interpolation="nearest")
    with atomic_path(png) as path:
        figure.savefig(path, dpi=150)
