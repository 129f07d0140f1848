"""The study's figure: pretraining loss against parameters and data, and test error against labels.

Rows: loss against parameters (one line per amount of data), loss against unique data (one line per size), and for
each fine-tuned size error against n (one line per architecture and start). Everything drawn comes from results.csv
and laws.json and goes to the CSV.
"""

import json
from fractions import Fraction
from itertools import cycle
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from geoladder.registry import TASKS
from geoladder.report.curves import curves
from geoladder.report.figures.curve_panels import PIXEL, arm_looks, curve_legend, curve_panel
from geoladder.report.laws import PIXELS_PER_MEGAPIXEL, pretrain_points
from geoladder.report.style import MM_PER_INCH, NAMES, ordered, save, style
from geoladder.scaling.fit.record import from_json
from geoladder.scaling.fit.result import Fit
from geoladder.study.analysis import Figures

mpl.use("Agg")
LINE_POINTS = 60
ROW_SHARE = 0.34
"""Height of a row of panels as a share of the figure's width."""
OTHER_LEVEL = {"n": "fraction", "d": "size"}
"""What tells the lines apart of a panel against parameters, and of one against data."""
SHIFT_MARKERS = ("x", "+", "1", "2")
LEGEND_COLUMNS = 7


def draw_scaling(results: Path, laws: Path, settings: Figures, out: Path) -> None:
    """Draw results/figures/scaling.pdf, .png and .csv.

    Args:
        results: results.csv.
        laws: laws.json.
        settings: how it looks.
        out: the PDF; the others go beside it.
    """
    table, fitted = pd.read_csv(results), json.loads(laws.read_text())
    points = pretrain_points(table, fitted["settings"]["parameters"])
    architectures = ordered(fitted["pretraining"])
    error = curves(table)
    tasks = [task for task in TASKS if task in set(error.task)]
    sizes = _sizes(error, table)
    looks = arm_looks(error)
    drawn: list[pd.DataFrame] = []
    with style(settings):
        width = settings.width_mm / MM_PER_INCH
        figure = Figure(figsize=(width, ROW_SHARE * (2 + len(sizes)) * width))
        rows = np.asarray(figure.subfigures(2 + len(sizes), 1, squeeze=False))[:, 0]
        panels = [np.atleast_1d(row.subplots(1, len(architectures))) for row in rows[:2]]
        for along, row, axes in zip(("n", "d"), rows, panels, strict=False):
            for axis, architecture in zip(axes, architectures, strict=True):
                runs = points[points.architecture == architecture]
                drawn.append(_law_panel(axis, runs, _law_of(fitted, architecture), along, fitted))
            _legend(row, _law_legend(points, along, fitted))
        _align(np.array(panels))
        for size, row in zip(sizes, rows[2:], strict=True):
            shown = error[error["size"].eq(size) | error.architecture.eq(PIXEL)]
            panels.append(np.atleast_1d(row.subplots(1, len(tasks))))
            name = f", size {size}" if len(sizes) > 1 else ""
            for axis, task in zip(panels[-1], tasks, strict=True):
                drawn.append(curve_panel(axis, table, shown, task, name, looks))
            _legend(row, curve_legend(shown, looks))
        for letter, axis in zip(ascii_lowercase, (axis for axes in panels for axis in axes), strict=False):
            axis.text(-0.16, 1.07, letter, transform=axis.transAxes, fontweight="bold", va="bottom")
        save(figure, pd.concat(drawn, ignore_index=True), out)


def _sizes(error: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """Fine-tuned sizes, smallest first; the per-pixel model is beside them all."""
    sizes = set(error[error.architecture != PIXEL]["size"])
    counts = table[table["size"].isin(sizes)].groupby("size").parameters_total.mean()
    return [str(size) for size in counts.sort_values().index]


def _law_of(fitted: dict[str, Any], architecture: str) -> Fit | None:
    raw = fitted["pretraining"][architecture]["law"]
    return None if raw is None or raw["status"] == "not_identified" else from_json(raw)


def _law_line(law: Fit, grid: np.ndarray, along: str, held: float, level: float) -> pd.DataFrame:
    """The law along one axis, the other variable held, with its band where there is a bootstrap."""
    at = {along: grid, "d" if along == "n" else "n": np.full_like(grid, held)}
    low, high = law.band(level, **at) if law.draws else (grid * np.nan, grid * np.nan)
    return pd.DataFrame({"x": grid, "y": law.predict(**at), "low": low, "high": high, "kind": "law"})


def _law_panel(
    axis: Axes, runs: pd.DataFrame, law: Fit | None, along: str, fitted: dict[str, Any]
) -> pd.DataFrame:
    """Loss against n or d: runs as points, seed means joined by the law and its band; other corpora as crosses."""
    other = "d" if along == "n" else "n"
    nested, shift = _nested(runs, fitted)
    level = OTHER_LEVEL[along]
    scale = 1 if along == "n" else PIXELS_PER_MEGAPIXEL
    parts = []
    for value, colour in _colours(nested, along).items():
        line = nested[nested[level] == value]
        if law is not None:
            grid = np.geomspace(runs[along].min() / 1.15, runs[along].max() * 1.15, LINE_POINTS)
            drawn = _law_line(law, grid, along, float(line[other].mean()), fitted["settings"]["interval"])
            axis.fill_between(grid / scale, drawn.low, drawn.high, color=colour, alpha=0.18, lw=0)
            axis.plot(grid / scale, drawn.y, color=colour)
            parts.append(drawn.assign(line=value))
        axis.scatter(line[along] / scale, line.y, s=7, color=colour, alpha=0.9, lw=0, zorder=3)
        parts.append(_dots(line, along, value))
    for marker, (corpus, line) in zip(cycle(SHIFT_MARKERS), shift.groupby("corpus"), strict=False):
        axis.scatter(line[along] / scale, line.y, marker=marker, s=16, lw=0.8, color="k", zorder=4)
        parts.append(_dots(line, along, str(corpus)))
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_minor_formatter(NullFormatter())
    if along == "n":
        axis.set_xlabel("Parameters")
        counts = sorted(runs.n.unique())
        axis.set_xticks(counts, [_count(count) for count in counts])
        axis.xaxis.set_minor_locator(NullLocator())
    else:
        axis.set_xlabel("Unique pretraining data (megapixels)")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    architecture = runs.architecture.iloc[0]
    axis.set_title(f"{NAMES.get(architecture, architecture)}\n{_exponents(law, along)}")
    return pd.concat(parts, ignore_index=True).assign(
        panel=f"loss against {along}", architecture=architecture
    )


def _nested(runs: pd.DataFrame, fitted: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs on nested shares of the law's corpus, and those on other archives."""
    inside = runs.corpus == fitted["corpus"]
    return runs[inside], runs[~inside]


def _colours(nested: pd.DataFrame, along: str) -> dict[Any, Any]:
    """A colour for each level of the variable that a panel holds, from least to most."""
    other = "d" if along == "n" else "n"
    order = nested.groupby(OTHER_LEVEL[along])[other].mean().sort_values().index
    return dict(zip(order, sns.color_palette("viridis", len(order) + 1), strict=False))


def _legend(row: SubFigure, handles: list[Line2D]) -> None:
    """One legend below a row of panels, in as few equal lines as its width allows."""
    lines = -(-len(handles) // LEGEND_COLUMNS)
    columns = -(-len(handles) // lines)
    row.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, columnspacing=1.2)


def _law_legend(points: pd.DataFrame, along: str, fitted: dict[str, Any]) -> list[Line2D]:
    nested, shift = _nested(points, fitted)
    handles = []
    for value, colour in _colours(nested, along).items():
        label = f"size {value}"
        if along == "n":
            pixels = nested[nested.fraction == value].d.mean() / PIXELS_PER_MEGAPIXEL
            share = "all" if value == 1 else str(Fraction(value).limit_denominator(10_000))
            label = f"{share} of {fitted['corpus']} ({pixels:.2g} Mpx)"
        handles.append(Line2D([], [], color=colour, marker="o", label=label))
    for marker, corpus in zip(cycle(SHIFT_MARKERS), sorted(set(shift.corpus)), strict=False):
        handles.append(Line2D([], [], color="k", ls="", marker=marker, label=f"{corpus} (not fitted)"))
    return handles


def _dots(runs: pd.DataFrame, along: str, line: object) -> pd.DataFrame:
    """Single runs, as they go to the CSV."""
    return pd.DataFrame({"x": runs[along], "y": runs.y, "seed": runs.seed, "kind": "run", "line": line})


def _exponents(law: Fit | None, along: str) -> str:
    """The exponent of one axis with its profile interval; an end the data leave open says so."""
    name, symbol = ("alpha", "α") if along == "n" else ("beta", "β")
    if law is None:
        return f"{symbol} not identified"
    ends = law.intervals.get("profile", {}).get(name, (None, None))
    low, high = ("open" if end is None else f"{end:.2f}" for end in ends)
    return f"{symbol} = {law.params[name]:.2f} [{low}, {high}]"


def _align(axes: np.ndarray) -> None:
    """The same loss axis everywhere, with plain numbers."""
    limits = np.array([axis.get_ylim() for axis in axes.flat])
    for axis in axes.flat:
        axis.set_ylim(limits[:, 0].min(), limits[:, 1].max())
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    for axis in axes[:, 0]:
        axis.set_ylabel("Masked validation MSE\n(standardised reflectance²)")


def _count(value: float) -> str:
    """1234567 as 1.2M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:g}"
