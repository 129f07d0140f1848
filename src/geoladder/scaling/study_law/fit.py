"""Fitting a law to a whole study: least squares of log errors and the variance between checkpoints, in turn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, sparse, special

from geoladder.scaling.fit.covariance import Blocks, Shares
from geoladder.scaling.fit.mixed import ROUNDS, SETTLED, Likelihood, basis_of, information
from geoladder.scaling.fit.points import Points, Refusal, check_columns, positive_numbers
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import PowerSum
from geoladder.scaling.study_law.layout import GROUPS, JOINT_FORMS, Layout
from geoladder.scaling.study_law.result import Errors, Joint

STEEPEST = 8.0
STARTS = (0.1, 0.4, 1.0)
"""Exponents a search starts from."""
CLOSE, EVALUATIONS = 1e-10, 200
INSIDE = 1e-9
"""Distance from its bounds a search starts at."""
EXACT = 1e-24
"""Least variance of log y; runs that lie exactly on a law have none."""
RANGE = 12.0
"""A term at the geometric mean of the sizes lies within this factor, in logarithms, of the errors."""


def joint(
    runs: pd.DataFrame,
    form: str = "multiplicative",
    *,
    n: str = "n",
    d: str = "d",
    shots: str = "shots",
    loss: str = "loss",
    y: str = "y",
    task: str = "task",
    family: str = "family",
    apart: Mapping[str, str] | None = None,
) -> Joint:
    """Fit one law to the runs of a study, a row per checkpoint, task and number of labelled examples.

    `form` is `additive`, `multiplicative` or `through_loss`; the names that follow are columns: sizes of model and
    pretraining data, labelled examples, pretraining loss (of these a form takes what it needs), error, task, family.
    `apart` are exponents told apart, by `task` or by `family`, such as `{"gamma": "task"}`.

    Raises:
        Refusal: an unknown form, column or exponent, values that are not positive, or fewer rows than parameters.
    """
    if form not in JOINT_FORMS:
        raise Refusal(f"unknown law of a study '{form}'; allowed are: {', '.join(JOINT_FORMS)}")
    law = JOINT_FORMS[form]
    columns = {"n": n, "d": d, "shots": shots, "loss": loss}
    check_columns(runs, [*(columns[role] for role in law.variables), y, task, family])
    sizes = {role: positive_numbers(runs, columns[role]) for role in law.variables}
    named = {"task": runs[task].astype(str), "family": runs[family].astype(str)}
    return fit_table(law, pd.DataFrame({**named, **sizes, "y": positive_numbers(runs, y)}), apart or {})


def fit_table(law: PowerSum, table: pd.DataFrame, apart: Mapping[str, str]) -> Joint:
    """Fit a law to a table with the columns task, family, the law's sizes and y; see `joint`."""
    for name, column in apart.items():
        if name not in law.exponents or column not in GROUPS:
            raise Refusal(
                f"{name} by {column}: exponents of {law.equation} are {', '.join(law.exponents)}; they may differ "
                f"by {' or by '.join(GROUPS)}"
            )
    layout = Layout.of(law, table, apart)
    if len(table) <= len(layout.names):
        raise Refusal(
            f"{len(table)} rows for {len(layout.names)} parameters ({', '.join(layout.names)}); fit fewer tasks or "
            "families, or share exponents"
        )
    told = [*GROUPS, *(role for role in law.variables if role != "shots")]
    cells = table.groupby(told, sort=True).ngroup().to_numpy()
    sizes = {role: table[role].to_numpy(np.float64) for role in law.variables}
    values = table.y.to_numpy(np.float64)
    several = len(np.unique(cells)) < len(cells)
    return _fitted(layout, table, Points(sizes, values, np.ones(len(values)), {}, cells, several))


def _optimum(
    layout: Layout, design: Array, target: Array, blocks: Blocks, several: bool, starts: list[Array]
) -> tuple[Array, Shares]:
    """The law (P,) and the share of the variance that checkpoints of several rows have, in turn until they agree."""
    plain = sparse.eye_array(len(target), format="csr")
    theta = min(
        (_refined(layout, design, target, plain, start) for start in starts), key=lambda fit: fit.cost
    ).x
    shares = Shares()
    for _ in range(ROUNDS if several else 0):
        basis, _ = basis_of(_slopes(design, theta))
        shares = Likelihood(blocks, _residuals(design, theta, target), basis).estimate(cells=True, runs=False)
        inverse = [np.linalg.inv(root) for root in blocks.roots(shares)]
        before = theta
        theta = _refined(layout, design, target, blocks.matrix(inverse, len(target)), before).x
        if np.abs(theta - before).max() < SETTLED:
            break
    return theta, shares


def _fitted(layout: Layout, rows: pd.DataFrame, read: Points) -> Joint:
    """The law with everything the rows say of it."""
    design, target, blocks = layout.design(rows), np.log(read.y), Blocks(read)
    starts = _starts(layout, rows, target)
    theta, shares = _optimum(layout, design, target, blocks, read.repeated, starts)
    slopes, residuals = _slopes(design, theta), _residuals(design, theta, target)
    basis, moves = basis_of(slopes)
    likelihood = Likelihood(blocks, residuals, basis)
    factors, _, cross, roots = likelihood.whitened(shares)
    variance = max(likelihood.scale(cross), EXACT)
    _, adjusted, changes, spread = information(blocks, shares, variance, factors, cross, roots)
    errors = Errors(slopes, moves, adjusted, changes, spread, float(len(target) - moves.shape[1]))
    about = target - pd.Series(target).groupby(rows.task.to_numpy()).transform("mean").to_numpy()
    return Joint(
        layout.form.equation,
        layout,
        theta,
        errors,
        sigma_checkpoint=float(np.sqrt(variance * shares.cell)),
        sigma_row=float(np.sqrt(variance * (1 - shares.cell))),
        checkpoints=len(np.unique(read.cells)),
        rows=len(target),
        r2=float(1 - (residuals**2).sum() / max((about**2).sum(), 1e-300)),
        rmse=float(np.sqrt((residuals**2).mean())),
        ranges={role: (float(values.min()), float(values.max())) for role, values in read.x.items()},
        table=rows,
    )


def _residuals(design: Array, theta: Array, target: Array) -> Array:
    return special.logsumexp(design @ theta, axis=0) - target


def _slopes(design: Array, theta: Array) -> Array:
    """(M, P) derivatives of the logarithm of the law."""
    return np.einsum("tm,tmp->mp", special.softmax(design @ theta, axis=0), design)


def _starts(layout: Layout, rows: pd.DataFrame, target: Array) -> list[Array]:
    """Exponents all alike, every term of a task with the same share of its mean error."""
    means = pd.Series(target).groupby(rows.task.to_numpy()).mean()
    share = np.log(len(layout.form.terms))
    coefficients = {
        f"{term}[{name}]": mean - share for term in layout.form.terms for name, mean in means.items()
    }
    exponents = [name.split("[")[0] in layout.form.exponents for name in layout.names]
    first = np.array([coefficients.get(name, 0.0) for name in layout.names])
    return [np.where(exponents, start, first) for start in (STARTS[:1] if layout.form.rising else STARTS)]


def _refined(layout: Layout, design: Array, target: Array, white: sparse.csr_array, start: Array) -> Any:  # noqa: ANN401
    """Least squares of the residuals of log y, whitened by a sparse matrix (M, M)."""
    bases = [name.split("[")[0] for name in layout.names]
    ends = {
        **dict.fromkeys(layout.form.exponents, (-STEEPEST if layout.form.rising else 0.0, STEEPEST)),
        **dict.fromkeys(layout.form.terms, (target.min() - RANGE, target.max() + RANGE)),
    }
    low, high = np.array([ends.get(base, (-RANGE, RANGE)) for base in bases]).T

    def residuals(theta: Array) -> Array:
        return white @ _residuals(design, theta, target)

    def slopes(theta: Array) -> Array:
        return white @ _slopes(design, theta)

    inside = np.clip(start, low + INSIDE, high - INSIDE)
    return optimize.least_squares(
        residuals,
        inside,
        slopes,
        bounds=(low, high),
        x_scale="jac",
        xtol=CLOSE,
        ftol=CLOSE,
        gtol=CLOSE,
        max_nfev=EVALUATIONS,
    )
