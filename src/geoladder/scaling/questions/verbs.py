"""The verb `next`: which runs to make next. Heavy imports wait until it runs."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from geoladder.errors import GeoladderError
from geoladder.scaling.laws import LAW_NAMES
from geoladder.scaling.options import FITTING, RUNS, Fitting, LossName, Report, Runs

if TYPE_CHECKING:
    import pandas as pd

    from geoladder.scaling.questions.next_runs import Assumed


def next_(
    points: Annotated[
        Path | None, Parameter(help="CSV of the runs made, one row per run; none before any")
    ] = None,
    /,
    runs: Runs = RUNS,
    fitting: Fitting = FITTING,
    *,
    question: Annotated[
        str, Parameter(help="a parameter, such as alpha, or a prediction: 'y n=1e10 d=1e12'")
    ],
    form: Annotated[str, Parameter(help=f"the law: {', '.join(LAW_NAMES)}")] = "chinchilla",
    loss: LossName = "log_squared",
    assume: Annotated[
        tuple[str, ...], Parameter(help="before any run: the law's parameters, NAME=VALUE; repeatable")
    ] = (),
    noise: Annotated[
        float | None, Parameter(help="scatter of log y between seeds (default: the fit's)")
    ] = None,
    cell_noise: Annotated[
        float | None,
        Parameter(help="scatter of cells about the law, beyond that of seeds (default: the fit's)"),
    ] = None,
    candidates: Annotated[
        Path | None, Parameter(help="CSV of runs that could be made, with their sizes")
    ] = None,
    n_levels: Annotated[
        list[float] | None, Parameter(consume_multiple=True, help="or: first sizes allowed")
    ] = None,
    d_levels: Annotated[
        list[float] | None, Parameter(consume_multiple=True, help="and second sizes allowed")
    ] = None,
    cost: Annotated[
        str, Parameter(help="of a run: a column of the candidates, or a formula of n and d")
    ] = "6*n*d",
    shrink: Annotated[float, Parameter(help="wanted width, as a share of today's")] = 0.5,
    half_width: Annotated[
        float | None, Parameter(help="or: wanted half-width (of logarithms for y and coefficients)")
    ] = None,
    budget: Annotated[float | None, Parameter(help="or: what may be spent")] = None,
    dearest: Annotated[float | None, Parameter(help="cost of one run at most")] = None,
    most_runs: Annotated[int, Parameter(help="runs of one cell at most")] = 10,
    count: Annotated[
        int | None, Parameter(help="only the first so many runs: choose again once they are made")
    ] = None,
    simulations: Annotated[int, Parameter(help="simulated tables that check the theory")] = 200,
    out: Report = None,
) -> None:
    """Say which runs to make next, to know most per cost."""
    from geoladder.runs.atomic import write_json
    from geoladder.scaling.fit.fit import fit_points
    from geoladder.scaling.fit.result import Fit
    from geoladder.scaling.laws.forms import form_of
    from geoladder.scaling.questions.next_runs import Noise, next_runs, scatter_of

    law = form_of(form)
    if (points is None) == (not assume):
        raise GeoladderError(
            "give either a CSV of runs, or --assume NAME=VALUE for every parameter of the law"
        )
    made = None if points is None else runs.points(runs.read(points)[0].rows, law)[1]
    if made is None:
        basis: Fit | Assumed = _assumed(form, assume, noise, cell_noise or 0.0)
    else:
        basis = fit_points(law, made, fitting.settings(loss))
    levels = {"n": n_levels, "d": d_levels}
    if made is not None:
        levels = {role: given or made.x[role].tolist() for role, given in levels.items() if role in made.x}
    scatter = None
    if isinstance(basis, Fit):
        usual = scatter_of(basis)
        scatter = Noise(
            usual.seed if noise is None else noise, usual.cell if cell_noise is None else cell_noise
        )
    choice = next_runs(
        basis,
        question,
        _candidates(candidates, runs, law.variables, levels, cost),
        runs=made,
        cost=cost if candidates else "cost",
        shrink=shrink,
        half_width=half_width,
        budget=budget,
        dearest=dearest,
        most_runs=most_runs,
        noise=scatter,
        count=count,
        simulations=simulations,
        level=fitting.level,
        rng=fitting.rng,
    )
    print("\n".join(choice.lines()))  # noqa: T201
    if out is not None:
        write_json(out, asdict(choice) | {"runs": choice.runs.to_dict("records")})


def _assumed(form: str, assume: tuple[str, ...], noise: float | None, cell_noise: float) -> "Assumed":
    """A law by its parameters; raises GeoladderError where one is missing, unknown or no positive number."""
    from geoladder.scaling.laws.forms import form_of
    from geoladder.scaling.questions.next_runs import Assumed, Noise

    names, params = form_of(form).parameters, {}
    for text in assume:
        name, _, value = text.partition("=")
        try:
            params[name.strip()] = float(value)
        except ValueError:
            raise GeoladderError(f"--assume {text}: write NAME=VALUE, such as --assume alpha=0.34") from None
    if set(params) != set(names) or not all(value > 0 for value in params.values()):
        raise GeoladderError(
            f"--assume takes a positive value of each of {', '.join(names)}; got {', '.join(params)}"
        )
    if noise is None or not noise > 0:
        raise GeoladderError(
            "an assumed law needs --noise: the scatter of log y between seeds, such as 0.005"
        )
    return Assumed(form, params, Noise(noise, cell_noise))


def _candidates(
    file: Path | None, runs: Runs, roles: tuple[str, ...], levels: dict[str, list[float] | None], cost: str
) -> "pd.DataFrame":
    """Runs that could be made, a column for each size of the law: from a file, or every combination of levels."""
    from geoladder.scaling.expressions import column
    from geoladder.scaling.questions.next_runs import grid

    if file is not None:
        table = runs.read(file)[0].rows
        return table.assign(**{role: column(table, str(getattr(runs, role))).to_numpy() for role in roles})
    lacking = [role for role in roles if levels.get(role) is None]
    if lacking:
        raise GeoladderError(f"no sizes to choose from: give --candidates CSV, or --{lacking[0]}-levels")
    return grid({role: sorted(set(levels[role] or [])) for role in roles}, cost)
