"""Downstream error under linear heads against pretraining loss, a dot for each cell: a column a task, a row an n.

The legend of a panel has the rank correlation of each family, with its interval.
"""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from geoladder.errors import GeoladderError
from geoladder.registry import ARCHITECTURES, TASKS
from geoladder.report.collect import read_results
from geoladder.report.error_law import error_law, errors_and_losses
from geoladder.report.laws import interval_text
from geoladder.report.style import canvas, ordered, save
from geoladder.study.analysis import Figures

ROW_SHARE = 0.42
"""Height of a row of panels as a share of the figure's width."""
SIZE_MARKERS = ("v", "o", "^", "D", "s", "P", "X", "*")


def draw_error_law(results: Path, settings: Figures, out: Path) -> None:
    """Draw error against loss of results.csv as `out` (PDF); PNG and CSV go beside it.

    Raises:
        GeoladderError: no pretrained cell has linear heads, or it is no table of results.
    """
    table = read_results(results)
    cells, correlations = errors_and_losses(table), error_law(table)
    if cells.empty:
        raise GeoladderError(
            f"{results} has no pretrained cells with linear heads; give the study a `linear` block and run it"
        )
    tasks = [task for task in TASKS if task in set(cells.task)]
    levels = sorted(cells.n.unique())
    widths = table.groupby("size").parameters_total.mean().sort_values().index
    marker_of = dict(zip([size for size in widths if size in set(cells["size"])], SIZE_MARKERS, strict=False))
    with canvas(settings, ROW_SHARE * len(levels) * settings.width_mm) as figure:
        grid = figure.subplots(len(levels), len(tasks), squeeze=False)
        for axes, n in zip(grid, levels, strict=True):
            for axis, task in zip(axes, tasks, strict=True):
                of_panel = cells[(cells.task == task) & (cells.n == n)]
                words = correlations[(correlations.task == task) & (correlations.n == n)]
                _panel(axis, of_panel, words, marker_of)
                axis.set(title=f"{TASKS[task].title}, n = {n}", ylabel=TASKS[task].error_label)
        for axis in grid[-1]:
            axis.set_xlabel("Masked validation MSE of pretraining")
        handles = [
            Line2D([], [], color="k", ls="", ms=3, marker=marker, label=f"size {size}")
            for size, marker in marker_of.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
        save(figure, cells.merge(correlations, on=["task", "architecture", "n"]), out)


def _panel(axis: Axes, cells: pd.DataFrame, correlations: pd.DataFrame, marker_of: dict[str, str]) -> None:
    """Dots of one task and n; the legend names families with their correlations."""
    handles = []
    for architecture in ordered(set(cells.architecture)):
        colour = ARCHITECTURES[architecture].colour
        for size, rows in cells[cells.architecture == architecture].groupby("size"):
            axis.scatter(
                rows.loss, rows.error, s=9, lw=0, color=colour, marker=marker_of[str(size)], alpha=0.8
            )
        row = correlations[correlations.architecture == architecture].iloc[0]
        words = f"{ARCHITECTURES[architecture].title}: rank correlation {row.correlation:.2f} "
        handles.append(Line2D([], [], color=colour, label=words + interval_text((row.low, row.high), ".2f")))
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.margins(y=0.05)
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + (high - low) * 0.12 * len(handles))  # room for the legend
    axis.legend(handles=handles, loc="upper left", frameon=False)
