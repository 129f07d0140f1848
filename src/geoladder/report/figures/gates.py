"""The gates of the synthetic Earth: what it must show, by how much it does, and what fails."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from geoladder.report.collect import read_results
from geoladder.report.style import canvas, palette, save
from geoladder.runs.digest import intact
from geoladder.study.analysis import Figures

ROW_MM = 3.8


def draw_gates(gates: Path, results: Path, settings: Figures, out: Path) -> None:
    """Draw one dot per gate, grouped by kind: its value against its threshold, in units of its own panel.

    `gates` is synthetic_gates.csv; results.csv names the number of runs behind it. `out` is the PDF.
    """
    table = pd.read_csv(intact(gates))
    runs = read_results(results).fingerprint.nunique()
    kinds = list(table.gate.unique())
    heights = [2 + int((table.gate == kind).sum()) for kind in kinds]
    colours = palette(settings, 4)
    table_colours = table.passed.map({True: colours[0], False: colours[3]})
    with canvas(settings, 12 + ROW_MM * sum(heights)) as figure:
        axes = figure.subplots(len(kinds), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axis, kind in zip(axes, kinds, strict=True):
            rows = table[table.gate == kind]
            _panel(axis, rows, list(table_colours[rows.index]))
            axis.set_title(f"{kind}: value (dot) must exceed threshold (bar)", loc="left")
        passed = int(table.passed.sum())
        figure.suptitle(f"Gates of the synthetic Earth: {passed} of {len(table)} passed ({runs} runs)")
        save(figure, table, out)


def _panel(axis: Axes, rows: pd.DataFrame, colours: list[tuple]) -> None:
    places = -np.arange(len(rows))
    axis.axvline(0, color="0.8", lw=0.6)
    axis.hlines(places, rows.threshold, rows.value, color=colours, lw=1)
    axis.scatter(rows.threshold, places, marker="|", s=30, color="k", lw=0.8, zorder=3)
    axis.scatter(rows.value, places, s=12, color=colours, zorder=3)
    axis.set_yticks(places, rows.subject + rows.passed.map({True: "", False: "  FAILS"}))
    axis.set_ylim(places.min() - 0.7, 0.7)
    ends = rows[["value", "threshold"]].max(axis=1).clip(lower=0)
    for place, end, detail in zip(places, ends, rows.detail, strict=True):
        beside = axis.annotate(detail, (end, place), (5, 0), textcoords="offset points", va="center")
        beside.set(fontsize="x-small", color="0.35")
    low, high = min(0, rows.value.min()), max(rows.value.max(), rows.threshold.max())
    axis.set_xlim(low - 0.05 * (high - low), high + 0.9 * (high - low))
