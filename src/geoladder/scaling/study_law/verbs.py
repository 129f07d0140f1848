"""The verb `joint`: one law for a whole study. Heavy imports wait until it runs."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from geoladder.errors import GeoladderError
from geoladder.scaling.options import Level, Report, Runs, RunsFile

if TYPE_CHECKING:
    from geoladder.scaling.study_law.result import Joint


def joint(
    points: RunsFile,
    /,
    *,
    form: Annotated[str, Parameter(help="additive, multiplicative or through_loss")] = "multiplicative",
    n: Annotated[str, Parameter(help="column of the model's parameters, or a formula of columns")] = "n",
    d: Annotated[str, Parameter(help="column of the pretraining data, or a formula")] = "d",
    shots: Annotated[str, Parameter(help="column of the labelled examples")] = "shots",
    pretrain_loss: Annotated[str, Parameter(help="column of the pretraining loss (through_loss)")] = "loss",
    y: Annotated[str, Parameter(help="column of the error, or a formula such as '1 - accuracy'")] = "y",
    task: Annotated[str, Parameter(help="column of tasks: coefficients are theirs")] = "task",
    family: Annotated[
        str, Parameter(help="column of families: each has a factor of its own in a task")
    ] = "family",
    apart: Annotated[
        tuple[str, ...],
        Parameter(help="an exponent that differs, such as gamma=task or beta=family; repeatable"),
    ] = (),
    at: Annotated[
        tuple[str, ...],
        Parameter(help="an unrun checkpoint: 'task=roads family=unet n=500M d=23 shots=100'; repeatable"),
    ] = (),
    loss_fit: Annotated[
        Path | None,
        Parameter(help="through_loss: JSON of `geoladder fit` that gives the loss of n and d in --at"),
    ] = None,
    exclude: Annotated[tuple[str, ...], Parameter(help="leave out rows, as in `fit`; repeatable")] = (),
    level: Level = 0.95,
    skip_checks: Annotated[bool, Parameter(help="no tests of shared exponents, no hold-outs")] = False,
    out: Report = None,
) -> None:
    """Fit one law to downstream errors over sizes, labelled examples, families and tasks."""
    from geoladder.runs.atomic import write_json
    from geoladder.scaling.study_law.checks import held_out, shared_exponents
    from geoladder.scaling.study_law.fit import joint as fit_joint

    if not 0 < level < 1:
        raise GeoladderError(f"--level {level}: the level lies between 0 and 1")
    through = form == "through_loss"
    sizes = [pretrain_loss, shots] if through else [shots]
    columns = Runs(n=pretrain_loss if through else n, d=None if through else d, y=y, exclude=exclude)
    table, excluded = columns.read(points, sizes)
    law = fit_joint(
        table.rows,
        form,
        n=n,
        d=d,
        shots=shots,
        loss=pretrain_loss,
        y=y,
        task=task,
        family=family,
        apart=dict(_pairs("--apart", apart)),
    )
    print("\n".join(law.lines(level)))  # noqa: T201
    report: dict[str, Any] = {"equation": law.equation, "at": dict(law.layout.at)}
    report |= {"parameters": law.to_frame(level).to_dict("records")}
    if not skip_checks:
        for name, frame in (("shared", shared_exponents(law)), ("held_out", held_out(law, level))):
            print(f"\n{frame.to_string(index=False, float_format='{:.3g}'.format)}")  # noqa: T201
            report[name] = frame.to_dict("records")
    report["predictions"] = [_predicted(law, text, level, loss_fit) for text in at]
    told = {"sha256": table.sha256, "source": str(points), "excluded": excluded}
    if out is not None:
        write_json(out, report | {name: getattr(law, name) for name in law.MEASURES} | told)


def _pairs(option: str, texts: tuple[str, ...]) -> list[tuple[str, str]]:
    """NAME=VALUE of each text; raises GeoladderError for anything else."""
    pairs = [text.partition("=") for text in texts]
    if wrong := next(
        (text for text, pair in zip(texts, pairs, strict=True) if not (pair[0] and pair[2])), None
    ):
        raise GeoladderError(f"{option} {wrong}: write NAME=VALUE")
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def _predicted(law: "Joint", text: str, level: float, loss_fit: Path | None) -> dict[str, Any]:
    """Print and return what a law expects of one unrun checkpoint."""
    import pandas as pd

    from geoladder.scaling.fit.record import read
    from geoladder.scaling.table import with_sizes

    values = dict(_pairs("--at", tuple(text.replace(",", " ").split())))
    if {"task", "family"} - set(values):
        raise GeoladderError(f"--at '{text}' needs task=NAME and family=NAME beside the sizes")
    names = [name for name in values if name not in ("task", "family")]
    row = with_sizes(pd.DataFrame([values]), names).iloc[0]
    try:
        sizes = {name: float(row[name]) for name in names}
    except ValueError:
        raise GeoladderError(f"--at '{text}': sizes are numbers, such as n=5e8 or n=500M") from None
    loss_law = read(loss_fit) if loss_fit else None
    expected = law.predict(values["task"], values["family"], level=level, loss_law=loss_law, **sizes)
    print(f"{text}: {expected}")  # noqa: T201
    return values | asdict(expected)
