"""The best N and D for a budget from a fitted law, and what data are worth."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from geoladder.errors import GeoladderError
from geoladder.scaling.fit.result import Fit
from geoladder.scaling.laws.curves import Array

FLOPS_PER_PARAMETER_AND_SAMPLE = 6.0
"""C = 6 N D: two operations forward and four backward per parameter and token (Kaplan et al. 2020, section 2.1)."""
ADDITIVE = ("chinchilla", "chinchilla_tied")


@dataclass(frozen=True)
class Estimate:
    """A value with its bootstrap interval: no `low` without one, no `high` where it is unbounded."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """As `value [low, high]`."""
        if self.low is None:
            return f"{self.value:.3g}"
        high = "unbounded" if self.high is None else f"{self.high:.3g}"
        return f"{self.value:.3g} [{self.low:.3g}, {high}]"


@dataclass(frozen=True)
class Allocation:
    """The best split of a budget C = `flops`: parameters n, data d, the error y there, and N* grows as C^exponent.

    `d_per_n` are data (tokens) per parameter there.

    `outside` names the variables whose optimum lies outside the sizes fitted: an extrapolation.
    """

    flops: float
    n: Estimate
    d: Estimate
    y: Estimate
    d_per_n: Estimate
    exponent: Estimate
    outside: list[str]


def allocate(
    fit: Fit, flops: float, per: float = FLOPS_PER_PARAMETER_AND_SAMPLE, level: float = 0.95
) -> Allocation:
    """Minimise E + A n^-alpha + B d^-beta on per n d = flops.

    Hoffmann et al. 2022, equation 4: n* = G (C / per)^a, G = (alpha A / (beta B))^(1 / (alpha + beta)),
    a = beta / (alpha + beta).

    Raises:
        GeoladderError: the fit is no additive law in n and d, was refused, or C is not positive.
    """
    if fit.form not in ADDITIVE:
        raise GeoladderError(
            f"a compute-optimal split needs a law E + A n^-alpha + B d^-beta, not {fit.form}"
        )
    if not fit.params or flops <= 0:
        raise GeoladderError(f"no split: {'; '.join(fit.identifiability.reasons) or 'C must be positive'}")

    def split(params: dict[str, Array]) -> list[Array]:
        alpha, beta = params["alpha"], params.get("beta", params["alpha"])
        log_a, log_b, log_product = np.log(params["A"]), np.log(params["B"]), np.log(flops / per)
        exponent = beta / (alpha + beta)
        log_g = (np.log(alpha) + log_a - np.log(beta) - log_b) / (alpha + beta)
        log_n = log_g + exponent * log_product
        log_d = log_product - log_n
        y = params["E"] + np.exp(log_a - alpha * log_n) + np.exp(log_b - beta * log_d)
        return [np.exp(log_n), np.exp(log_d), y, np.exp(log_d - log_n), exponent]

    n, d, y, d_per_n, exponent = _estimates(fit, split, level)
    sizes = (("n", n), ("d", d))
    outside = [role for role, size in sizes if not fit.ranges[role][0] <= size.value <= fit.ranges[role][1]]
    return Allocation(flops, n, d, y, d_per_n, exponent, outside)


def worth_of_decade(fit: Fit, n: float, d: float, level: float = 0.95) -> Estimate:
    """Factor on unique data d that lowers the error as much as ten times the parameters would, at (n, d).

    Infinite (None as upper end) where no amount of data does.
    """
    if fit.form not in ADDITIVE or not fit.params:
        raise GeoladderError("the worth of data needs a fitted law E + A n^-alpha + B d^-beta")

    def factor(params: dict[str, Array]) -> list[Array]:
        beta = params.get("beta", params["alpha"])
        gain = params["A"] * (n ** -params["alpha"] - (10 * n) ** -params["alpha"])
        left = 1 - gain / (params["B"] * d**-beta)
        return [np.where(left > 0, np.maximum(left, 1e-300) ** (-1 / beta), np.inf)]

    return _estimates(fit, factor, level)[0]


def _estimates(
    fit: Fit, quantities: Callable[[dict[str, Array]], list[Array]], level: float
) -> list[Estimate]:
    """Quantities (R,) of R sets of parameters: at the fitted ones, with percentiles over the draws."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        best = quantities({name: np.array([value]) for name, value in fit.params.items()})
        if not fit.draws:
            return [Estimate(float(value[0]), None, None) for value in best]
        draws = np.stack(quantities(fit.draws))
    usable = np.where(np.isnan(draws), np.inf, draws)
    lows, highs = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2], axis=1, method="nearest")
    return [
        Estimate(float(value[0]), float(low), float(high) if np.isfinite(high) else None)
        for value, low, high in zip(best, lows, highs, strict=True)
    ]
