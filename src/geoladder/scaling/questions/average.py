"""Several laws at once: predictions averaged by Akaike weights, so that the choice of a law widens the interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geoladder.errors import GeoladderError
from geoladder.scaling.fit.result import NOISE_DRAWS, NOISE_SEED, Fit
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import form_of, law
from geoladder.scaling.questions.compare import criterion_of


@dataclass(frozen=True)
class Average:
    """What several laws, each with its weight, expect of one run.

    Attributes:
        weights: by law (Burnham & Anderson 2002, section 2.9).
        value: weighted mean of the laws.
        band: interval of the law, whichever it is.
        run: interval of a new run.
    """

    weights: dict[str, float]
    value: float
    band: tuple[float, float]
    run: tuple[float, float]


def averaged(fits: Sequence[Fit], level: float = 0.95, **x: Array) -> Average:
    """Average laws fitted to the same runs at sizes (1,) by variable; those that were refused weigh nothing.

    Raises:
        GeoladderError: laws of different runs or losses, a robust loss, no bootstrap, or no law with an AICc.
    """
    first = fits[0]
    if any((fit.n_points, fit.loss) != (first.n_points, first.loss) for fit in fits):
        raise GeoladderError("only laws fitted to the same runs with the same loss can be averaged")
    if first.loss.robust:
        raise GeoladderError("weights of laws need a least-squares loss; fit them with --loss log_squared")
    criteria = {fit.form: (fit, criterion_of(fit)) for fit in fits if fit.params}
    usable = {name: (fit, value) for name, (fit, value) in criteria.items() if value is not None}
    if not usable or not all(fit.draws for fit, _ in usable.values()):
        raise GeoladderError(
            "averaging needs laws that were fitted, with a bootstrap and more runs than parameters"
        )
    least = min(value for _, value in usable.values())
    likelihood = {name: float(np.exp(0.5 * (least - value))) for name, (_, value) in usable.items()}
    weights = {name: share / sum(likelihood.values()) for name, share in likelihood.items()}
    rng = np.random.default_rng(NOISE_SEED)
    curves, runs = [], []
    for name, (fit, _) in usable.items():
        drawn = fit.loss.target(law(form_of(name), fit.draws, x)[:, 0])
        drawn = drawn[rng.integers(drawn.size, size=round(weights[name] * NOISE_DRAWS))]
        noise = rng.choice(fit.residuals, size=drawn.size) if drawn.size else drawn
        spread = float(np.sqrt(np.mean(fit.residuals**2)))
        curves.append(drawn)
        runs.append(drawn - noise * ((fit.noise or 0.0) / spread if spread > 0 else 0.0))
    value = sum(weights[name] * float(fit.predict(**x)[0]) for name, (fit, _) in usable.items())
    tails = [(1 - level) / 2, (1 + level) / 2]
    ends = [first.loss.value(np.quantile(np.concatenate(draws), tails)) for draws in (curves, runs)]
    band, run = ((float(low), float(high)) for low, high in ends)
    return Average(weights, value, band, run)
