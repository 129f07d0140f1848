"""Scaling laws: points in, fitted parameters with intervals and a plain verdict out.

    from geoladder.scaling import compare, crossover, fit, frontier, joint, next_runs, predict

Enters: any table with columns for sizes and an error. Leaves: frozen dataclasses with `to_frame()`. Imports nothing
of data, models or training, so that it fits any CSV. What is named here is imported when first asked for: the command
line reads the names of laws from this room and must answer at once.
"""

from importlib import import_module
from typing import Any

HOMES = {
    "compare": "api",
    "predict": "api",
    "frontier": "api",
    "crossover": "questions.crossover",
    "next_runs": "questions.next_runs",
    "joint": "study_law.fit",
}
__all__ = ["fit", *HOMES]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """A function of the room by its name."""
    if name == "fit":
        return import_module(f"{__name__}.fit")  # a package that can be called
    if name not in HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
    return value
