"""How to spend compute: the best N and D for a budget, and what data are worth in parameters."""

from dataclasses import dataclass

import numpy as np

from geoladder.errors import GeoladderError
from geoladder.scaling.fit.result import Fit
from geoladder.scaling.laws.curves import Array

FLOPS_PER_PARAMETER_AND_SAMPLE = 6.0
"""C = 6 N D: two operations forward and four backward per parameter and token (Kaplan et al. 2020, section 2.1)."""


@dataclass(frozen=True)
class Estimate:
    """A value with its bootstrap interval."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Allocation:
    """The best split of one budget.

    Attributes:
        flops: the budget C.
        n: best parameters.
        d: best data.
        y: error there.
        exponent: a in N* proportional to C^a.
        outside: names of the variables whose optimum lies outside the sizes fitted: an extrapolation.
    """

    flops: float
    n: Estimate
    d: Estimate
    y: Estimate
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
    if fit.form not in ("chinchilla", "chinchilla_tied"):
        raise GeoladderError(
            f"a compute-optimal split needs a law E + A n^-alpha + B d^-beta, not {fit.form}"
        )
    if not fit.params or flops <= 0:
        raise GeoladderError(f"no split: {'; '.join(fit.identifiability.reasons) or 'C must be positive'}")
    best = _split({name: np.array([v]) for name, v in fit.params.items()}, flops / per)
    draws = _split(fit.draws, flops / per) if fit.draws else None
    n, d, y, a = (_estimate(best[k][0], None if draws is None else draws[k], level) for k in range(4))
    outside = [
        role
        for role, value in (("n", n.value), ("d", d.value))
        if not fit.ranges[role][0] <= value <= fit.ranges[role][1]
    ]
    return Allocation(flops, n, d, y, a, outside)


def worth_of_decade(fit: Fit, n: float, d: float, level: float = 0.95) -> Estimate:
    """Factor on unique data d that lowers the error as much as ten times the parameters would, at (n, d).

    Infinite (None as upper end) where no amount of data does.
    """

    def factor(params: dict[str, Array]) -> Array:
        beta = params.get("beta", params["alpha"])
        gain = params["A"] * (n ** -params["alpha"] - (10 * n) ** -params["alpha"])
        left = 1 - gain / (params["B"] * d**-beta)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where(left > 0, np.maximum(left, 1e-300) ** (-1 / beta), np.inf)

    if fit.form not in ("chinchilla", "chinchilla_tied") or not fit.params:
        raise GeoladderError("the worth of data needs a fitted law E + A n^-alpha + B d^-beta")
    best = factor({name: np.array([v]) for name, v in fit.params.items()})[0]
    return _estimate(best, factor(fit.draws) if fit.draws else None, level)


def _split(params: dict[str, Array], product: float) -> tuple[Array, Array, Array, Array]:
    """N*, D*, error and exponent a for R sets of parameters; `product` is N D."""
    alpha, beta = params["alpha"], params.get("beta", params["alpha"])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        a = beta / (alpha + beta)
        log_g = (np.log(alpha) + np.log(params["A"]) - np.log(beta) - np.log(params["B"])) / (alpha + beta)
        log_n = log_g + a * np.log(product)
        log_d = np.log(product) - log_n
        y = (
            params["E"]
            + np.exp(np.log(params["A"]) - alpha * log_n)
            + np.exp(np.log(params["B"]) - beta * log_d)
        )
        return np.exp(log_n), np.exp(log_d), y, a


def _estimate(best: float, draws: Array | None, level: float) -> Estimate:
    if draws is None:
        return Estimate(float(best), None, None)
    usable = np.where(np.isnan(draws), np.inf, draws)
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return Estimate(float(best), float(low), float(high) if np.isfinite(high) else None)
