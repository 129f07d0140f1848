"""Is one law enough? Exponents told apart by task and family, and the largest sizes and whole families hidden."""

import numpy as np
import pandas as pd

from geoladder.scaling.fit.points import Refusal
from geoladder.scaling.study_law.fit import fit_table
from geoladder.scaling.study_law.layout import GROUPS
from geoladder.scaling.study_law.result import Joint


def shared_exponents(law: Joint) -> pd.DataFrame:
    """Test every exponent against one of its own for each task, and for each family, the others as in the law.

    Returns:
        One row an exponent and column of groups: `exponent`, `by`, `p` of the F test, the exponents by group in
        words, and `reason` where the runs cannot tell.
    """
    rows = []
    for name in law.layout.form.exponents:
        for by in GROUPS:
            if law.table[by].nunique() > 1:
                rows.append({"exponent": name, "by": by, **_shared(law, name, by)})
    return pd.DataFrame(rows, columns=["exponent", "by", "p", "exponents", "reason"])


def _shared(law: Joint, name: str, by: str) -> dict[str, object]:
    try:
        free = fit_table(law.layout.form, law.table, {**law.layout.apart, name: by})
    except Refusal as refusal:
        return {"p": np.nan, "exponents": "", "reason": str(refusal)}
    place = [k for k, parameter in enumerate(free.layout.names) if parameter.startswith(f"{name}[")]
    units = np.eye(len(free.theta))[place]
    told = [unit for unit in units if free.errors.known(unit)]
    values = ", ".join(
        f"{law.table[by].iloc[0] if len(units) < 2 else free.layout.names[k]} {free.theta[k]:.3g}"
        for k, unit in zip(place, units, strict=True)
        if free.errors.known(unit)
    )
    if len(told) < 2:
        return {
            "p": np.nan,
            "exponents": values,
            "reason": f"fewer than two of {by} have runs that tell {name}",
        }
    contrasts = np.array(told[1:]) - told[0]
    return {"p": free.errors.vanish(contrasts, contrasts @ free.theta)[1], "exponents": values, "reason": ""}


def held_out(law: Joint, level: float = 0.95) -> pd.DataFrame:
    """Hide the largest value of each size, and all of a family but its smallest checkpoints; predict what is hidden.

    Returns:
        One row a cut: `hidden` in words, `rows`, `rmse` and `bias` (law minus run) of log y, `inside`: the share of
        hidden rows within the interval of a new run, or the `reason` why nothing could be said.
    """
    roles = law.layout.form.variables
    cuts = {f"{role} = {law.ranges[role][1]:.3g}": law.table[role] == law.ranges[role][1] for role in roles}
    first = next(role for role in roles if role != "shots")
    smallest = law.table.groupby(list(GROUPS))[first].transform("min")
    for family in sorted(law.table.family.unique()):
        larger = (law.table.family == family) & (law.table[first] > smallest)
        cuts[f"{family} beyond its smallest {first}"] = larger
    rows = [{"hidden": name, **_hidden(law, hidden.to_numpy(), level)} for name, hidden in cuts.items()]
    return pd.DataFrame(rows, columns=["hidden", "rows", "rmse", "bias", "inside", "reason"])


def _hidden(law: Joint, hidden: np.ndarray, level: float) -> dict[str, object]:
    outcome = {"rows": int(hidden.sum()), "rmse": np.nan, "bias": np.nan, "inside": np.nan, "reason": ""}
    if not hidden.any():
        return outcome | {"reason": "nothing to hide"}
    roles = law.layout.form.variables
    errors, inside = [], []
    try:
        rest = fit_table(law.layout.form, law.table[~hidden], law.layout.apart)
        for run in law.table[hidden].to_dict("records"):
            sizes = {role: run[role] for role in roles}
            expected = rest.predict(run["task"], run["family"], level=level, **sizes)
            errors.append(np.log(expected.y / run["y"]))
            inside.append(expected.run[0] <= run["y"] <= expected.run[1])
    except Refusal as refusal:
        return outcome | {"reason": str(refusal)}
    spread = float(np.sqrt(np.mean(np.square(errors))))
    return outcome | {"rmse": spread, "bias": float(np.mean(errors)), "inside": float(np.mean(inside))}
