"""The verb `claims`: what a paper says, judged on a table of runs. Heavy imports wait until it runs."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from geoladder.scaling.options import Level


def claims(
    claims: Annotated[Path, Parameter(help="YAML of claims, such as studies/claims/paper.yaml")],
    table: Annotated[Path, Parameter(help="table of runs with task, corpus, architecture, size, n, seed, y")],
    /,
    *,
    out: Annotated[Path, Parameter(help="CSV or JSON to write")],
    level: Level = 0.95,
) -> None:
    """Judge claims on a table of few-shot runs."""
    from geoladder.scaling.claims.verdicts import run_claims

    for verdict in run_claims(claims, table, out, level):
        print(f"{verdict.id}: {verdict.verdict}. {verdict.as_plotted}. {verdict.reason}".strip())  # noqa: T201
