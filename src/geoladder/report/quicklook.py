"""Pictures of imagery for the eye: percentile-stretched composites, labels and masks side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from geoladder.runs.atomic import atomic_path

STRETCH = (2, 98)
"""Percentiles of the valid pixels that become black and white."""


class Panel(NamedTuple):
    """One picture: a composite, (H, W, 3) in 0..1, or (H, W) numbers in colours; NaN stays empty.

    `palette` is the name of a colour map, or one colour a whole number; `limits` are the numbers at its ends.
    """

    title: str
    pixels: np.ndarray
    palette: str | tuple[str, ...] | None = None
    limits: tuple[float, float] = (0.0, 1.0)


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
        colours = ListedColormap(panel.palette) if isinstance(panel.palette, tuple) else panel.palette
        low, high = panel.limits
        axis.imshow(panel.pixels, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    with atomic_path(png) as path:
        figure.savefig(path, dpi=150)
