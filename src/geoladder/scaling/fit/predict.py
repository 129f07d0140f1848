"""What a fitted law says of sizes: its curve, the curve's band, and where a new run would fall."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from geoladder.errors import GeoladderError
from geoladder.scaling.laws.curves import Array, Curve
from geoladder.scaling.laws.forms import Form, form_of

if TYPE_CHECKING:
    from geoladder.scaling.fit.result import Fit

NOISE_SEED = 0
NOISE_DRAWS = 4000


def law(form: Form, params: Mapping[str, Array], x: Mapping[str, Array]) -> Array:
    """Values (R, M) of a law for R sets of parameters in the units of the data, at M points."""
    columns = {name: np.atleast_1d(np.asarray(v, dtype=np.float64))[:, None] for name, v in params.items()}
    sizes = {
        variable: np.atleast_1d(np.asarray(x[variable], dtype=np.float64)) for variable in form.variables
    }
    if isinstance(form, Curve):
        logged = [
            np.log(np.maximum(columns[name], 1e-300)) if name in form.logged else columns[name]
            for name in form.parameters
        ]
        return form.evaluate(np.concatenate(logged, axis=1), sizes)[0]
    total = np.zeros((1, 1))
    with np.errstate(over="ignore", under="ignore"):
        for term in form.terms:
            exponent = sum((columns[e] * np.log(sizes[v]) for v, e in term.powers), np.zeros((1, 1)))
            total = total + np.exp(np.log(np.maximum(columns[term.coefficient], 1e-300)) - exponent)
    return total


def curve(fit: "Fit", x: Mapping[str, Array]) -> Array:
    """The law (M,) at given sizes.

    Raises:
        GeoladderError: the law was refused, or a size is missing or not positive.
    """
    form = _usable(fit, x)
    return law(form, {name: np.array([value]) for name, value in fit.params.items()}, x)[0]


def band(fit: "Fit", x: Mapping[str, Array], level: float = 0.95) -> tuple[Array, Array]:
    """Pointwise interval of the law itself, from the bootstrap."""
    low, high = np.quantile(_drawn(fit, x), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def prediction(fit: "Fit", x: Mapping[str, Array], level: float = 0.95) -> tuple[Array, Array]:
    """Pointwise interval of one new run: the law's uncertainty and the scatter of runs about it.

    Bootstrap curves, each with a residual of the fit dealt to it; residuals are inflated for the parameters spent.
    """
    curves = _drawn(fit, x)
    rng = np.random.default_rng(NOISE_SEED)
    which = rng.integers(len(curves), size=NOISE_DRAWS)
    spread = np.sqrt(np.mean((fit.residuals - fit.residuals.mean()) ** 2)) if fit.residuals.size else 0.0
    inflate = (fit.noise or 0.0) / spread if spread > 0 else 0.0
    noise = (fit.residuals - fit.residuals.mean())[rng.integers(max(fit.residuals.size, 1), size=NOISE_DRAWS)]
    values = fit.loss.value(fit.loss.target(curves[which]) - inflate * noise[:, None])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def extrapolated(fit: "Fit", x: Mapping[str, Array]) -> Array:
    """(M,) decades by which the farthest variable lies outside the fitted range; 0 inside."""
    worst = np.zeros(1)
    for variable in form_of(fit.form).variables:
        low, high = fit.ranges[variable]
        values = np.atleast_1d(np.asarray(x[variable], dtype=np.float64))
        worst = np.maximum(worst, np.maximum(np.log10(values / high), np.log10(low / values)))
    return np.maximum(worst, 0.0)


def _drawn(fit: "Fit", x: Mapping[str, Array]) -> Array:
    form = _usable(fit, x)
    if not fit.draws:
        raise GeoladderError(
            "this fit has no bootstrap, so it has no band; fit again with a bootstrap above 0"
        )
    return law(form, fit.draws, x)


def _usable(fit: "Fit", x: Mapping[str, Array]) -> Form:
    if not fit.params:
        raise GeoladderError(f"the law {fit.equation} was refused: {'; '.join(fit.identifiability.reasons)}")
    form = form_of(fit.form)
    for variable in form.variables:
        if variable not in x or not (np.asarray(x[variable], dtype=np.float64) > 0).all():
            raise GeoladderError(f"{fit.equation} needs positive values of {', '.join(form.variables)}")
    return form
