"""What a fit minimises, and how far its objective may rise before a parameter is no longer believable.

The objective is a sum over points (never a mean: optimisers that stop on an absolute gradient stop early on a mean).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from geoladder.errors import GeoladderError

Kind = Literal["log_squared", "huber", "squared", "log1p_squared", "huber_raw"]
LOG, RAW, LOG1P = 0, 1, 2
_SCALE = {"log_squared": LOG, "huber": LOG, "squared": RAW, "log1p_squared": LOG1P, "huber_raw": RAW}
ROBUST = ("huber", "huber_raw")
HUBER_DELTA = 1e-3
CONTINUATION = (10.0, 3.0, 1.0)
"""Multiples of delta a Huber fit passes through."""


@dataclass(frozen=True)
class Loss:
    """Sum over points of w rho(r), rho(r) = r^2 / 2 within delta and delta (|r| - delta / 2) beyond.

    Attributes:
        kind: `log_squared`: r = log fit - log y, delta infinite; `huber`: the same with `delta`; `squared`: r = fit
            - y; `huber_raw`: the same with `delta`; `log1p_squared`: r = log(1 + fit) - log(1 + y), as Caballero et
            al. 2023 (arXiv 2210.14891) fit.
        delta: where the Huber loss turns linear: of `huber` a relative error, since r is a difference of logarithms,
            of `huber_raw` in units of y.
    """

    kind: Kind = "log_squared"
    delta: float = float("inf")

    def __post_init__(self) -> None:
        """Raises GeoladderError: unknown kind, or a delta that does not go with it."""
        if self.kind not in _SCALE:
            raise GeoladderError(f"unknown loss '{self.kind}'; allowed are: {', '.join(_SCALE)}")
        if self.robust != np.isfinite(self.delta) or self.delta <= 0:
            raise GeoladderError(
                f"loss {self.kind} with delta {self.delta}: huber takes a positive delta (such as "
                "0.001), and so does huber_raw; the other losses take none"
            )

    @classmethod
    def of(cls, kind: Kind, delta: float | None) -> "Loss":
        """A loss with its usual delta where none is given: 1e-3 of a Huber loss, as most published fits take."""
        usual = HUBER_DELTA if kind in ROBUST else float("inf")
        return cls(kind, usual if delta is None else delta)

    @property
    def robust(self) -> bool:
        """Whether the loss is a Huber loss."""
        return self.kind in ROBUST

    @property
    def scale(self) -> int:
        """Where residuals are taken: LOG, RAW or LOG1P."""
        return _SCALE[self.kind]

    @property
    def deltas(self) -> np.ndarray:
        """Stages of the continuation, the last one is `delta`."""
        return np.array([c * self.delta for c in CONTINUATION] if self.robust else [np.inf])

    def target(self, y: np.ndarray) -> np.ndarray:
        """Y on the scale of the residuals."""
        return np.log(y) if self.scale == LOG else np.log1p(y) if self.scale == LOG1P else np.asarray(y)

    def value(self, u: np.ndarray) -> np.ndarray:
        """The inverse of `target`."""
        return np.exp(u) if self.scale == LOG else np.expm1(u) if self.scale == LOG1P else np.asarray(u)

    @property
    def multiple(self) -> int:
        """What turns the objective into the number reported: a sum of squares, or of Huber losses."""
        return 1 if self.robust else 2

    def ceiling(self, objective: float, residuals: np.ndarray, parameters: int, level: float) -> float:
        """Objective up to which a profile stays inside its interval of `level`.

        The rise of a sum of losses is F-distributed with (1, dof) degrees of freedom, times kappa / 2 with
        kappa = E psi^2 / E psi' (psi the slope of the loss; Huber & Ronchetti 2009, Robust statistics, section 13.6).
        A squared loss gives the exact interval S (1 + F / dof). For Huber both expectations are taken under normal
        residuals: counting the few residuals within delta is hopeless on small designs.
        `objective` and the weighted `residuals` (M,) are those of the optimum, `parameters` the number of free ones.
        """
        dof = len(residuals) - parameters
        sigma = float(np.sqrt((residuals**2).sum() / dof))
        kappa = sigma**2
        if self.robust and sigma > 0:
            z = self.delta / sigma
            inside = 1 - 2 * special.ndtr(-z)
            clipped = sigma**2 * (
                inside - 2 * z * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
            ) + self.delta**2 * (1 - inside)
            kappa = clipped / inside
        return objective + 0.5 * float(special.fdtri(1, dof, level) * kappa)
