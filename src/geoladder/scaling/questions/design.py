"""Local design theory: which runs tell most about one quantity of a law, per unit of cost.

Near the fitted (or assumed) parameters a law is linear in them, so the variance of a quantity with gradient c is
c' M^-1 c, M the sum over cells of w g g': g the slopes of the law's logarithm, w = 1 / (sigma_cell^2 +
sigma_seed^2 / k) the precision of the mean of k seeds (Chernoff 1953, Locally optimal designs for estimating
parameters; Fedorov & Hackl 1997, Model-oriented design of experiments, chapter 3). Seeds of a cell share its misfit,
so each is worth less than the one before, and none is worth a new cell.
"""

from dataclasses import dataclass

import numpy as np

from geoladder.scaling.fit.points import Refusal
from geoladder.scaling.laws.curves import Array

VAGUE = 1e-8
"""Precision of every parameter before any run, so that a variance exists from the first run on."""
ESTIMABLE = 1e-6
"""Share of a gradient that no admissible run sees, above which its quantity cannot be learnt."""
MOST_RUNS = 5000
ROUNDS = 40
"""Exchanges of the last improvement that are tried."""


@dataclass(frozen=True)
class Noise:
    """Standard deviations of log errors: between seeds of a cell, and of cells about the law."""

    seed: float
    cell: float = 0.0

    def precision(self, runs: Array) -> Array:
        """Precision of the mean of so many runs of a cell; 0 without any."""
        return runs / (runs * self.cell**2 + self.seed**2)


@dataclass(frozen=True)
class Cells:
    """The cells of a design, run or not.

    Attributes:
        slopes: (J, P) slopes of the law's logarithm.
        runs: (J,) made already.
        cost: (J,) of one run; inf where no run is admissible.
        most: most runs of one cell.
    """

    slopes: Array
    runs: Array
    cost: Array
    most: int

    def variance(self, aim: Array, noise: Noise, bought: Array) -> float:
        """Variance of a quantity with gradient `aim` (P,), after so many more runs (J,)."""
        return float(aim @ np.linalg.solve(self.information(noise, bought), aim))

    def information(self, noise: Noise, bought: Array) -> Array:
        """Information (P, P) of the runs made and bought."""
        weight = noise.precision(self.runs + bought)
        return (self.slopes.T * weight) @ self.slopes + VAGUE * np.eye(self.slopes.shape[1])


def require_estimable(cells: Cells, aim: Array) -> None:
    """Raises Refusal: no run that may be bought, with those made, tells the quantity apart."""
    if not np.isfinite(cells.cost).any():
        raise Refusal(
            "no admissible run: every candidate is excluded by its cost, its sizes or the runs of its cell"
        )
    usable = cells.slopes[np.isfinite(cells.cost) | (cells.runs > 0)]
    scale = np.maximum(np.linalg.norm(usable, axis=0), 1e-300)
    seen = np.linalg.lstsq((usable / scale).T, aim / scale, rcond=1e-9)[0]
    if np.linalg.norm((usable / scale).T @ seen - aim / scale) > ESTIMABLE * np.linalg.norm(aim / scale):
        raise Refusal(
            "no admissible run answers the question: the sizes of all candidates leave it undetermined; "
            "allow another size"
        )


def purchase(
    cells: Cells, aim: Array, noise: Noise, *, variance: float | None = None, budget: float | None = None
) -> Array:
    """Runs to buy (J,): cheapest found that reaches a `variance`, or the most telling found within a `budget`.

    The run that lowers the logarithm of the variance most per cost is bought, again and again; what later purchases
    made needless is given back, and the exchange repeated as long as it saves.

    Raises:
        Refusal: see `require_estimable`; or all admissible runs together do not reach the variance.
    """
    require_estimable(cells, aim)
    bought = _buy(cells, aim, noise, np.zeros(len(cells.cost), dtype=np.int64), variance, budget)
    if variance is None:
        return bought
    bought = _give_back(cells, aim, noise, bought, variance)
    for _ in range(ROUNDS):
        paid = np.flatnonzero(bought)
        if not paid.size:
            break
        dearest = paid[np.argmax(cells.cost[paid])]
        trial = bought.copy()
        trial[dearest] -= 1
        banned = cells.cost.copy()
        banned[dearest] = np.inf
        try:
            trial = _buy(
                Cells(cells.slopes, cells.runs, banned, cells.most), aim, noise, trial, variance, budget
            )
        except Refusal:
            break
        trial = _give_back(cells, aim, noise, trial, variance)
        if cells.cost[trial > 0] @ trial[trial > 0] >= cells.cost[bought > 0] @ bought[bought > 0]:
            break
        bought = trial
    return bought


def _gains(cells: Cells, aim: Array, noise: Noise, bought: Array, more: int) -> Array:
    """Variances (J,) after one run more (1) or less (-1) in each cell."""
    inverse = np.linalg.inv(cells.information(noise, bought))
    toward = cells.slopes @ (inverse @ aim)
    leverage = np.einsum("jp,pq,jq->j", cells.slopes, inverse, cells.slopes)
    runs = cells.runs + bought
    change = noise.precision(np.maximum(runs + more, 0)) - noise.precision(runs)
    return float(aim @ inverse @ aim) - change * toward**2 / np.maximum(1 + change * leverage, 1e-12)


def _buy(
    cells: Cells, aim: Array, noise: Noise, bought: Array, variance: float | None, budget: float | None
) -> Array:
    bought = bought.copy()
    left = np.inf if budget is None else budget
    for _ in range(MOST_RUNS):
        now = cells.variance(aim, noise, bought)
        if variance is not None and now <= variance:
            return bought
        open_ = (cells.cost <= left) & (cells.runs + bought < cells.most)
        if not open_.any():
            break
        gain = np.log(now / np.maximum(_gains(cells, aim, noise, bought, 1), 1e-300))
        best = int(np.argmax(np.where(open_, gain / cells.cost, -np.inf)))
        if not gain[best] > 0:
            break
        bought[best] += 1
        left -= cells.cost[best]
    if variance is None:
        return bought
    raise Refusal(
        f"the admissible runs do not reach the width: {int(bought.sum())} of them bring it to "
        f"{np.sqrt(cells.variance(aim, noise, bought) / variance):.2f} times what is wanted; allow more runs of a "
        "cell, dearer runs or other sizes"
    )


def _give_back(cells: Cells, aim: Array, noise: Noise, bought: Array, variance: float) -> Array:
    """Drop the dearest runs without which the variance is still reached."""
    bought = bought.copy()
    while True:
        spare = (bought > 0) & (_gains(cells, aim, noise, bought, -1) <= variance)
        if not spare.any():
            return bought
        bought[int(np.argmax(np.where(spare, cells.cost, -np.inf)))] -= 1
