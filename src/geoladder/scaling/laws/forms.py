"""The laws. Most are sums of powers and are fitted by the compiled Newton; the others are in `curves`.

A new law is one entry here (or one `Curve` in `curves`) and its name in `FORMS`. Coefficients are positive and are
fitted as logarithms. Exponents are written so that a falling error has a positive exponent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from geoladder.errors import GeoladderError
from geoladder.scaling.laws.curves import CURVES, LEVEL_RATIO, Array, Curve
from geoladder.scaling.laws.repeated import DataConstrained


@dataclass(frozen=True)
class PowerSum:
    """A sum of terms, each a coefficient or a coefficient times powers of sizes.

    Attributes:
        name: how the command line calls it.
        equation: the law, as it is read and shown: `y = E + A n^-alpha`; two terms may share an exponent.
        rising: whether exponents may be negative, so that y may rise.
        level_ratio: as in `Curve`.
    """

    name: str
    equation: str
    rising: bool = False
    level_ratio: ClassVar[float] = LEVEL_RATIO

    @cached_property
    def terms(self) -> dict[str, dict[str, str]]:
        """Of each coefficient, the exponent's name by variable."""
        terms = [term.split() for term in self.equation.removeprefix("y = ").split(" + ")]
        return {name: dict(power.split("^-") for power in powers) for name, *powers in terms}

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """Roles of the sizes, in order of appearance."""
        return tuple(dict.fromkeys(variable for powers in self.terms.values() for variable in powers))

    @cached_property
    def logged(self) -> tuple[str, ...]:
        """Names of the parameters fitted as logarithms: the coefficients, in order of the terms."""
        return tuple(self.terms)

    @cached_property
    def exponents(self) -> tuple[str, ...]:
        """Names of the exponents, each once."""
        return tuple(dict.fromkeys(name for powers in self.terms.values() for name in powers.values()))

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of all parameters: coefficients, then exponents."""
        return (*self.logged, *self.exponents)


Form = PowerSum | Curve
POWER_SUMS = (
    PowerSum("constant", "y = E"),  # no scaling: the null hypothesis
    # Hestness et al. 2017, arXiv 1712.00409; M1 of Alabdulmohsin et al. 2022, arXiv 2209.06640
    PowerSum("power", "y = A n^-alpha", rising=True),
    # log-linear in both sizes: the reduced law where a floor cannot be told
    PowerSum("product", "y = A n^-alpha d^-beta", rising=True),
    # Cortes et al. 1993, Learning curves; M2 of arXiv 2209.06640
    PowerSum("saturating", "y = E + A n^-alpha"),
    # Hoffmann et al. 2022, arXiv 2203.15556, equation 10
    PowerSum("chinchilla", "y = E + A n^-alpha + B d^-beta"),
    # Gadre et al. 2024, arXiv 2403.08540, equation 4, written in tokens d = M n
    PowerSum("chinchilla_tied", "y = E + A n^-alpha + B d^-alpha"),
)
FORMS: dict[str, Form] = {form.name: form for form in (*POWER_SUMS, *CURVES, DataConstrained())}
FORMS |= {"m1": FORMS["power"], "m2": FORMS["saturating"]}
"""By name; `m1` and `m2` are the names of arXiv 2209.06640."""


def form_of(name: str) -> Form:
    """A law by its name; raises GeoladderError for an unknown one."""
    if name not in FORMS:
        raise GeoladderError(f"unknown law '{name}'; allowed are: {', '.join(FORMS)}")
    return FORMS[name]


def law(form: Form, params: Mapping[str, Array | float], x: Mapping[str, Array]) -> Array:
    """Values (R, M) of a law for R sets of parameters in the units of the data, at M points."""
    columns = {name: np.atleast_1d(np.asarray(params[name], np.float64))[:, None] for name in form.parameters}
    theta = columns | {name: np.log(np.maximum(columns[name], 1e-300)) for name in form.logged}
    sizes = {variable: np.atleast_1d(np.asarray(x[variable], np.float64)) for variable in form.variables}
    if isinstance(form, Curve):
        return form.evaluate(np.concatenate(list(theta.values()), axis=1), sizes)[0]
    total = np.zeros((1, 1))
    with np.errstate(over="ignore", under="ignore"):
        for coefficient, powers in form.terms.items():
            exponent = sum((theta[e] * np.log(sizes[v]) for v, e in powers.items()), np.zeros((1, 1)))
            total = total + np.exp(theta[coefficient] - exponent)
    return total
