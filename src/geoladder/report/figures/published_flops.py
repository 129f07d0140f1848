"""Figures 8 and 9 of the paper, from its digitised numbers: mean error over labels against FLOPs of a forward pass.

Filled markers are means of the models' curves at the FLOPs of the text, of every model that has both: the paper draws
six of them. Where the paper draws another point, a cross shows it and a line leads to it.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from geoladder.published.points import mean_errors, read_models
from geoladder.report.figures.published_looks import looks
from geoladder.report.style import canvas, save
from geoladder.study.analysis import Figures

CHARTS = {
    8: ("rmse", "drawn_rmse", "RMSE, mean of both densities and all n"),
    9: ("accuracy", "drawn_accuracy", "Accuracy, mean of all n"),
}
PRINTED: dict[str, Any] = {"ls": "", "marker": "x", "ms": 5, "mew": 0.8, "color": "k"}
UNDRAWN = 0.45
"""Opacity of models that the paper leaves out of the chart."""
APART = 1e-5
"""Relative difference from which a drawn point is another one."""
HEIGHT_SHARE = 0.62
LEGEND_COLUMNS = 3


def draw_published_flops(figure: int, settings: Figures, out: Path) -> None:
    """Draw figure 8 or 9 as `out` (PDF); PNG and CSV go beside it. As printed, it has only what the paper draws."""
    metric, drawn_metric, label = CHARTS[figure]
    points = read_models().rename(columns={drawn_metric: "drawn"}).join(mean_errors()[metric].rename("value"))
    points = points.dropna(subset=["gflops_fwd", "value"]).reset_index()
    if settings.as_printed:
        points = points.dropna(subset="drawn").assign(gflops_fwd=points.drawn_gflops_fwd, value=points.drawn)
    style = looks(points)
    with canvas(settings, HEIGHT_SHARE * settings.width_mm) as drawn:
        axis = drawn.subplots()
        handles = []
        for _, row in points.iterrows():
            look = style[row.model] | {"ls": "", "ms": 5, "alpha": UNDRAWN if pd.isna(row.drawn) else 1.0}
            axis.plot(row.gflops_fwd, row.value, **look)
            handles.append(Line2D([], [], label=row.model, **look))
        moved = points[
            (points.drawn / points.value - 1).abs().gt(APART)
            | (points.drawn_gflops_fwd / points.gflops_fwd - 1).abs().gt(APART)
        ]
        for _, row in moved.iterrows():
            axis.plot([row.gflops_fwd, row.drawn_gflops_fwd], [row.value, row.drawn], "k:", lw=0.5)
        if len(moved):
            axis.plot(moved.drawn_gflops_fwd, moved.drawn, **PRINTED)
            handles.append(Line2D([], [], label="where the paper draws it", **PRINTED))
        axis.set(xscale="log", xlabel="GFLOPs of a forward pass (10 x 128 x 128)", ylabel=label)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title(f"As in figure {figure} of arXiv 2506.14765; pale: models it leaves out")
        drawn.legend(handles=handles, loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False)
        save(drawn, points, out)
