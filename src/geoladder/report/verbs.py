"""The verbs that print or draw what is there: of studies, of files, of results. Heavy imports wait until one runs."""

from pathlib import Path


def cells(*, study: Path = Path("config.yaml")) -> None:
    """Print the study's cells.

    Args:
        study: its file.
    """
    from geoladder.report.cells import cells_table
    from geoladder.study.load import load_study

    print(cells_table(load_study(study)))  # noqa: T201


def status(*, study: Path = Path("config.yaml")) -> None:
    """Print which results are missing, stale, or made by older code.

    Args:
        study: its file.
    """
    from geoladder.report.status import status_table
    from geoladder.study.load import load_study

    print(status_table(load_study(study), Path.cwd()))  # noqa: T201


def inspect(path: Path, /, *, row: int = 0, png: Path | None = None) -> None:
    """Print what is in a file and draw a quicklook.

    Args:
        path: parquet, npy, json, or checkpoint folder.
        row: row, patch or chip to draw.
        png: where to draw it (default: <name>.png in this folder).
    """
    from geoladder.report.inspect import inspect

    print(inspect(path, png, row=row))  # noqa: T201


def collect(*, ledger: Path, out: Path) -> None:
    """Gather all results into one table.

    Args:
        ledger: JSON of the results there must be, and of their fingerprints.
        out: CSV to write.
    """
    from geoladder.report.collect import collect

    collect(ledger, out, Path.cwd())


def laws(*, spec: str, results: Path, corpus: str, out: Path) -> None:
    """Fit the study's scaling laws.

    Args:
        spec: canonical JSON of the study's `fit`.
        results: CSV written by `collect`.
        corpus: whose nested fractions are the data axis.
        out: JSON to write.
    """
    from geoladder.report.laws import fit_laws
    from geoladder.study.analysis import Fit

    fit_laws(results, Fit.from_json(spec), corpus, out)


def tables(*, results: Path, laws: Path, out: Path) -> None:
    """Write the tables.

    Args:
        results: CSV written by `collect`.
        laws: JSON written by `laws`.
        out: folder of the tables.
    """
    from geoladder.report.tables import write_tables

    write_tables(results, laws, out)


def gates(*, spec: str, results: Path, corpus: str, out: Path) -> None:
    """Check the synthetic Earth's gates.

    Args:
        spec: canonical JSON of the study's `gates`.
        results: CSV written by `collect`.
        corpus: whose nested fractions are the data axis.
        out: CSV to write.
    """
    from geoladder.report.gates import write_gates
    from geoladder.study.downstream import Gates

    write_gates(results, Gates.from_json(spec), corpus, out)


def figure_scaling(*, results: Path, laws: Path, out: Path, spec: str = "{}") -> None:
    """Draw the scaling figure.

    Args:
        results: CSV written by `collect`.
        laws: JSON written by `laws`.
        out: PDF to write; PNG and CSV go beside it.
        spec: canonical JSON of the study's `figures`.
    """
    from geoladder.report.figures.scaling import draw_scaling
    from geoladder.study.analysis import Figures

    draw_scaling(results, laws, Figures.from_json(spec), out)


def figure_gates(*, gates: Path, results: Path, out: Path, spec: str = "{}") -> None:
    """Draw the gates of the synthetic Earth.

    Args:
        gates: CSV written by `gates`.
        results: CSV written by `collect`.
        out: PDF to write; PNG and CSV go beside it.
        spec: canonical JSON of the study's `figures`.
    """
    from geoladder.report.figures.gates import draw_gates
    from geoladder.study.analysis import Figures

    draw_gates(gates, results, Figures.from_json(spec), out)


def figure_coverage(*, ledger: Path, out: Path, spec: str = "{}") -> None:
    """Draw kept and dropped tiles on a map.

    Args:
        ledger: CSV written by `index`.
        out: PDF to write; PNG and CSV go beside it.
        spec: canonical JSON of the study's `figures`.
    """
    from geoladder.report.figures.coverage import draw_coverage
    from geoladder.study.analysis import Figures

    draw_coverage(ledger, Figures.from_json(spec), out)


def figure_lr(*, results: Path, table: Path, out: Path, spec: str = "{}") -> None:
    """Draw a learning-rate sweep and write its table.

    Args:
        results: CSV of the sweep written by `collect`.
        table: CSV to write, of the best rates.
        out: PDF to write; PNG and CSV go beside it.
        spec: canonical JSON of the study's `figures`.
    """
    from geoladder.report.figures.lr import draw_lr
    from geoladder.study.analysis import Figures

    draw_lr(results, Figures.from_json(spec), table, out)
