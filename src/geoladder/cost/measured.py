"""What the GPU check (`python -m benchmarks.gpu`) measured of the rungs on one card, for plans."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from geoladder.errors import GeoladderError
from geoladder.registry.ladder import named

QUANTITIES = ("utilisation", "peak memory over the plan's estimate")


class MeasuredRung(NamedTuple):
    """One rung as the trainer runs it."""

    utilisation: float
    """Share of the card's bf16 peak that the model's own FLOPs reach."""
    memory_factor: float
    """Peak memory of a step over what `RungCost.step_bytes` expects of it."""


def measured_rungs(card: str, folder: Path) -> Mapping[tuple[str, str], MeasuredRung]:
    """Rungs in `folder`/<card>.csv, by (architecture, size); none where the card was never checked.

    Raises:
        GeoladderError: the table is not one of the check, or names a rung the ladder lacks.
    """
    path = folder / f"{card}.csv"
    if not path.is_file():
        return {}
    try:
        table = pd.read_csv(path)
        rows = table[table["part"].eq("rungs") & table["setting"].str.startswith("as trained")]
        wide = rows.pivot_table(index="item", columns="quantity", values="value", aggfunc="last")
    except (ValueError, KeyError) as problem:
        raise GeoladderError(
            f"{path} is no table of the GPU check ({problem}); write it anew with `python -m benchmarks.gpu`"
        ) from None
    wide = wide.reindex(columns=list(QUANTITIES)).dropna()
    return {
        named(str(rung)): MeasuredRung(utilisation, memory_factor)
        for rung, utilisation, memory_factor in wide.itertuples(name=None)
    }
