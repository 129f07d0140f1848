"""Figures 4 to 7 and 10 to 20 of the paper, from its digitised numbers: test error against labels.

A bar spans what rounding in the paper and reading of the chart leave open. Unless points are wanted as printed, a
mean squared error among root mean squares is put right and crossed, and points are ringed whose series or value
contradicts another chart.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from geoladder.published.points import DEFECTS, chart
from geoladder.registry import ARCHITECTURES, TASKS
from geoladder.report.collect import read_results
from geoladder.report.curves import curves, of_baseline, starts
from geoladder.report.figures.published_looks import looks
from geoladder.report.style import canvas, save
from geoladder.study.analysis import Figures

LABELS = {"rmse": "RMSE of the density", "accuracy": "Accuracy"}
RING: dict[str, Any] = {"ls": "", "marker": "o", "ms": 7, "mfc": "none", "mec": "0.3", "mew": 0.6}
RINGED = ("duplicate", "disagrees")
CROSS: dict[str, Any] = {"ls": "", "marker": "x", "ms": 5, "mew": 0.8, "color": "k"}
LINE: dict[str, Any] = {"ms": 3.5, "lw": 0.8}
OURS: dict[str, Any] = {"ms": 3.5, "lw": 1.6, "ls": "--", "mfc": "w", "elinewidth": 0.8}
"""Lines of the study's own runs, with bars from the smallest to the largest of its seeds."""
HEIGHT_SHARE = 0.62
LEGEND_COLUMNS = 3
ASIDE = 1.04
"""Factor between points of neighbouring lines, so that they do not hide one another."""


def draw_published_curves(figure: int, settings: Figures, out: Path, results: Path | None = None) -> None:
    """Draw one of the paper's charts as `out` (PDF); PNG and CSV go beside it; raises as `chart`.

    `results` is the results.csv of a study on the real bench, whose fine-tuned models are drawn among the paper's.
    """
    points = chart(figure)
    if settings.as_printed:
        points = points.assign(value=points.plotted, low=points.plotted, high=points.plotted, defect="")
    task, metric = points.task.iloc[0], points.metric.iloc[0]
    ours = _ours(results, task, metric)
    with canvas(settings, HEIGHT_SHARE * settings.width_mm) as drawn:
        axis = drawn.subplots()
        handles = [*_curves(axis, points), *_mark_defects(axis, points), *_draw_ours(axis, ours)]
        _scale(axis, metric, sorted({*points.n, *ours.n}))
        axis.set(xlabel="Labelled patches per region bucket, n", ylabel=LABELS[metric])
        axis.set_title(f"{TASKS[task].title}, as in figure {figure} of arXiv 2506.14765")
        drawn.legend(handles=handles, loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False)
        save(drawn, pd.concat([points, ours], ignore_index=True), out)


def _curves(axis: Axes, points: pd.DataFrame) -> list[Line2D]:
    """A line for each model; gives every point its place, `x`, and returns the handles of the legend."""
    style = looks(points)
    models = list(style)
    points["x"] = points.n * ASIDE ** (points.model.map(models.index) - (len(models) - 1) / 2)
    for model, look in style.items():
        rows = points[points.model == model].sort_values("n")
        axis.plot(rows.x, rows.value, **LINE, **look)
        axis.vlines(rows.x, rows.low, rows.high, color=look["color"], lw=0.7)
    return [Line2D([], [], label=model, **LINE, **look) for model, look in style.items()]


def _mark_defects(axis: Axes, points: pd.DataFrame) -> list[Line2D]:
    """Rings and crosses, and the handles that explain them."""
    ringed, squared = points[points.defect.isin(RINGED)], points[points.defect == "squared"]
    handles = []
    if len(ringed):
        axis.plot(ringed.x, ringed.value, **RING)
        words = " or ".join(DEFECTS[name] for name in RINGED if name in set(ringed.defect))
        handles.append(Line2D([], [], label=words, **RING))
    if len(squared):
        axis.plot(squared.x, squared.value, **CROSS)
        handles.append(Line2D([], [], label=f"printed {DEFECTS['squared']}", **CROSS))
    return handles


def _ours(results: Path | None, task: str, metric: str) -> pd.DataFrame:
    """Fine-tuned models of a study: `model`, `architecture`, `n` and `value`, `low` and `high` over seeds."""
    columns = ["model", "architecture", "n", "value", "low", "high"]
    if results is None:
        return pd.DataFrame(columns=columns)
    error = curves(read_results(results))
    error = error[(error.task == task) & ~of_baseline(error)]
    error = error.assign(
        model="here: " + error.architecture + "-" + error["size"] + ", " + starts(error),
        value=error.y if metric == "rmse" else 1 - error.y,
    )
    of_seeds = error.groupby(["model", "architecture", "n"]).value
    return of_seeds.agg(low="min", value="mean", high="max").reset_index()[columns]


def _draw_ours(axis: Axes, ours: pd.DataFrame) -> list[Line2D]:
    """A dashed line for each arm of the study, and the handles of the legend."""
    handles = []
    for model, rows in ours.groupby("model"):
        colour = ARCHITECTURES[rows.architecture.iloc[0]].colour
        axis.errorbar(
            rows.n,
            rows.value,
            [rows.value - rows.low, rows.high - rows.value],
            color=colour,
            marker="o",
            **OURS,
        )
        handles.append(
            Line2D([], [], label=str(model), color=colour, marker="o", ms=3.5, lw=1.6, ls="--", mfc="w")
        )
    return handles


def _scale(axis: Axes, metric: str, levels: list[int]) -> None:
    """Logarithmic axes with plain numbers; accuracies are on a linear one."""
    axis.set_xscale("log")
    axis.set_xticks(levels, [f"{n:g}" for n in levels])
    axis.xaxis.set_minor_locator(NullLocator())
    if metric == "rmse":
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(MaxNLocator(6))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axis.yaxis.set_minor_locator(NullLocator())
