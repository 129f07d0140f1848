"""Quick looks at fitted laws, for notebooks: every function draws on given axes, or on those of a figure of its own.

Figures are made without pyplot, so that none is left open; a notebook shows `axes.figure`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geoladder.errors import GeoladderError

if TYPE_CHECKING:
    from geoladder.scaling.api import Prediction
    from geoladder.scaling.fit.result import Fit
    from geoladder.scaling.questions.compare import Contest
    from geoladder.scaling.questions.crossover import Crossover

POINTS = 200
BEYOND = 10.0
"""Factor by which a curve goes on beyond the largest size fitted."""
SHADE = 0.25


def _axes(axes: Axes | None) -> Axes:
    return Figure(figsize=(5, 3.5), layout="constrained").add_subplot() if axes is None else axes


def plot_law(
    law: "Fit",
    along: str | None,
    held: Mapping[str, float],
    runs: pd.DataFrame | None,
    axes: Axes | None,
    *,
    ends: tuple[float, float] | None = None,
    label: str | None = None,
) -> Axes:
    """A law along one size with its band, the others `held` (default: the largest fitted); `runs` are dots.

    Raises:
        GeoladderError: the law was refused, or does not depend on the size.
    """
    roles = list(law.ranges)
    along = along or (roles[0] if roles else None)
    if along not in roles:
        raise GeoladderError(
            f"{law.equation} does not depend on {along}; it has: {', '.join(roles) or 'no size'}"
        )
    low, high = ends or (law.ranges[along][0], law.ranges[along][1] * BEYOND)
    sizes = np.geomspace(low, high, POINTS)
    others = {role: held.get(role, law.ranges[role][1]) for role in roles if role != along}
    x = {along: sizes} | {role: np.full(POINTS, value) for role, value in others.items()}
    y, axes = law.predict(**x), _axes(axes)
    (line,) = axes.plot(sizes, y, label=label or ", ".join(f"{role} = {v:.3g}" for role, v in others.items()))
    if law.draws:
        axes.fill_between(sizes, *law.band(**x), color=line.get_color(), alpha=SHADE, linewidth=0)
    if runs is not None:
        axes.plot(runs[along], runs["y"], "o", color=line.get_color(), markersize=3)
    if ends is None:
        axes.axvline(law.ranges[along][1], color="0.6", linewidth=0.8, linestyle=":")
    axes.set(xscale="log", yscale="log", xlabel=along, ylabel="y", title=law.equation)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False)
    return axes


def plot_contest(contest: "Contest", axes: Axes | None) -> Axes:
    """Akaike weights of the laws that could be compared, best on top."""
    laws = [law for law in contest.laws if law.weight is not None][::-1]
    axes = _axes(axes)
    axes.barh([law.form for law in laws], [law.weight or 0.0 for law in laws])
    axes.set(xlim=(0, 1), xlabel="Akaike weight", title=contest.verdict)
    return axes


def plot_crossover(crossing: "Crossover", laws: Mapping[str, "Fit"], axes: Axes | None) -> Axes:
    """Two laws by name along the size searched, and where they cross, with the interval."""
    axes = _axes(axes)
    for name, law in laws.items():
        held = {role: value for role, value in crossing.held.items() if role in law.ranges}
        plot_law(law, crossing.along, held, None, axes, ends=crossing.searched, label=name)
    for place in crossing.at:
        axes.axvline(place, color="0.3", linewidth=0.8)
    if crossing.interval and None not in crossing.interval:
        axes.axvspan(*crossing.interval, color="0.3", alpha=SHADE, linewidth=0)  # type: ignore[arg-type]
    axes.set(title=crossing.verdict)
    return axes


def plot_prediction(prediction: "Prediction", axes: Axes | None) -> Axes:
    """Expected errors along the size that varies most: the law's interval thick, that of a new run thin."""
    along = max(prediction.sizes, key=lambda role: len(np.unique(prediction.sizes[role])))
    x, axes = prediction.sizes[along], _axes(axes)
    for ends, width in ((prediction.run, 1), (prediction.law, 3)):
        axes.vlines(x, *ends, linewidth=width)
    axes.plot(x, prediction.y, "o")
    axes.set(xscale="log", yscale="log", xlabel=along, ylabel="y")
    return axes
