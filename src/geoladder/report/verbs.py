"""The verbs that print or draw what is there: of studies, of files, of results. Heavy imports wait until one runs."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from geoladder.options import (
    Bench,
    BenchIndex,
    Corpus,
    Expected,
    Figure,
    GateTable,
    Laws,
    Ledger,
    Out,
    Results,
    Spec,
    Study,
)

STUDY = Path("config.yaml")


def cells(*, study: Study = STUDY) -> None:
    """Print the study's cells."""
    from geoladder.report.overview import cells_table
    from geoladder.study.load import load_study

    print(cells_table(load_study(study)))  # noqa: T201


def status(*, study: Study = STUDY) -> None:
    """Print which results are missing, stale, or made by older code."""
    from geoladder.report.overview import status_table
    from geoladder.study.load import load_study

    print(status_table(load_study(study), Path.cwd()))  # noqa: T201


def summary(results: Annotated[Path, Parameter(help="folder of results")] = Path("results"), /) -> None:
    """Print what a finished study says, in a few lines, and where everything is."""
    from geoladder.report.summary import summary

    print(summary(results))  # noqa: T201


def inspect(
    path: Annotated[Path, Parameter(help="parquet, npy, json, or checkpoint folder")],
    /,
    *,
    row: Annotated[int, Parameter(help="row, patch or chip to draw")] = 0,
    png: Annotated[
        Path | None, Parameter(help="where to draw it (default: <name>.png in this folder)")
    ] = None,
) -> None:
    """Print what is in a file and draw a quicklook."""
    from geoladder.report.inspect import inspect

    print(inspect(path, png, row=row))  # noqa: T201


def collect(*, ledger: Expected, out: Out) -> None:
    """Gather all results into one CSV."""
    from geoladder.report.collect import collect

    collect(ledger, out, Path.cwd())


def laws(*, spec: Spec, results: Results, corpus: Corpus, out: Out) -> None:
    """Fit the study's scaling laws, by its `fit`; write JSON."""
    from geoladder.report.laws import fit_laws
    from geoladder.study.analysis import Fit

    fit_laws(results, Fit.from_json(spec), corpus, out)


def tables(*, results: Results, laws: Laws, out: Out) -> None:
    """Write the tables into a folder."""
    from geoladder.report.tables import write_tables

    write_tables(results, laws, out)


def gates(*, spec: Spec, results: Results, corpus: Corpus, out: Out) -> None:
    """Check the synthetic Earth's gates, by the study's `gates`; write CSV."""
    from geoladder.report.gates import write_gates
    from geoladder.study.downstream import Gates

    write_gates(results, Gates.from_json(spec), corpus, out)


def figure_scaling(*, results: Results, laws: Laws, out: Figure, spec: Spec = "{}") -> None:
    """Draw the scaling figure, as the study's `figures` say."""
    from geoladder.report.figures.scaling import draw_scaling
    from geoladder.study.analysis import Figures

    draw_scaling(results, laws, Figures.from_json(spec), out)


def figure_gates(*, gates: GateTable, results: Results, out: Figure, spec: Spec = "{}") -> None:
    """Draw the gates of the synthetic Earth, as the study's `figures` say."""
    from geoladder.report.figures.gates import draw_gates
    from geoladder.study.analysis import Figures

    draw_gates(gates, results, Figures.from_json(spec), out)


def figure_coverage(*, ledger: Ledger, out: Figure, spec: Spec = "{}") -> None:
    """Draw kept and dropped tiles on a map, as the study's `figures` say."""
    from geoladder.report.figures.coverage import draw_coverage
    from geoladder.study.analysis import Figures

    draw_coverage(ledger, Figures.from_json(spec), out)


def figure_linear(*, results: Results, corpus: Corpus, out: Figure, spec: Spec = "{}") -> None:
    """Draw linear heads on frozen encoders, as the study's `figures` say."""
    from geoladder.report.figures.linear import draw_linear
    from geoladder.study.analysis import Figures

    draw_linear(results, corpus, Figures.from_json(spec), out)


def figure_error_law(*, results: Results, out: Figure, spec: Spec = "{}") -> None:
    """Draw downstream error against pretraining loss, as the study's `figures` say."""
    from geoladder.report.figures.error_law import draw_error_law
    from geoladder.study.analysis import Figures

    draw_error_law(results, Figures.from_json(spec), out)


def figure_lr(
    *,
    results: Results,
    table: Annotated[Path, Parameter(help="CSV to write, of the best rates")],
    out: Figure,
    spec: Spec = "{}",
) -> None:
    """Draw a learning-rate sweep, as the study's `figures` say, and write its table."""
    from geoladder.report.figures.lr import draw_lr
    from geoladder.study.analysis import Figures

    draw_lr(results, Figures.from_json(spec), table, out)


def figure_patches(
    *,
    task: Annotated[str, Parameter(help="of the results")],
    results: Annotated[
        list[Path], Parameter(help="results of runs, with predictions beside them", consume_multiple=True)
    ],
    bench: Bench,
    bench_index: BenchIndex,
    out: Figure,
    show: Annotated[
        Literal["patches", "errors"], Parameter(help="predictions, or how far off they are")
    ] = "patches",
    spec: Spec = "{}",
) -> None:
    """Draw what models predict at fixed test patches, as the study's `figures` say."""
    from geoladder.report.figures.patches import draw_patches
    from geoladder.study.analysis import Figures

    draw_patches(task, results, bench, bench_index, show, Figures.from_json(spec), out)


def figure_published(
    *,
    figure: Annotated[int, Parameter(help="its number in the paper, 4 to 22")],
    out: Figure,
    results: Annotated[
        Path | None, Parameter(help="results.csv of a study on the real bench, to draw beside")
    ] = None,
    spec: Spec = "{}",
) -> None:
    """Draw a figure of the paper from its digitised numbers, as the study's `figures` say."""
    from geoladder.report.published import draw_published
    from geoladder.study.analysis import Figures

    draw_published(figure, Figures.from_json(spec), out, results)


def tables_published(*, out: Out) -> None:
    """Write the paper's tables into a folder."""
    from geoladder.report.published import write_published_tables

    write_published_tables(out)
