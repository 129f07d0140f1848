"""Panels of test error against labels, for figures that hold them: colour says architecture, line says start."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from geoladder.registry import ARCHITECTURES, TASKS
from geoladder.report.curves import of_baseline
from geoladder.report.style import ordered
from geoladder.study.arms import RELEASED, SCRATCH

RIVALS: dict[str, dict[str, Any]] = {
    "mean": {"label": "predict mean", "color": "0.7", "ls": "-."},
    "linear": {"label": "linear in a pixel's bands", "color": "0.7", "ls": ":"},
    "boosted": {"label": "boosted trees on a pixel's bands", "color": "0.5", "ls": "-", "lw": 0.7},
}
"""Predictors that are drawn, with their lines."""
WORSE: dict[str, Any] = {"ls": "", "marker": "x", "ms": 5, "mew": 0.8, "color": "k"}
"""A point that a predictor without a network beats."""
WORSE_TEXT = "worse than zero, the mean or a pixel's bands"
CORPUS_MARKERS = ("o", "^", "v", "D")
STARTS = {SCRATCH: "from scratch", RELEASED: "weights as released"}


def curve_panel(
    axis: Axes, error: pd.DataFrame, rivals: pd.DataFrame, task: str, name: str, corpora: list[str]
) -> pd.DataFrame:
    """Draw error against n: mean over seeds, bars from the smallest to the largest; return the numbers drawn.

    `error` has the runs of the curves, with the rivals that beat them in `worse_than`, and `rivals` the errors of
    these, of all tasks; the title says `name` after the task. Points that a rival beats are crossed out, and those of
    which a run had not settled have a white centre. The order of `corpora`, all that arms of the study are pretrained
    on, gives the markers.
    """
    arms = [
        ((str(arm), str(corpus)), rows) for (arm, corpus), rows in error.groupby(["architecture", "corpus"])
    ]
    drawn = rivals[rivals.n.isin(error.n) & rivals.predictor.isin(RIVALS)]
    lines = [*arms, *(((str(rival), ""), rows) for rival, rows in drawn.groupby("predictor"))]
    parts = []
    for place, ((architecture, corpus), rows) in enumerate(lines):
        by_n = rows[rows.task == task].groupby("n").y
        points = by_n.agg(y="mean", low="min", high="max", seeds="size").rename_axis("x").reset_index()
        x = points.x * 1.03 ** (place - len(lines) / 2)  # side by side, so that bars do not hide one another
        spread = [(points.y - points.low).clip(lower=0), (points.high - points.y).clip(lower=0)]
        axis.errorbar(x, points.y, spread, elinewidth=0.7, **_look(architecture, corpus, corpora))
        if "settled" in rows:
            points["settled"] = rows[rows.task == task].groupby("n").settled.all().to_numpy()
            unsettled = ~points.settled
            axis.plot(x[unsettled], points.y[unsettled], ls="", marker="o", ms=1.2, color="w", zorder=4)
        if "worse_than" in rows:
            points["worse_than"] = rows[rows.task == task].groupby("n").worse_than.first().to_numpy()
            worse = points.worse_than != ""
            axis.plot(x[worse], points.y[worse], zorder=4, **WORSE)
        parts.append(points.assign(architecture=architecture, line=corpus, kind="curve"))
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(error.n.unique()))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set(xlabel="Labelled patches per region bucket, n", ylabel=TASKS[task].error_label)
    axis.set_title(TASKS[task].title + name)
    return pd.concat(parts, ignore_index=True).assign(panel=f"{task} against n{name}")


def curve_legend(error: pd.DataFrame, corpora: list[str]) -> list[Line2D]:
    """Handles for the arms among these runs: colours for architectures, black lines for how they start."""
    baseline = of_baseline(error)
    trained = ordered(set(error[~baseline].architecture))
    looks: dict[str, dict[str, Any]] = {
        ARCHITECTURES[name].title: {"color": ARCHITECTURES[name].colour} for name in trained
    }
    for corpus in sorted(set(error[~baseline].corpus)):
        start = STARTS.get(corpus, f"pretrained on {corpus}")
        looks[start] = _look(trained[0], corpus, corpora) | {"color": "k"}
    for name in ordered(set(error[baseline].architecture)):
        looks[ARCHITECTURES[name].title] = _look(name, SCRATCH, corpora)
    looks |= {look["label"]: look for look in RIVALS.values()}
    if (error.worse_than != "").any():
        looks[WORSE_TEXT] = WORSE
    return [Line2D([], [], **look | {"label": label}) for label, look in looks.items()]


def _look(architecture: str, corpus: str, corpora: list[str]) -> dict[str, Any]:
    """Line of an arm: colour by architecture, dashes from scratch, marker by corpus."""
    if architecture in RIVALS:
        return RIVALS[architecture]
    entry = ARCHITECTURES[architecture]
    line, marker = "--", "o"
    if entry.baseline:
        line, marker = ":", "s"
    elif corpus != SCRATCH:
        line, marker = "-", CORPUS_MARKERS[corpora.index(corpus) % len(CORPUS_MARKERS)]
    return {"color": entry.colour, "ls": line, "marker": marker, "ms": 2.5}
