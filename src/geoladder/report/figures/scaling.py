"""The study's figure: pretraining loss against parameters and data, and test error against labels.

Rows: loss against parameters (one line per amount of data), loss against unique data (one line per size), and for
each fine-tuned size and mode error against n (one line per architecture and start). Everything drawn comes from
results.csv and laws.json and goes to the CSV.
"""

from itertools import product
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from geoladder.registry import TASKS
from geoladder.report.collect import read_results
from geoladder.report.curves import curves, of_baseline, starts
from geoladder.report.figures.curve_panels import curve_legend, curve_panel
from geoladder.report.figures.law_panels import DATA, PARAMETERS, law_legend, law_panel
from geoladder.report.laws import pretrain_points, read_laws
from geoladder.report.rivals import POINT, marked, rivals
from geoladder.report.style import canvas, ordered, save
from geoladder.study.analysis import Figures
from geoladder.study.arms import SCRATCH

ROW_SHARE = 0.34
"""Height of a row of panels as a share of the figure's width."""
LEGEND_COLUMNS = 7


def draw_scaling(results: Path, laws: Path, settings: Figures, out: Path) -> None:
    """Draw results/figures/scaling.pdf, .png and .csv from results.csv and laws.json; `out` is the PDF."""
    table, fitted = read_results(results), read_laws(laws)
    points = pretrain_points(table, fitted["settings"]["parameters"])
    architectures = ordered(fitted["pretraining"])
    error, beside = marked(curves(table), curves(table), table, POINT), rivals(table)
    error = error.assign(corpus=starts(error))
    corpora = sorted(set(error.corpus) - {SCRATCH})
    tasks = [task for task in TASKS if task in set(error.task)]
    rows_of_curves = _rows_of_curves(error, table)
    numbers: list[pd.DataFrame] = []
    with canvas(settings, ROW_SHARE * (2 + len(rows_of_curves)) * settings.width_mm) as figure:
        rows = np.asarray(figure.subfigures(2 + len(rows_of_curves), 1, squeeze=False))[:, 0]
        for along, row in zip((PARAMETERS, DATA), rows, strict=False):
            axes = row.subplots(1, len(architectures), squeeze=False)[0]
            for axis, architecture in zip(axes, architectures, strict=True):
                numbers.append(law_panel(axis, points[points.architecture == architecture], along, fitted))
            axes[0].set_ylabel("Masked validation MSE\n(standardised reflectance²)")
            _legend(row, law_legend(points, along, fitted["corpus"]))
        _align(figure.axes)
        for (name, shown), row in zip(rows_of_curves.items(), rows[2:], strict=True):
            for axis, task in zip(row.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
                numbers.append(curve_panel(axis, shown, beside, task, name, corpora))
            _legend(row, curve_legend(shown, corpora))
        for letter, axis in zip(ascii_lowercase, figure.axes, strict=False):
            axis.text(-0.16, 1.07, letter, transform=axis.transAxes, fontweight="bold", va="bottom")
        save(figure, pd.concat(numbers, ignore_index=True), out)


def _rows_of_curves(error: pd.DataFrame, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Runs of each row of panels by what its titles add: sizes, smallest first, and modes; baselines are in all."""
    baseline = of_baseline(error)
    tuned = error[~baseline]
    counts = table[table["size"].isin(set(tuned["size"]))].groupby("size").parameters_total.mean()
    sizes, modes = list(counts.sort_values().index), sorted(set(tuned["mode"]))
    rows = {}
    for size, mode in product(sizes, modes):
        name = f", size {size}" if len(sizes) > 1 else ""
        name += f", {mode}" if len(modes) > 1 or mode != "full" else ""
        of_row = tuned["size"].eq(size) & tuned["mode"].eq(mode)
        if of_row.any():
            rows[name] = pd.concat([tuned[of_row], error[baseline]])
    return rows


def _legend(row: SubFigure, handles: list[Line2D]) -> None:
    """One legend below a row of panels, in as few equal lines as its width allows."""
    lines = -(-len(handles) // LEGEND_COLUMNS)
    columns = -(-len(handles) // lines)
    row.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, columnspacing=1.2)


def _align(axes: list[Axes]) -> None:
    """The same loss axis everywhere, with plain numbers."""
    limits = np.array([axis.get_ylim() for axis in axes])
    for axis in axes:
        axis.set_ylim(limits[:, 0].min(), limits[:, 1].max())
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
