"""Panels of pretraining loss against one size of the law, for figures that hold them: colour says the other size."""

from fractions import Fraction
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from geoladder.registry import ARCHITECTURES
from geoladder.report.laws import interval_text
from geoladder.scaling.fit.record import from_json

LINE_POINTS = 60
SHIFT_MARKERS = ("x", "+", "1", "2")


class SizeAxis(NamedTuple):
    """One size of the law as the horizontal axis of a panel."""

    role: str
    """Of the size drawn: a column of the points."""
    other: str
    """Role of the size that a line holds."""
    level: str
    """Column with the planned level of that size; a line for each."""
    label: str
    unit: int
    """How much of the size is one unit of the axis."""
    exponent: tuple[str, str]
    """Name and symbol of the size's exponent in the law."""


PARAMETERS = SizeAxis("n", "d", "fraction", "Parameters", 1, ("alpha", "α"))
DATA = SizeAxis("d", "n", "size", "Unique pretraining data (megapixels)", 1_000_000, ("beta", "β"))


def law_panel(axis: Axes, runs: pd.DataFrame, along: SizeAxis, fitted: dict[str, Any]) -> pd.DataFrame:
    """Draw loss against one size: runs as points, their law with its band as lines, other corpora as crosses.

    From `pretrain_points` of one architecture and the content of laws.json. Returns the numbers drawn; x are
    parameters or pixels.
    """
    architecture = runs.architecture.iloc[0]
    record = fitted["pretraining"][architecture]["law"]
    law = None if record is None or record["status"] == "not_identified" else from_json(record)
    dots = runs.assign(x=runs[along.role], kind="run")[["x", "y", "seed", "kind"]]
    grid = np.geomspace(dots.x.min() / 1.15, dots.x.max() * 1.15, LINE_POINTS)
    parts = []
    for level, colour, points in _levels(runs, along, fitted["corpus"]):
        if law is not None:
            at = {along.role: grid, along.other: np.full_like(grid, points[along.other].mean())}
            low, high = law.band(fitted["settings"]["interval"], **at) if law.draws else (grid * np.nan,) * 2
            line = pd.DataFrame({"x": grid, "y": law.predict(**at), "low": low, "high": high, "kind": "law"})
            axis.fill_between(grid / along.unit, line.low, line.high, color=colour, alpha=0.18, lw=0)
            axis.plot(grid / along.unit, line.y, color=colour)
            parts.append(line.assign(line=level))
        marks = dots.loc[points.index].assign(line=level)
        axis.scatter(marks.x / along.unit, marks.y, s=7, color=colour, alpha=0.9, lw=0, zorder=3)
        parts.append(marks)
    for corpus, marker, points in _shifted(runs, fitted["corpus"]):
        marks = dots.loc[points.index].assign(line=corpus)
        axis.scatter(marks.x / along.unit, marks.y, marker=marker, s=16, lw=0.8, color="k", zorder=4)
        parts.append(marks)
    axis.set(xscale="log", yscale="log", xlabel=along.label)
    axis.xaxis.set_minor_formatter(NullFormatter())
    if along is PARAMETERS:
        axis.set_xticks(np.unique(dots.x).tolist(), [_count(count) for count in np.unique(dots.x)])
        axis.xaxis.set_minor_locator(NullLocator())
    else:
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    name, symbol = along.exponent
    exponent = f"{symbol} not identified"
    if law is not None:
        ends = law.intervals.get("profile", {}).get(name, (None, None))
        exponent = f"{symbol} = {law.params[name]:.2f} {interval_text(ends, '.2f')}"
    axis.set_title(f"{ARCHITECTURES[architecture].title}\n{exponent}")
    return pd.concat(parts, ignore_index=True).assign(
        panel=f"loss against {along.role}", architecture=architecture
    )


def law_legend(points: pd.DataFrame, along: SizeAxis, corpus: str) -> list[Line2D]:
    """Handles for the levels of the size that lines hold, least first, and for corpora other than the law's."""
    levels = [
        Line2D([], [], color=colour, marker="o", label=_name(level, runs, corpus))
        for level, colour, runs in _levels(points, along, corpus)
    ]
    return levels + [
        Line2D([], [], color="k", ls="", marker=marker, label=f"{other} (not fitted)")
        for other, marker, _ in _shifted(points, corpus)
    ]


def _name(level: float | str, runs: pd.DataFrame, corpus: str) -> str:
    """What the legend says of a level: a size of the model, or a share of the corpus."""
    if isinstance(level, str):
        return f"size {level}"
    share = "all" if level == 1 else str(Fraction(level).limit_denominator(10_000))
    return f"{share} of {corpus} ({runs.d.mean() / DATA.unit:.2g} Mpx)"


def _count(value: float) -> str:
    """1234567 as 1.23M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:g}"


def _levels(runs: pd.DataFrame, along: SizeAxis, corpus: str) -> list[tuple[Any, Any, pd.DataFrame]]:
    """Each level of the size that lines hold, its colour, the darkest for the least, and its nested runs."""
    nested = runs[runs.corpus == corpus]
    levels = nested.groupby(along.level)[along.other].mean().sort_values().index
    pairs = zip(levels, sns.color_palette("viridis", len(levels) + 1), strict=False)
    return [(level, colour, nested[nested[along.level] == level]) for level, colour in pairs]


def _shifted(runs: pd.DataFrame, corpus: str) -> list[tuple[str, str, pd.DataFrame]]:
    """Each corpus that is no share of the law's, its marker, and its runs."""
    others = zip(cycle(SHIFT_MARKERS), runs[runs.corpus != corpus].groupby("corpus"), strict=False)
    return [(str(name), marker, points) for marker, (name, points) in others]
