"""Linear heads on frozen encoders: test error against labels, unique pretraining data and parameters.

A column for each task. Rows: random, pretrained and oracle encoders of every family at each n, on the largest
fraction of the law's corpus; error against data, a line for each family and size; error against parameters, a line
for each family, with its random encoders, the floor, and its oracles, the ceiling. The last two are at one n, and
dots are cells: means over draws.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from geoladder.errors import GeoladderError
from geoladder.registry import ARCHITECTURES, TASKS
from geoladder.report.collect import read_results
from geoladder.report.figures.curve_panels import WORSE, WORSE_TEXT
from geoladder.report.laws import pretrain_points
from geoladder.report.linear_effect import linear_errors, mean_interval
from geoladder.report.rivals import marked
from geoladder.report.style import canvas, ordered, save
from geoladder.study.analysis import Figures
from geoladder.study.arms import ORACLE, RANDOM

ROW_SHARE = 0.3
"""Height of a row of panels as a share of the figure's width."""
SHOWN_N = 4
"""Of the panels against data and parameters, or the nearest n there is."""
SIZE_MARKERS = ("v", "o", "^", "D", "s", "P", "X", "*")
SHIFTED = "x"
LINES = {RANDOM: "--", ORACLE: ":"}
"""Of the floor and the ceiling."""
FILLS = {RANDOM: "white", ORACLE: "black"}
MEGA = 1e6
LEGEND_COLUMNS = 6


def draw_linear(results: Path, corpus: str, settings: Figures, out: Path) -> None:
    """Draw linear heads of results.csv as `out` (PDF); PNG and CSV go beside it.

    The nested fractions of `corpus` are the data axis; other corpora are crosses there.

    Raises:
        GeoladderError: there are none, or no table of results.
    """
    table = read_results(results)
    errors, cells = linear_errors(table), pretrain_points(table, "total")
    if errors.empty:
        raise GeoladderError(f"{results} has no linear heads; give the study a `linear` block and run it")
    cells = cells.rename(columns={"n": "parameters", "d": "pixels"}).drop(columns=["y", "fingerprint"])
    errors = errors.merge(cells, "left", on=["corpus", "fraction", "architecture", "size", "seed"])
    sizes = cells.groupby(["architecture", "size"]).parameters.mean()
    rungs = pd.MultiIndex.from_frame(errors[["architecture", "size"]])
    errors["parameters"] = sizes.reindex(rungs).to_numpy()  # random encoders have no cell of their own
    levels = np.array(sorted(errors.n.unique()))
    shown_n = int(levels[np.abs(np.log(levels / SHOWN_N)).argmin()])
    tasks = [task for task in TASKS if task in set(errors.task)]
    marker_of = dict(zip(sizes.groupby("size").mean().sort_values().index, SIZE_MARKERS, strict=False))
    numbers: list[pd.DataFrame] = []
    with canvas(settings, 3 * ROW_SHARE * settings.width_mm) as figure:
        axes = figure.subplots(3, len(tasks), squeeze=False)
        for column, task in zip(axes.T, tasks, strict=True):
            of_task = errors[errors.task == task]
            at_n = of_task[of_task.n == shown_n]
            numbers += [
                _against_n(column[0], _beaten(_largest(of_task, corpus), table)).assign(task=task),
                _against_data(column[1], at_n, corpus, marker_of).assign(task=task),
                _against_parameters(column[2], _largest(at_n, corpus)).assign(task=task),
            ]
            column[0].set_title(TASKS[task].title)
            for axis in column:
                axis.set_ylabel(TASKS[task].error_label)
            for axis in column[1:]:
                axis.set_title(f"n = {shown_n}", fontsize="medium")
        bounds = [corpus for corpus in LINES if corpus in set(errors.corpus)]
        shifted = bool(set(errors.corpus) - {corpus, *LINES})
        handles = _legend(ordered(set(errors.architecture)), bounds, marker_of, shifted)
        figure.legend(handles=handles, loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False)
        save(figure, pd.concat(numbers, ignore_index=True), out)


def _largest(errors: pd.DataFrame, corpus: str) -> pd.DataFrame:
    """Random encoders, oracles, and those pretrained on the largest fraction of the corpus."""
    nested, bounds = errors[errors.corpus == corpus], errors[errors.corpus.isin([RANDOM, ORACLE])]
    return pd.concat([bounds, nested[nested.fraction == nested.fraction.max()]])


def _beaten(errors: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The heads with the predictors without a network that beat their point against n, in `worse_than`."""
    on_subsets = errors.drop(columns="seed").rename(columns={"draw": "seed"})
    return marked(errors, on_subsets, table, ["task", "architecture", "corpus", "n"])


def _against_n(axis: Axes, errors: pd.DataFrame) -> pd.DataFrame:
    """Means over sizes, seeds and draws, with 95 % intervals over draws; a cross where a predictor beats them."""
    parts = []
    arms = list(errors.groupby(["architecture", "corpus"]))
    for place, (names, rows) in enumerate(arms):
        architecture, corpus = map(str, names)
        draws = rows.groupby(["n", "draw"]).y.mean().groupby("n")
        points = draws.agg(y="mean").reset_index()
        points[["low", "high"]] = [mean_interval(of_n.to_numpy()) for _, of_n in draws]
        x = points.n * 1.04 ** (place - len(arms) / 2)  # side by side, so that bars do not hide one another
        spread = [points.y - points.low, points.high - points.y]
        axis.errorbar(x, points.y, spread, elinewidth=0.7, marker="o", ms=2.5, **_look(architecture, corpus))
        points["worse_than"] = rows.groupby("n").worse_than.first().to_numpy()
        worse = points.worse_than != ""
        axis.plot(x[worse], points.y[worse], zorder=4, **WORSE)
        parts.append(
            points.rename(columns={"n": "x"}).assign(architecture=architecture, corpus=corpus, panel="n")
        )
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(errors.n.unique()))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_xlabel("Labelled patches per region bucket, n")
    return pd.concat(parts, ignore_index=True)


def _against_data(axis: Axes, errors: pd.DataFrame, corpus: str, marker_of: dict[str, str]) -> pd.DataFrame:
    """A dot per cell: its mean over draws, a line through the means of a size over seeds."""
    cells = errors[~errors.corpus.isin([RANDOM, ORACLE])].groupby(
        ["architecture", "size", "corpus", "fraction", "seed"], as_index=False
    )
    points = cells[["pixels", "y"]].mean().rename(columns={"pixels": "x"})
    for (architecture, size), rows in points.groupby(["architecture", "size"]):
        look: dict[str, Any] = {"color": ARCHITECTURES[str(architecture)].colour}
        nested, others = rows[rows.corpus == corpus], rows[rows.corpus != corpus]
        axis.scatter(nested.x / MEGA, nested.y, s=7, marker=marker_of[str(size)], lw=0, alpha=0.7, **look)
        axis.scatter(others.x / MEGA, others.y, s=14, marker=SHIFTED, lw=0.8, **look)
        line = nested.groupby("fraction")[["x", "y"]].mean()
        axis.plot(line.x / MEGA, line.y, **look)
    axis.set(xscale="log", xlabel="Unique pretraining data (megapixels)")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    return points.assign(panel="data")


def _against_parameters(axis: Axes, errors: pd.DataFrame) -> pd.DataFrame:
    """A dot per encoder: its mean over draws; lines through means over seeds."""
    encoders = errors.groupby(["architecture", "size", "corpus", "seed"], as_index=False)
    points = encoders[["parameters", "y"]].mean().rename(columns={"parameters": "x"})
    for (architecture, corpus), rows in points.groupby(["architecture", "corpus"]):
        look = _look(str(architecture), str(corpus))
        axis.scatter(rows.x, rows.y, s=7, lw=0.6, fc=look["mfc"], ec=look["color"])
        line = rows.groupby("size")[["x", "y"]].mean().sort_values("x")
        axis.plot(line.x, line.y, zorder=1, **look)
    axis.set(xscale="log", xlabel="Parameters of the pretraining model")
    return points.assign(panel="parameters")


def _look(architecture: str, corpus: str) -> dict[str, Any]:
    """Line of an arm; dots of random encoders are hollow, those of oracles black."""
    colour = ARCHITECTURES[architecture].colour
    return {"color": colour} | _bound_look(corpus, colour)


def _bound_look(corpus: str, colour: str) -> dict[str, Any]:
    return {"ls": LINES.get(corpus, "-"), "mfc": FILLS.get(corpus, colour)}


def _legend(
    architectures: list[str], bounds: list[str], marker_of: dict[str, str], shifted: bool
) -> list[Line2D]:
    handles = [
        Line2D([], [], color=ARCHITECTURES[name].colour, label=ARCHITECTURES[name].title)
        for name in architectures
    ]
    handles += [
        Line2D([], [], color="k", marker="o", ms=2.5, label="pretrained"),
        *(
            Line2D([], [], color="k", marker="o", ms=2.5, label=corpus, **_bound_look(corpus, "k"))
            for corpus in bounds
        ),
    ]
    handles += [
        Line2D([], [], color="k", ls="", marker=marker, label=f"size {size}")
        for size, marker in marker_of.items()
    ]
    if shifted:
        handles.append(Line2D([], [], color="k", ls="", marker=SHIFTED, ms=3, label="another corpus"))
    return [*handles, Line2D([], [], label=WORSE_TEXT, **WORSE)]
