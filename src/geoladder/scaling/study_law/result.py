"""A law of a whole study: its parameters with intervals, and what it expects of a checkpoint that was not trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy import special, stats

from geoladder.scaling.fit.points import Refusal
from geoladder.scaling.fit.result import Fit
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.study_law.layout import Layout

SEEN_RANK = 1e-6
"""Directions that move log y less than this, relatively, are not seen."""
SEEN = 1e-4
"""Share of a direction that the runs may leave unseen in what is still called known."""


@dataclass(frozen=True)
class Errors:
    """What the runs say of directions of the parameters; see `fit.mixed.information`."""

    slopes: Array
    moves: Array
    adjusted: Array
    changes: list[Array]
    spread: Array
    most: float

    @cached_property
    def unseen(self) -> Array:
        """(P, P) projector on the directions that no row can tell."""
        _, singular, turned = np.linalg.svd(self.slopes / np.linalg.norm(self.slopes, axis=0).max())
        rank = int((singular > SEEN_RANK * singular[0]).sum())
        return turned[rank:].T @ turned[rank:]

    def known(self, direction: Array) -> bool:
        """Whether a direction (P,) of the parameters is one that the runs can tell."""
        return bool(np.linalg.norm(self.unseen @ direction) <= SEEN * np.linalg.norm(direction))

    def of(self, direction: Array, more: float = 0.0) -> tuple[float, float]:
        """Variance along a direction and its degrees of freedom; `more` is the variance of a new run to add."""
        move = direction @ self.moves
        variance = float(move @ self.adjusted @ move) + more
        slope = np.array([move @ change @ move for change in self.changes]) + (more > 0)
        doubt = float(slope @ self.spread @ slope)
        return variance, float(np.clip(2 * variance**2 / max(doubt, 1e-300), 1.0, self.most))

    def vanish(self, contrasts: Array, values: Array) -> tuple[float, float]:
        """F and p of the hypothesis that contrasts (Q, P) of the parameters, estimated as (Q,), are 0."""
        moves = contrasts @ self.moves
        f = float(values @ np.linalg.solve(moves @ self.adjusted @ moves.T, values)) / len(values)
        dof = min(self.of(contrast)[1] for contrast in contrasts)
        return f, float(stats.f.sf(f, len(values), dof))


@dataclass(frozen=True)
class JointPrediction:
    """Error `y` expected of an unrun checkpoint and number of labelled examples.

    Attributes:
        y: the law.
        law: its interval.
        run: interval of one run of a new checkpoint.
        dof: degrees of freedom of the interval of a run.
        outside: decades by which the farthest size lies outside the sizes fitted.
    """

    y: float
    law: tuple[float, float]
    run: tuple[float, float]
    dof: float
    outside: float

    def to_frame(self) -> pd.DataFrame:
        """One row: y, law_low, law_high, run_low, run_high, dof, outside."""
        ends = {
            "law_low": self.law[0],
            "law_high": self.law[1],
            "run_low": self.run[0],
            "run_high": self.run[1],
        }
        return pd.DataFrame([{"y": self.y, **ends, "dof": self.dof, "outside": self.outside}])

    def __str__(self) -> str:
        """One line for people."""
        (low, high), (least, most) = self.law, self.run
        line = f"y = {self.y:.4g}; the law [{low:.4g}, {high:.4g}], a run [{least:.4g}, {most:.4g}]"
        line += f" with {self.dof:.1f} degrees of freedom"
        return f"{line}; {self.outside:.1f} decades outside the sizes run" if self.outside > 0 else line


@dataclass(frozen=True)
class Joint:
    """A law of a whole study.

    Attributes:
        equation: for people.
        layout: its parameters and the reference sizes of its coefficients.
        theta: (P,) parameters, coefficients and factors as logarithms.
        errors: what the runs say of them.
        sigma_checkpoint: standard deviation of log y between checkpoints about the law.
        sigma_row: of rows about their checkpoint.
        checkpoints: number of these.
        rows: number of rows.
        r2: share of the variance of log y that the law explains, tasks' means taken off.
        rmse: root mean square of the residuals of log y.
        ranges: smallest and largest value of each size.
        table: the rows fitted: task, family, the sizes and y, under these names.
    """

    MEASURES: ClassVar = ("sigma_checkpoint", "sigma_row", "checkpoints", "rows", "r2", "rmse", "ranges")

    equation: str
    layout: Layout
    theta: Array = field(repr=False, compare=False)
    errors: Errors = field(repr=False, compare=False)
    sigma_checkpoint: float
    sigma_row: float
    checkpoints: int
    rows: int
    r2: float
    rmse: float
    ranges: dict[str, tuple[float, float]]
    table: pd.DataFrame = field(repr=False, compare=False)

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row a parameter: value, low, high, dof; ends are missing where the runs cannot tell it."""
        rows = []
        exponents = {name for name in self.layout.names if name.split("[")[0] in self.layout.form.exponents}
        for name, value, direction in zip(
            self.layout.names, self.theta, np.eye(len(self.theta)), strict=True
        ):
            row = {"parameter": name, "value": value, "low": np.nan, "high": np.nan, "dof": np.nan}
            if self.errors.known(direction):
                variance, dof = self.errors.of(direction)
                reach = stats.t.ppf((1 + level) / 2, dof) * np.sqrt(variance)
                row |= {"low": value - reach, "high": value + reach, "dof": dof}
            scale = (lambda end: end) if name in exponents else np.exp
            rows.append(row | {end: float(scale(row[end])) for end in ("value", "low", "high")})
        return pd.DataFrame(rows)

    def predict(
        self, task: str, family: str, *, level: float = 0.95, loss_law: Fit | None = None, **sizes: float
    ) -> JointPrediction:
        """Expected error of a checkpoint that was not trained, after so many `shots`.

        With `loss_law`, a fit of the pretraining loss, a law through the loss is given n and d instead of it.

        Raises:
            Refusal: a size is missing, the task or family was not run, or the runs cannot tell.
        """
        more = 0.0
        if loss_law is not None:
            upstream = {role: np.array([sizes.pop(role)]) for role in ("n", "d") if role in sizes}
            sizes["loss"] = float(loss_law.predict(**upstream)[0])
            low, high = np.log(loss_law.band(level, **upstream))
            more = float(((high - low) / (2 * stats.norm.ppf((1 + level) / 2)))[0]) ** 2
        row = self._row(task, family, sizes)
        logs = (self.layout.design(row) @ self.theta)[:, 0]
        direction = special.softmax(logs) @ self.layout.design(row)[:, 0]
        if not self.errors.known(direction):
            raise Refusal(
                f"the runs cannot tell {task} of {family} at these sizes: {self.equation} has parameters that no "
                "two runs tell apart; fit a law with fewer, or add checkpoints at more sizes"
            )
        if more:
            more *= float(self.theta[self.layout.names.index(self.layout.exponent("kappa", row)[0])]) ** 2
        y, new = float(special.logsumexp(logs)), self.sigma_checkpoint**2 + self.sigma_row**2
        ends = []
        for variance, dof in (self.errors.of(direction), self.errors.of(direction, new)):
            reach = stats.t.ppf((1 + level) / 2, dof) * np.sqrt(variance + more)
            ends.append((float(np.exp(y - reach)), float(np.exp(y + reach))))
        outside = max(
            (
                np.log10(max(sizes[role] / high, low / sizes[role]))
                for role, (low, high) in self.ranges.items()
            ),
            default=0.0,
        )
        return JointPrediction(float(np.exp(y)), ends[0], ends[1], dof, max(float(outside), 0.0))

    def _row(self, task: str, family: str, sizes: Mapping[str, float]) -> pd.DataFrame:
        roles = self.layout.form.variables
        if any(not sizes.get(role, 0) > 0 for role in roles):
            raise Refusal(f"{self.equation} needs a positive {', '.join(roles)}; got {dict(sizes)}")
        tasks = self.table.groupby("task").family.unique()
        seen = sorted(tasks.get(task, ()))
        if family not in seen:
            raise Refusal(
                f"no run of {family} on {task}; there are: {', '.join(seen) or ', '.join(sorted(tasks.index))}"
            )
        return pd.DataFrame([{"task": task, "family": family, **{role: sizes[role] for role in roles}}])

    def lines(self, level: float = 0.95) -> list[str]:
        """For people."""
        at = ", ".join(f"{role} = {size:.3g}" for role, size in self.layout.at.items())
        rows = [
            f"{self.equation}   ({self.rows} rows of {self.checkpoints} checkpoints; coefficients at {at})"
        ]
        for row in self.to_frame(level).to_dict("records"):
            ends = (
                "not told by these runs" if np.isnan(row["low"]) else f"[{row['low']:.4g}, {row['high']:.4g}]"
            )
            rows.append(f"  {row['parameter']:28} {row['value']:10.4g}  {ends}")
        rows.append(
            f"R2 {self.r2:.3f}, rmse of log y {self.rmse:.2%}; checkpoints lie off the law by "
            f"{self.sigma_checkpoint:.2%}, rows by {self.sigma_row:.2%} beyond"
        )
        return rows
