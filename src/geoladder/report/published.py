"""The paper's figures and tables from its digitised numbers, by their numbers there."""

from pathlib import Path

from geoladder.published.points import model_table, pretraining_sets
from geoladder.report.figures.published_curves import draw_published_curves
from geoladder.report.figures.published_flops import CHARTS, draw_published_flops
from geoladder.report.figures.published_precision import draw_published_precision
from geoladder.report.tables import write_table
from geoladder.study.analysis import Figures

PRECISION = (21, 22)
"""Figures of the precision of each class."""


def draw_published(figure: int, settings: Figures, out: Path, results: Path | None = None) -> None:
    """Draw a figure of the paper as `out` (PDF); PNG and CSV go beside it.

    `results`, the results.csv of a study on the real bench, adds its fine-tuned models to the few-shot curves.

    Raises:
        GeoladderError: the paper's figure is no chart of numbers.
    """
    if figure in CHARTS:
        draw_published_flops(figure, settings, out)
    elif figure in PRECISION:
        draw_published_precision(figure, settings, out)
    else:
        draw_published_curves(figure, settings, out, results)


def write_published_tables(out: Path) -> None:
    """Write tables I and II into the folder `out`, in the forms of `write_table`."""
    for name, table in (("table1", pretraining_sets()), ("table2", model_table())):
        write_table(table, out / name)
