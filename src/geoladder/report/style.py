"""How figures look, in one place: sizes, fonts, colours, names."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from geoladder.registry import ARCHITECTURES
from geoladder.runs.atomic import atomic_path
from geoladder.study.analysis import Figures

MM_PER_INCH = 25.4


@contextmanager
def drawing(ours: Mapping[Any, Any] = MappingProxyType({})) -> Iterator[None]:
    """Matplotlib's default settings, and ours, while the block runs: a user's matplotlibrc changes no figure."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(ours)
        yield


@contextmanager
def canvas(settings: Figures, height_mm: float) -> Iterator[Figure]:
    """An empty figure, and the study's settings while the block runs; fonts are embedded as text, not outlines."""
    size = settings.font_pt
    ours = {
        "font.family": "DejaVu Sans",
        "font.size": size,
        "axes.titlesize": size,
        "axes.labelsize": size,
        "xtick.labelsize": size - 1,
        "ytick.labelsize": size - 1,
        "legend.fontsize": size - 1,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.0,
        "lines.markersize": 3.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "pdf.fonttype": 42,
        "figure.constrained_layout.use": True,
    }
    with drawing(ours):
        yield Figure(figsize=(settings.width_mm / MM_PER_INCH, height_mm / MM_PER_INCH))


def ordered(architectures: Collection[str]) -> list[str]:
    """Architectures in the order of their entries; others after them."""
    registered = [name for name in ARCHITECTURES if name in architectures]
    return [*registered, *sorted(set(architectures) - set(registered))]


def palette(settings: Figures, count: int) -> list[tuple[float, float, float]]:
    """The study's categorical colours, for what has no colour of its own."""
    return list(sns.color_palette(settings.palette, count))


def save(figure: Figure, numbers: pd.DataFrame, out: Path) -> None:
    """Write the figure as `out` (PDF) and PNG at 300 dpi, and every number in it as CSV beside them.

    The PDF carries no date, so that equal numbers give equal bytes.
    """
    for suffix, extra in ((".png", {"dpi": 300}), (".pdf", {"metadata": {"CreationDate": None}})):
        with atomic_path(out.with_suffix(suffix)) as path:
            figure.savefig(path, **extra)
    with atomic_path(out.with_suffix(".csv")) as path:
        numbers.to_csv(path, index=False)
