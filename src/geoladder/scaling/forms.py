"""The laws: an irreducible error plus one falling power for each variable.

Parameters are kept as (log E, log C_1 .. log C_K, p_1 .. p_K) on logarithms centred at the data, where coefficient
and exponent of a variable are nearly uncorrelated; `Form.named` gives them back in the units of the paper.
"""

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Form:
    """y = E + sum over k of C_k * x_k ** -p_k.

    Attributes:
        name: how the command line calls it.
        variables: role of each x, in order.
        coefficients: name of each C.
        exponents: name of each p.
        equation: for people.
        source: where it comes from.
    """

    name: str
    variables: tuple[str, ...]
    coefficients: tuple[str, ...]
    exponents: tuple[str, ...]
    equation: str
    source: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of all parameters: E, coefficients, exponents."""
        return ("E", *self.coefficients, *self.exponents)

    def terms(self, theta: Array, log_x: Array) -> Array:
        """Each term of the sum.

        Args:
            theta: (R, 1 + 2K) parameters on centred logarithms.
            log_x: (K, M) centred logarithms of the variables.

        Returns:
            (R, 1 + K, M); the first is E, the same for all points.
        """
        count = len(self.variables)
        log_terms = theta[:, 1 : 1 + count, None] - theta[:, 1 + count :, None] * log_x
        constant = np.repeat(theta[:, :1, None], log_x.shape[1], axis=2)
        return np.exp(np.concatenate([constant, log_terms], axis=1))

    def named(self, theta: Array, centre: Array) -> dict[str, Array]:
        """Parameters in the units of the data; `centre` (K,) are the means of the logarithms."""
        count = len(self.variables)
        exponents = theta[:, 1 + count :]
        log_coefficients = theta[:, 1 : 1 + count] + exponents * centre
        values = [np.exp(theta[:, 0]), *np.exp(log_coefficients).T, *exponents.T]
        return dict(zip(self.parameters, values, strict=True))


CHINCHILLA = Form(
    "chinchilla",
    ("n", "d"),
    ("A", "B"),
    ("alpha", "beta"),
    "L = E + A N^-alpha + B D^-beta",
    "Hoffmann et al. 2022, arXiv 2203.15556, equation 10",
)
SATURATING = Form(
    "saturating",
    ("n",),
    ("A",),
    ("alpha",),
    "y = E + A x^-alpha",
    "Cortes et al. 1993, Learning curves: asymptotic values and rate of convergence",
)
FORMS = {form.name: form for form in (CHINCHILLA, SATURATING)}
