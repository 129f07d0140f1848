"""Figures 21 and 22 of the paper, from its digitised numbers: precision of each class of land cover, a bar an n.

A class without a bar at an n has none in the chart: it was never predicted rightly, or never predicted.
"""

from pathlib import Path

import numpy as np
import seaborn as sns

from geoladder.published.points import CLASSES, chart
from geoladder.report.style import canvas, save
from geoladder.study.analysis import Figures

HEIGHT_SHARE = 0.5
WIDTH = 0.8
"""Of the bars of a class together, in units of the distance of classes."""


def draw_published_precision(figure: int, settings: Figures, out: Path) -> None:
    """Draw one of the paper's charts as `out` (PDF); PNG and CSV go beside it; raises as `chart`."""
    points = chart(figure)
    levels = sorted(points.n.unique())
    width = WIDTH / len(levels)
    with canvas(settings, HEIGHT_SHARE * settings.width_mm) as drawn:
        axis = drawn.subplots()
        for place, (n, colour) in enumerate(
            zip(levels, sns.color_palette("crest", len(levels)), strict=True)
        ):
            rows = points[points.n == n]
            x = np.array([CLASSES.index(name) for name in rows["class"]]) + (place + 0.5) * width - WIDTH / 2
            spread = [rows.value - rows.low, rows.high - rows.value]
            axis.bar(
                x,
                rows.value,
                width,
                yerr=spread,
                color=colour,
                label=f"n = {n}",
                error_kw={"elinewidth": 0.5},
            )
        axis.set_xticks(range(len(CLASSES)), CLASSES, rotation=30, ha="right", rotation_mode="anchor")
        axis.set(ylim=(0, 1), ylabel="Precision")
        axis.set_title(f"{points.model.iloc[0]}, as in figure {figure} of arXiv 2506.14765")
        drawn.legend(loc="outside lower center", ncols=len(levels), frameon=False)
        save(drawn, points, out)
