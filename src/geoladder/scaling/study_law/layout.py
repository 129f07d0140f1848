"""The laws of a whole study, and which parameter moves which of its rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import PowerSum

JOINT_FORMS = {
    form.name: form
    for form in (
        PowerSum("additive", "y = E + A n^-alpha + B d^-beta + C shots^-gamma"),
        PowerSum("multiplicative", "y = A n^-alpha d^-beta shots^-gamma", rising=True),
        # kappa is negative where a lower pretraining loss means a lower error
        PowerSum("through_loss", "y = A loss^-kappa shots^-gamma", rising=True),
    )
}
GROUPS = ("task", "family")
"""Columns that may tell exponents apart."""


@dataclass(frozen=True)
class Layout:
    """Which parameter moves which row: names, and the reference sizes of the coefficients.

    Attributes:
        form: the law.
        names: of the parameters: `A[roads]`, `S[roads,unet]`, `alpha` or `alpha[roads]`.
        apart: exponents told apart, with the column (`task` or `family`) that tells them apart.
        at: geometric mean of each size.
    """

    form: PowerSum
    names: tuple[str, ...]
    apart: Mapping[str, str]
    at: Mapping[str, float]

    @classmethod
    def of(cls, form: PowerSum, rows: pd.DataFrame, apart: Mapping[str, str]) -> "Layout":
        """The parameters that rows with the columns task, family and the sizes need."""
        tasks = sorted(rows.task.unique())
        pairs = rows[["task", "family"]].drop_duplicates().sort_values(["task", "family"])
        factors = pairs[pairs.task.duplicated()]
        groups = {name: sorted(rows[column].unique()) for name, column in apart.items()}
        names = [f"{term}[{task}]" for term in form.terms for task in tasks]
        names += [f"S[{task},{family}]" for task, family in factors.itertuples(index=False)]
        for name in form.exponents:
            names += [f"{name}[{group}]" for group in groups[name]] if name in groups else [name]
        at = {role: float(np.exp(np.log(rows[role]).mean())) for role in form.variables}
        return cls(form, tuple(names), dict(apart), at)

    def exponent(self, name: str, rows: pd.DataFrame) -> list[str]:
        """Name of the parameter that is this exponent, of each row."""
        if name not in self.apart:
            return [name] * len(rows)
        return [f"{name}[{group}]" for group in rows[self.apart[name]]]

    def design(self, rows: pd.DataFrame) -> Array:
        """(T, M, P): log of each term of each row is linear in the parameters."""
        number = {name: k for k, name in enumerate(self.names)}
        design = np.zeros((len(self.form.terms), len(rows), len(self.names)))
        every = np.arange(len(rows))
        scaled = [f"S[{task},{family}]" for task, family in zip(rows.task, rows.family, strict=True)]
        factor = np.array([number.get(name, -1) for name in scaled])
        for k, (term, powers) in enumerate(self.form.terms.items()):
            design[k, every, [number[f"{term}[{task}]"] for task in rows.task]] = 1
            design[k, every[factor >= 0], factor[factor >= 0]] = 1
            for role, name in powers.items():
                columns = [number[exponent] for exponent in self.exponent(name, rows)]
                design[k, every, columns] -= np.log(rows[role].to_numpy(np.float64) / self.at[role])
        return design
