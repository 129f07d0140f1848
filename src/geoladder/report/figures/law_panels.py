"""Panels of pretraining loss against one size of the law, for figures that hold them: colour says the other size."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from geoladder.registry import ARCHITECTURES
from geoladder.report.laws import PIXELS_PER_MEGAPIXEL, interval_text
from geoladder.scaling.fit.record import from_json
from geoladder.scaling.fit.result import Fit

LINE_POINTS = 60
SHIFT_MARKERS = ("x", "+", "1", "2")


@dataclass(frozen=True)
class SizeAxis:
    """One size of the law as the horizontal axis of a panel.

    Attributes:
        role: of the size drawn, a column of the points.
        other: role of the size that a line holds.
        level: column with the planned level of the size held; a line for each.
        label: of the axis, with its unit.
        unit: how much of the size is one unit of the axis.
        exponent: name and symbol of the size's exponent in the law.
        ticks: sets the ticks of an axis, from the sizes drawn.
        line: legend of a level, from its runs and the corpus of the law.
    """

    role: str
    other: str
    level: str
    label: str
    unit: int
    exponent: tuple[str, str]
    ticks: Callable[[Axes, np.ndarray], None]
    line: Callable[[Any, pd.DataFrame, str], str]


def _count_ticks(axis: Axes, counts: np.ndarray) -> None:
    axis.set_xticks(counts.tolist(), [_count(count) for count in counts])
    axis.xaxis.set_minor_locator(NullLocator())


def _count(value: float) -> str:
    """1234567 as 1.23M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:g}"


def _decade_ticks(axis: Axes, _sizes: np.ndarray) -> None:
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def _share_of_corpus(fraction: float, runs: pd.DataFrame, corpus: str) -> str:
    share = "all" if fraction == 1 else str(Fraction(fraction).limit_denominator(10_000))
    return f"{share} of {corpus} ({runs.d.mean() / PIXELS_PER_MEGAPIXEL:.2g} Mpx)"


def _size_of_model(size: str, _runs: pd.DataFrame, _corpus: str) -> str:
    return f"size {size}"


PARAMETERS = SizeAxis(
    "n", "d", "fraction", "Parameters", 1, ("alpha", "α"), _count_ticks, _share_of_corpus
)  # fmt: skip
DATA = SizeAxis(
    "d", "n", "size", "Unique pretraining data (megapixels)", PIXELS_PER_MEGAPIXEL, ("beta", "β"), _decade_ticks,
    _size_of_model,
)  # fmt: skip


def law_panel(axis: Axes, runs: pd.DataFrame, along: SizeAxis, fitted: dict[str, Any]) -> pd.DataFrame:
    """Draw loss against one size: runs as points, their law with its band as lines, other corpora as crosses.

    Args:
        axis: where to draw.
        runs: pretraining points of one architecture, see `pretrain_points`.
        along: the size drawn.
        fitted: content of laws.json.

    Returns:
        The numbers drawn; x are parameters or pixels.
    """
    architecture = runs.architecture.iloc[0]
    record = fitted["pretraining"][architecture]["law"]
    law = None if record is None or record["status"] == "not_identified" else from_json(record)
    nested, shift = _nested(runs, fitted)
    grid = np.geomspace(runs[along.role].min() / 1.15, runs[along.role].max() * 1.15, LINE_POINTS)
    parts = []
    for level, colour in _colours(nested, along).items():
        points = nested[nested[along.level] == level]
        if law is not None:
            line = _law_line(
                law, grid, along, float(points[along.other].mean()), fitted["settings"]["interval"]
            )
            axis.fill_between(grid / along.unit, line.low, line.high, color=colour, alpha=0.18, lw=0)
            axis.plot(grid / along.unit, line.y, color=colour)
            parts.append(line.assign(line=level))
        axis.scatter(points[along.role] / along.unit, points.y, s=7, color=colour, alpha=0.9, lw=0, zorder=3)
        parts.append(_dots(points, along, level))
    for marker, (corpus, points) in zip(cycle(SHIFT_MARKERS), shift.groupby("corpus"), strict=False):
        axis.scatter(
            points[along.role] / along.unit, points.y, marker=marker, s=16, lw=0.8, color="k", zorder=4
        )
        parts.append(_dots(points, along, corpus))
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel(along.label)
    along.ticks(axis, np.unique(runs[along.role]) / along.unit)
    axis.set_title(f"{ARCHITECTURES[architecture].title}\n{_exponent(law, along)}")
    return pd.concat(parts, ignore_index=True).assign(
        panel=f"loss against {along.role}", architecture=architecture
    )


def law_legend(points: pd.DataFrame, along: SizeAxis, fitted: dict[str, Any]) -> list[Line2D]:
    """Handles for the levels of the size that lines hold, least first, and for other corpora."""
    nested, shift = _nested(points, fitted)
    handles = []
    for level, colour in _colours(nested, along).items():
        label = along.line(level, nested[nested[along.level] == level], fitted["corpus"])
        handles.append(Line2D([], [], color=colour, marker="o", label=label))
    for marker, corpus in zip(cycle(SHIFT_MARKERS), sorted(set(shift.corpus)), strict=False):
        handles.append(Line2D([], [], color="k", ls="", marker=marker, label=f"{corpus} (not fitted)"))
    return handles


def _nested(runs: pd.DataFrame, fitted: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs on nested shares of the law's corpus, and those on other archives."""
    inside = runs.corpus == fitted["corpus"]
    return runs[inside], runs[~inside]


def _colours(nested: pd.DataFrame, along: SizeAxis) -> dict[Any, Any]:
    """A colour for each level of the size that lines hold: the darkest for the least, lighter for more."""
    levels = nested.groupby(along.level)[along.other].mean().sort_values().index
    return dict(zip(levels, sns.color_palette("viridis", len(levels) + 1), strict=False))


def _law_line(law: Fit, grid: np.ndarray, along: SizeAxis, other: float, level: float) -> pd.DataFrame:
    """The law along one size, the other at one value, with its band where there is a bootstrap."""
    at = {along.role: grid, along.other: np.full_like(grid, other)}
    low, high = law.band(level, **at) if law.draws else (grid * np.nan, grid * np.nan)
    return pd.DataFrame({"x": grid, "y": law.predict(**at), "low": low, "high": high, "kind": "law"})


def _dots(runs: pd.DataFrame, along: SizeAxis, line: object) -> pd.DataFrame:
    """Single runs, as they go to the CSV."""
    return pd.DataFrame({"x": runs[along.role], "y": runs.y, "seed": runs.seed, "kind": "run", "line": line})


def _exponent(law: Fit | None, along: SizeAxis) -> str:
    """The exponent of one size with its profile interval; an end the data leave open says so."""
    name, symbol = along.exponent
    if law is None:
        return f"{symbol} not identified"
    ends = law.intervals.get("profile", {}).get(name, (None, None))
    return f"{symbol} = {law.params[name]:.2f} {interval_text(ends, '.2f')}"
