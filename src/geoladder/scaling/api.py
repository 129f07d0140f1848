"""What a notebook asks of fitted laws; the verbs of the command line ask the same with the same defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from geoladder.scaling.compute.allocate import FLOPS_PER_PARAMETER_AND_SAMPLE, Allocation, allocate
from geoladder.scaling.fit.fit import Settings
from geoladder.scaling.fit.points import read_points
from geoladder.scaling.fit.result import Fit, New
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import form_of
from geoladder.scaling.questions.compare import Contest, contest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMS = ("constant", "product", "chinchilla_tied", "chinchilla")


@dataclass(frozen=True)
class Prediction:
    """What a law expects at sizes: `y` (M,), the intervals of the law and of a new run, decades outside the fit."""

    sizes: dict[str, Array]
    y: Array
    law: tuple[Array, Array]
    run: tuple[Array, Array]
    decades_outside: Array

    def to_frame(self) -> pd.DataFrame:
        """One row a size."""
        ends = {
            "law_low": self.law[0],
            "law_high": self.law[1],
            "run_low": self.run[0],
            "run_high": self.run[1],
        }
        return pd.DataFrame({**self.sizes, "y": self.y, **ends, "decades_outside": self.decades_outside})

    def plot(self, axes: "Axes | None" = None) -> "Axes":
        """Draw the expected errors with both intervals."""
        from geoladder.scaling.plots import plot_prediction

        return plot_prediction(self, axes)


@dataclass(frozen=True)
class Frontier:
    """The best split of each budget."""

    allocations: tuple[Allocation, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row a budget: n, d, y and data per parameter with the ends of their intervals."""
        rows = []
        for best in self.allocations:
            row: dict[str, Any] = {"flops": best.flops}
            for name in ("n", "d", "y", "d_per_n"):
                row |= {f"{name}{end}": value for end, value in _ends(asdict(getattr(best, name)))}
            rows.append(row)
        return pd.DataFrame(rows)


def _ends(estimate: Mapping[str, float | None]) -> list[tuple[str, float | None]]:
    return [("", estimate["value"]), ("_low", estimate["low"]), ("_high", estimate["high"])]


def predict(law: Fit, *, level: float = 0.95, of: New = "run", **sizes: Any) -> Prediction:  # noqa: ANN401
    """What a fitted law with a bootstrap expects at sizes, such as `n=1e9, d=2e10`; `of` and errors as in `Fit`."""
    x = {name: np.atleast_1d(np.asarray(values, dtype=np.float64)) for name, values in sizes.items()}
    centre = law.predict(**x)
    outside = np.broadcast_to(law.decades_outside(**x), centre.shape)
    run = law.prediction(level, of=of, **x)
    x = {name: np.broadcast_to(values, centre.shape) for name, values in x.items()}
    return Prediction(x, centre, law.band(level, **x), run, outside)


def frontier(
    law: Fit,
    flops: float | Sequence[float],
    *,
    per: float = FLOPS_PER_PARAMETER_AND_SAMPLE,
    level: float = 0.95,
) -> Frontier:
    """The best n and d for one budget or several, from a fitted additive law; raises as `allocate`."""
    return Frontier(tuple(allocate(law, float(budget), per, level) for budget in np.atleast_1d(flops)))


def compare(
    points: pd.DataFrame,
    forms: Sequence[str] = FORMS,
    *,
    n: str = "n",
    d: str | None = "d",
    u: str | None = "u",
    y: str = "y",
    seed: str | None = None,
    run: str | None = None,
    **settings: Any,  # noqa: ANN401
) -> Contest:
    """Which of several laws fits a table best, and does it predict the largest runs? `settings` as in `Settings`."""
    richest = max(map(form_of, forms), key=lambda law: len(law.variables))
    named = {"n": n, "d": d, "u": u}
    columns = {role: column for role in richest.variables or ("n",) if (column := named[role])}
    read = read_points(points, richest, columns, y, seed=seed, run=run)
    roles = {"seed": seed, "run": run}
    return contest(points, read, forms, columns, y, Settings(**settings), roles)
