"""The laws. Most are sums of powers and are fitted by the compiled Newton; the others are in `curves`.

A new law is one entry here (or one class in `curves`) and its name in `FORMS`. Parameters with a `log` are positive
and are fitted as logarithms. Exponents are written so that a falling error has a positive exponent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from geoladder.errors import GeoladderError
from geoladder.scaling.laws.curves import BROKEN, ERROR_LAW, LEVEL_RATIO, LOG_LINEAR, M3, M4, Array, Curve
from geoladder.scaling.laws.repeated_data import DATA_CONSTRAINED


@dataclass(frozen=True)
class Term:
    """coefficient * product over powers of variable ** -exponent.

    Attributes:
        coefficient: name of the coefficient.
        powers: (variable, name of its exponent) pairs; none for a constant.
    """

    coefficient: str
    powers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PowerSum:
    """y = a sum of terms.

    Attributes:
        name: how the command line calls it.
        terms: see `Term`; two terms may share an exponent.
        equation: for people.
        source: where it comes from.
        rising: whether exponents may be negative, so that y may rise.
        level_ratio: values within this ratio count as one level of the design.
    """

    name: str
    terms: tuple[Term, ...]
    equation: str
    source: str
    rising: bool = False
    level_ratio: float = LEVEL_RATIO

    @property
    def variables(self) -> tuple[str, ...]:
        """Roles of the sizes, in order of appearance."""
        return tuple(dict.fromkeys(variable for term in self.terms for variable, _ in term.powers))

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the coefficients, in order of the terms."""
        return tuple(dict.fromkeys(term.coefficient for term in self.terms))

    @property
    def logged(self) -> tuple[str, ...]:
        """Names of the parameters fitted as logarithms: the coefficients."""
        return self.coefficients

    @property
    def exponents(self) -> tuple[str, ...]:
        """Names of the exponents, each once."""
        return tuple(dict.fromkeys(exponent for term in self.terms for _, exponent in term.powers))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of all parameters: coefficients, then exponents."""
        return (*self.coefficients, *self.exponents)

    def with_floor(self, variable: str) -> bool:
        """Whether the power of a variable stands beside another term, so that two values cannot tell its exponent."""
        return len(self.terms) > 1 and any(variable in dict(term.powers) for term in self.terms)


Form = PowerSum | Curve

CONSTANT = PowerSum("constant", (Term("E"),), "y = E", "no scaling: the null hypothesis")
POWER = PowerSum(
    "power",
    (Term("A", (("n", "alpha"),)),),
    "y = A n^-alpha",
    "Hestness et al. 2017, arXiv 1712.00409; M1 of Alabdulmohsin et al. 2022, arXiv 2209.06640",
    rising=True,
)
PRODUCT = PowerSum(
    "product",
    (Term("A", (("n", "alpha"), ("d", "beta"))),),
    "y = A n^-alpha d^-beta",
    "log-linear in both sizes: the reduced law where a floor cannot be told",
    rising=True,
)
SATURATING = PowerSum(
    "saturating",
    (Term("E"), Term("A", (("n", "alpha"),))),
    "y = E + A n^-alpha",
    "Cortes et al. 1993, Learning curves; M2 of arXiv 2209.06640",
)
CHINCHILLA = PowerSum(
    "chinchilla",
    (Term("E"), Term("A", (("n", "alpha"),)), Term("B", (("d", "beta"),))),
    "y = E + A n^-alpha + B d^-beta",
    "Hoffmann et al. 2022, arXiv 2203.15556, equation 10",
)
TIED = PowerSum(
    "chinchilla_tied",
    (Term("E"), Term("A", (("n", "alpha"),)), Term("B", (("d", "alpha"),))),
    "y = E + A n^-alpha + B d^-alpha",
    "Gadre et al. 2024, arXiv 2403.08540, equation 4, written in tokens d = M n",
)
CURVES = (LOG_LINEAR, M3, M4, BROKEN, ERROR_LAW, DATA_CONSTRAINED)
FORMS: dict[str, Form] = {
    form.name: form for form in (CONSTANT, POWER, PRODUCT, SATURATING, CHINCHILLA, TIED, *CURVES)
} | {"m1": POWER, "m2": SATURATING}
"""By name; `m1` and `m2` are the names of arXiv 2209.06640."""


def form_of(name: str) -> Form:
    """A law by its name; raises GeoladderError for an unknown one."""
    if name not in FORMS:
        raise GeoladderError(f"unknown law '{name}'; allowed are: {', '.join(FORMS)}")
    return FORMS[name]


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
