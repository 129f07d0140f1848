"""The study's figure: pretraining loss against parameters and data, and test error against labels.

Rows: loss against parameters (one line per amount of data), loss against unique data (one line per size), error
against n (one line per architecture). Everything drawn comes from results.csv and laws.json and goes to the CSV.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from geoladder.config import Figures
from geoladder.report.curves import ERROR_METRIC, SCRATCH, curves, trivial
from geoladder.report.laws import PIXELS_PER_MEGAPIXEL, pretrain_points
from geoladder.report.style import MM_PER_INCH, NAMES, palette, save, style
from geoladder.scaling.fit import Fit, from_dict

mpl.use("Agg")
LINE_POINTS = 60
ERROR_LABEL = {"rmse": "Test RMSE (density)", "error": "Test error (share of pixels)"}
PIXEL = "pixel"
GREY, LIGHT_GREY = "0.45", "0.7"


class Line(NamedTuple):
    """One line of a panel of test errors."""

    architecture: str
    corpus: str
    rows: pd.DataFrame
    colour: Any
    dashes: str
    marker: str


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
    architectures = list(fitted["pretraining"])
    tasks = [task for task in ERROR_METRIC if task in set(table.task.dropna())]
    columns = max(len(architectures), len(tasks))
    drawn: list[pd.DataFrame] = []
    with style(settings):
        width = settings.width_mm / MM_PER_INCH
        figure = Figure(figsize=(width, 0.98 * width))
        axes = np.asarray(figure.subplots(3, columns, squeeze=False))
        for column, architecture in enumerate(architectures):
            law = _law_of(fitted, architecture)
            runs = points[points.architecture == architecture]
            for row, along in enumerate(("n", "d")):
                drawn.append(_law_panel(axes[row, column], runs, law, along, fitted))
        _align(axes[:2, : len(architectures)])
        drawn += [_curve_panel(axes[2, column], table, task, settings) for column, task in enumerate(tasks)]
        _finish(figure, axes, len(architectures), len(tasks), settings)
        save(figure, pd.concat(drawn, ignore_index=True), out)


def _law_of(fitted: dict[str, Any], architecture: str) -> Fit | None:
    raw = fitted["pretraining"][architecture]["law"]
    return None if raw is None else from_dict(raw)


def _law_line(law: Fit, grid: np.ndarray, along: str, held: float, level: float) -> pd.DataFrame:
    """The law along one axis, the other variable held, with its band where there is a bootstrap."""
    at = {along: grid, "d" if along == "n" else "n": np.full_like(grid, held)}
    low, high = law.band(level, **at) if law.resamples else (grid * np.nan, grid * np.nan)
    return pd.DataFrame({"x": grid, "y": law.predict(**at), "low": low, "high": high, "kind": "law"})


def _law_panel(
    axis: Axes, runs: pd.DataFrame, law: Fit | None, along: str, fitted: dict[str, Any]
) -> pd.DataFrame:
    """Loss against n or d: runs as points, seed means joined by the law and its band; other corpora as crosses."""
    other = "d" if along == "n" else "n"
    nested = runs[runs.corpus == fitted["corpus"]]
    shift = runs[runs.corpus != fitted["corpus"]]
    level = "fraction" if along == "n" else "size"
    order = nested.groupby(level)[other].mean().sort_values().index
    colours = sns.color_palette("viridis", len(order) + 1)[:-1]
    scale = 1 if along == "n" else PIXELS_PER_MEGAPIXEL
    parts = []
    for colour, value in zip(colours, order, strict=True):
        line = nested[nested[level] == value]
        held = float(line[other].mean())
        label = f"{held / PIXELS_PER_MEGAPIXEL:.2g} Mpx" if along == "n" else f"{value} ({_count(held)})"
        if law is not None:
            grid = np.geomspace(runs[along].min() / 1.15, runs[along].max() * 1.15, LINE_POINTS)
            drawn = _law_line(law, grid, along, held, fitted["settings"]["interval"])
            axis.fill_between(grid / scale, drawn.low, drawn.high, color=colour, alpha=0.18, lw=0)
            axis.plot(grid / scale, drawn.y, color=colour)
            parts.append(drawn.assign(line=label))
        axis.scatter(line[along] / scale, line.y, s=7, color=colour, alpha=0.9, lw=0, zorder=3)
        axis.plot([], [], color=colour, marker="o", label=label)
        parts.append(_dots(line, along, label))
    for marker, (corpus, line) in zip(("x", "+", "1", "2"), shift.groupby("corpus"), strict=False):
        axis.scatter(line[along] / scale, line.y, marker=marker, s=16, lw=0.8, color="k", zorder=4)
        axis.plot([], [], color="k", ls="", marker=marker, label=str(corpus))
        parts.append(_dots(line, along, str(corpus)))
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("Parameters" if along == "n" else "Unique pretraining data (megapixels)")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _count(x) if along == "n" else f"{x:g}"))
    axis.legend(frameon=False, handlelength=1.2, labelspacing=0.2, borderaxespad=0.1)
    architecture = runs.architecture.iloc[0]
    axis.set_title(f"{NAMES.get(architecture, architecture)}\n{_exponents(law, along)}")
    return pd.concat(parts, ignore_index=True).assign(
        panel=f"loss against {along}", architecture=architecture
    )


def _dots(runs: pd.DataFrame, along: str, line: str) -> pd.DataFrame:
    """Single runs, as they go to the CSV."""
    return pd.DataFrame({"x": runs[along], "y": runs.y, "seed": runs.seed, "kind": "run", "line": line})


def _exponents(law: Fit | None, along: str) -> str:
    """The exponent of one axis with its interval, or why there is none."""
    name, symbol = ("alpha", "α") if along == "n" else ("beta", "β")
    if law is None or law.status == "not_identified":
        return f"{symbol} not identified"
    low, high = law.intervals.get("bootstrap", {}).get(name, (np.nan, np.nan))
    floor = "" if law.status == "converged" else ", floor at bound"
    return f"{symbol} = {law.params[name]:.2f} [{low:.2f}, {high:.2f}]{floor}"


def _align(axes: np.ndarray) -> None:
    """The same loss axis everywhere, with plain numbers."""
    limits = np.array([axis.get_ylim() for axis in axes.flat])
    for axis in axes.flat:
        axis.set_ylim(limits[:, 0].min(), limits[:, 1].max())
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_minor_formatter(NullFormatter())
    for axis in axes[:, 0]:
        axis.set_ylabel("Masked validation MSE\n(standardised reflectance²)")


def _curve_panel(axis: Axes, table: pd.DataFrame, task: str, settings: Figures) -> pd.DataFrame:
    """Error against n: mean over seeds, bars from the smallest to the largest; pretrained solid, scratch dashed."""
    error = curves(table)
    error = error[error.task == task]
    # The gates' own runs, longer and of the scratch arms alone, are no point of these curves.
    pretrained = error[error.corpus != SCRATCH]
    shown = sorted((error if pretrained.empty else pretrained).n.unique())
    families = sorted(set(error.architecture) - {PIXEL})
    colours = dict(zip(families, palette(settings, len(families)), strict=True))
    base = trivial(table, "mean", ERROR_METRIC)
    trained = error[error.architecture != PIXEL].groupby(["architecture", "corpus"])
    lines = [
        Line(str(name), str(corpus), rows, colours[str(name)], "--" if corpus == SCRATCH else "-", "o")
        for (name, corpus), rows in trained
    ]
    lines.append(Line(PIXEL, SCRATCH, error[error.architecture == PIXEL], GREY, ":", "s"))
    lines.append(Line("predict mean", "", base[base.task == task], LIGHT_GREY, "-.", ""))
    parts = []
    for place, line in enumerate(lines):
        by_n = line.rows[line.rows.n.isin(shown)].groupby("n").y
        seen = by_n.agg(y="mean", low="min", high="max", seeds="size").reset_index()
        x = seen.n * 1.03 ** (place - len(lines) / 2)  # side by side, so that bars do not hide one another
        spread = [(seen.y - seen.low).clip(lower=0), (seen.high - seen.y).clip(lower=0)]
        looks = {"color": line.colour, "ls": line.dashes, "marker": line.marker, "ms": 2.5, "elinewidth": 0.7}
        axis.errorbar(x, seen.y, spread, **looks)
        seen = seen.rename(columns={"n": "x"})
        parts.append(seen.assign(architecture=line.architecture, line=line.corpus, kind="curve"))
    axis.set_xscale("log", base=2)
    axis.set_xticks(shown)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_xlabel("Labelled patches per region bucket, n")
    axis.set_ylabel(ERROR_LABEL[ERROR_METRIC[task]])
    axis.set_title(NAMES.get(task, task))
    return pd.concat(parts, ignore_index=True).assign(panel=f"{task} against n")


def _finish(figure: Figure, axes: np.ndarray, laws: int, tasks: int, settings: Figures) -> None:
    """Panel letters, one legend for the curves, no empty panels."""
    for row, used in ((0, laws), (1, laws), (2, tasks)):
        for axis in axes[row, used:]:
            axis.set_visible(False)
    visible = [axis for axis in axes.flat if axis.get_visible()]
    for letter, axis in zip("abcdefghijkl", visible, strict=False):
        axis.set_title(letter, loc="left", fontweight="bold")
    families = [name for name in NAMES if name in _families(axes[0, :laws])]
    handles = [
        Line2D([], [], color=colour, label=NAMES[name])
        for name, colour in zip(sorted(families), palette(settings, len(families)), strict=True)
    ]
    handles += [
        Line2D([], [], color="k", marker="o", ms=2.5, label="pretrained"),
        Line2D([], [], color="k", ls="--", marker="o", ms=2.5, label="from scratch"),
        Line2D([], [], color=GREY, ls=":", marker="s", ms=2.5, label="per-pixel model"),
        Line2D([], [], color=LIGHT_GREY, ls="-.", label="predict mean"),
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, columnspacing=1.2
    )


def _families(axes: np.ndarray) -> set[str]:
    titles = {axis.get_title().splitlines()[0] for axis in axes}
    return {key for key, name in NAMES.items() if name in titles}


def _count(value: float) -> str:
    """1234567 as 1.2M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:g}"
