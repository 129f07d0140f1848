"""Panels of test error against labels, for figures that hold them: colour says architecture, line says start."""

from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from geoladder.registry import ARCHITECTURES, TASKS
from geoladder.report.curves import SCRATCH, of_baseline, trivial
from geoladder.report.style import ordered

PREDICT_MEAN = ("predict mean", "")
LIGHT_GREY = "0.7"
CORPUS_MARKERS = ("o", "^", "v", "D")
Looks = dict[tuple[str, str], dict[str, Any]]
"""Line properties by (architecture, corpus)."""


def arm_looks(error: pd.DataFrame) -> Looks:
    """How each arm of a study is drawn: colour by architecture, dashes from scratch, marker by corpus."""
    families = ordered(set(error[~of_baseline(error)].architecture))
    corpora = sorted(set(error.corpus) - {SCRATCH})
    markers = dict(zip(corpora, cycle(CORPUS_MARKERS), strict=False)) | {SCRATCH: "o"}
    looks: Looks = {
        (family, corpus): {
            "color": ARCHITECTURES[family].colour,
            "ls": "--" if corpus == SCRATCH else "-",
            "marker": marker,
            "ms": 2.5,
        }
        for family in families
        for corpus, marker in markers.items()
    }
    for name in set(error[of_baseline(error)].architecture):
        looks[name, SCRATCH] = {"color": ARCHITECTURES[name].colour, "ls": ":", "marker": "s", "ms": 2.5}
    looks[PREDICT_MEAN] = {"color": LIGHT_GREY, "ls": "-."}
    return looks


def curve_panel(
    axis: Axes, table: pd.DataFrame, error: pd.DataFrame, task: str, name: str, looks: Looks
) -> pd.DataFrame:
    """Draw error against n: mean over seeds, bars from the smallest to the largest.

    Args:
        axis: where to draw.
        table: results.csv.
        error: the runs of the curves, of all tasks.
        task: which task.
        name: what the title says after the task.
        looks: from `arm_looks`.

    Returns:
        The numbers drawn.
    """
    base = trivial(table, "mean", "error")
    base = base[base.n.isin(error.n)]
    arms = [
        ((str(architecture), str(corpus)), rows)
        for (architecture, corpus), rows in error.groupby(["architecture", "corpus"])
    ]
    lines = [*arms, (PREDICT_MEAN, base)]
    parts = []
    for place, (arm, rows) in enumerate(lines):
        by_n = rows[rows.task == task].groupby("n").y
        points = by_n.agg(y="mean", low="min", high="max", seeds="size").reset_index()
        x = points.n * 1.03 ** (place - len(lines) / 2)  # side by side, so that bars do not hide one another
        spread = [(points.y - points.low).clip(lower=0), (points.high - points.y).clip(lower=0)]
        axis.errorbar(x, points.y, spread, elinewidth=0.7, **looks[arm])
        points = points.rename(columns={"n": "x"})
        parts.append(points.assign(architecture=arm[0], line=arm[1], kind="curve"))
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(error.n.unique()))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_xlabel("Labelled patches per region bucket, n")
    axis.set_ylabel(TASKS[task].error_label)
    axis.set_title(TASKS[task].title + name)
    return pd.concat(parts, ignore_index=True).assign(panel=f"{task} against n{name}")


def curve_legend(error: pd.DataFrame, looks: Looks) -> list[Line2D]:
    """Handles for the arms among these runs: colours for architectures, black lines for how they start."""
    trained = error[~of_baseline(error)]
    handles = []
    for name in ordered(set(trained.architecture)):
        corpus = trained[trained.architecture == name].corpus.iloc[0]
        handles.append(Line2D([], [], color=looks[name, corpus]["color"], label=ARCHITECTURES[name].title))
    for corpus in sorted(set(trained.corpus)):
        look = looks[ordered(set(trained.architecture))[0], corpus] | {"color": "k"}
        label = "from scratch" if corpus == SCRATCH else f"pretrained on {corpus}"
        handles.append(Line2D([], [], label=label, **look))
    for name in ordered(set(error[of_baseline(error)].architecture)):
        handles.append(Line2D([], [], label=ARCHITECTURES[name].title, **looks[name, SCRATCH]))
    return [*handles, Line2D([], [], label="predict mean", **looks[PREDICT_MEAN])]
