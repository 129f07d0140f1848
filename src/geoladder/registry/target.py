"""Contract of a pretext target: something pretraining predicts of a whole chip, from what is known of its place.

Imports no torch, and neither may files with entries when they are imported: a study is checked without it.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Places(NamedTuple):
    """What is known of the centres of N chips."""

    lat_deg: np.ndarray
    """(N,) float64 degrees north."""
    lon_deg: np.ndarray
    """(N,) float64 degrees east."""
    koppen: np.ndarray
    """(N,) int64 Köppen-Geiger class, Beck's codes 0..30: as the archive states it, else as the study's map does."""


class Settings(BaseModel):
    """What a study may set of a target of one kind, besides its weight: nothing, unless an entry adds keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Target:
    """A kind of target; one entry a file of `geoladder.training.targets`. Checks itself when it is made.

    Attributes:
        measure: name of the loss; a run's log has it as `<target>_<measure>`.
        size: numbers that the head gives for a chip, from the settings.
        encode: truth of N chips, (N, ...) float32 or int64, from the settings and their places; may raise
            GeoladderError.
        loss: sum over chips, a scalar torch tensor, from the head's output (B, size) float32 and the truth
            (B, ...). A chip without truth counts 0, so that means over equally large batches pool to the mean over
            all chips.
        metrics: errors by suffix, as in `val_<target>_<suffix>`, from the outputs (N, size) float32, the truth
            (N, ...) and the places of N chips; those that cannot be told are left out.
        meanings: of each metric, by its suffix; `{name}` stands for the target's name.
        order: of heads: they are made by it and then by name, so that a new target leaves the first weights of the
            heads before it alone.
    """

    name: Name
    measure: Name
    size: Callable[[Any], int]
    encode: Callable[[Any, Places], np.ndarray]
    loss: Callable[[Any, Any], Any]
    metrics: Callable[[np.ndarray, np.ndarray, Places], dict[str, float]]
    meanings: dict[str, str]
    settings: type[Settings] = Settings
    order: Annotated[int, Field(ge=0)] = 2
