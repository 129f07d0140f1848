"""Seeds as repeated measures: how much scatter is the seed's, how much the cell's, and what that does to exponents.

Runs of one cell share whatever makes the cell lie off the law, so three seeds are less than three independent points.
"""

from dataclasses import dataclass

import numpy as np

from geoladder.scaling.fit.points import Points, Refusal
from geoladder.scaling.fit.problem import lay_out
from geoladder.scaling.fit.result import Fit
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import form_of


@dataclass(frozen=True)
class Components:
    """Standard deviations of log residuals, and standard errors of the exponents without and with the cell's share.

    Attributes:
        sigma_seed: between runs of one cell.
        sigma_cell: between cells, beyond what seeds explain.
        plain: standard error by parameter if all runs were independent.
        mixed: standard error by parameter with a random effect of the cell.
    """

    sigma_seed: float
    sigma_cell: float
    plain: dict[str, float]
    mixed: dict[str, float]


def components(fit: Fit, read: Points) -> Components:
    """Split a fit's residuals by the method of moments for unbalanced one-way layouts (Searle et al. 1992, ch. 3).

    Raises:
        Refusal: no cell is repeated, or the law was refused.
    """
    counts = np.bincount(read.cells)
    runs, cells = len(read.y), len(counts)
    if not fit.params or runs <= cells:
        raise Refusal("variance components need a fitted law and cells with more than one seed")
    residual = fit.residuals
    means = (np.bincount(read.cells, weights=residual) / counts)[read.cells]
    seed = float(((residual - means) ** 2).sum() / (runs - cells))
    dof = max(cells - len(fit.params), 1)
    between = float((means**2).sum() / dof)
    typical = (runs - (counts**2).sum() / runs) / max(cells - 1, 1)
    cell = max(0.0, (between - seed) / typical)
    names, rows = _rows(fit, read)
    same = read.cells[:, None] == read.cells[None]
    whole = seed + cell
    return Components(
        float(np.sqrt(seed)),
        float(np.sqrt(cell)),
        _errors(names, rows, np.eye(runs) * whole),
        _errors(names, rows, np.eye(runs) * seed + same * cell),
    )


def _rows(fit: Fit, read: Points) -> tuple[list[str], Array]:
    """Derivatives (M, P) of the logarithm of the law, at the fit, for the parameters that move it."""
    form = form_of(fit.form)
    problem = lay_out(form, read.x)
    theta = problem.fitted(np.array([[fit.params[name] for name in form.parameters]]))
    value, rows = problem.evaluate(theta)
    logs = rows[0] / value[0][:, None]
    alive = np.linalg.norm(logs, axis=0) > 1e-9
    return [n for n, a in zip(form.parameters, alive, strict=True) if a], logs[:, alive]


def _errors(names: list[str], rows: Array, covariance: Array) -> dict[str, float]:
    """Standard errors of the least-squares estimate when residuals have this covariance."""
    inverse = np.linalg.pinv(rows.T @ rows)
    spread = inverse @ rows.T @ covariance @ rows @ inverse
    return dict(zip(names, np.sqrt(np.diag(spread)).tolist(), strict=True))
