"""Panels of loss against size: what is drawn is what the axis says, and a colour is one level everywhere."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from geoladder.report.figures.law_panels import DATA, PARAMETERS, law_legend, law_panel
from geoladder.report.laws import pretrain_points


@pytest.fixture
def runs(table):
    return pretrain_points(pd.read_csv(table), "total")


@pytest.fixture
def fitted(laws):
    return json.loads(laws.read_text())


def panel_of(runs, along, fitted):
    axis = Figure().subplots()
    law_panel(axis, runs, along, fitted)
    return axis


def scatters(axis):
    return [c for c in axis.collections if isinstance(c, PathCollection)]


@pytest.mark.parametrize(
    ("along", "label", "role", "unit"),
    [(PARAMETERS, "Parameters", "n", 1), (DATA, "Unique pretraining data (megapixels)", "d", 1e6)],
)
def test_runs_and_laws_are_drawn_in_the_unit_of_the_label(runs, fitted, along, label, role, unit):
    axis = panel_of(runs, along, fitted)
    assert axis.get_xlabel() == label
    dots = np.concatenate([scatter.get_offsets() for scatter in scatters(axis)])
    expected = runs[role] / unit
    assert sorted(dots[:, 0]) == pytest.approx(sorted(expected))
    low, high = axis.get_xlim()
    assert expected.min() / 2 < low < expected.min() and expected.max() < high < expected.max() * 2
    for line in axis.lines:
        assert line.get_xdata()[[0, -1]] == pytest.approx([expected.min() / 1.15, expected.max() * 1.15])
    ticks = [tick for tick in axis.get_xticks() if low <= tick <= high]
    assert ticks
    if role == "n":
        assert [text.get_text() for text in axis.get_xticklabels()] == ["10k", "40k", "160k"]


@pytest.mark.parametrize(("along", "smallest", "largest"), [(PARAMETERS, 1 / 16, 1), (DATA, "xs", "m")])
def test_the_least_level_is_the_darkest_in_points_law_and_legend(runs, fitted, along, smallest, largest):
    axis = panel_of(runs, along, fitted)
    nested = runs[runs.corpus == "majortom"]
    levels = nested.groupby(along.level)[along.other].mean().sort_values().index
    assert (levels[0], levels[-1]) == (smallest, largest)
    handles = law_legend(runs, along, "majortom")[: len(levels)]
    colours = []
    for level, handle, line in zip(levels, handles, axis.lines, strict=True):
        losses = sorted(nested[nested[along.level] == level].y)
        (scatter,) = [s for s in scatters(axis) if sorted(s.get_offsets()[:, 1]) == pytest.approx(losses)]
        colours.append(to_rgb(handle.get_color()))
        assert to_rgb(scatter.get_facecolor()[0]) == to_rgb(line.get_color()) == colours[-1]
    brightness = [np.dot(colour, (0.299, 0.587, 0.114)) for colour in colours]
    assert brightness == sorted(brightness) and brightness[0] < 0.3 < brightness[-1]
    assert str(handles[0].get_label()).startswith("1/16 of majortom" if along is PARAMETERS else "size xs")
    if along is PARAMETERS:
        assert handles[-1].get_label() == "all of majortom (1 Mpx)"


def test_exponents_stand_in_the_title_and_other_corpora_are_crosses_of_their_own(runs, fitted):
    axis = panel_of(runs, DATA, fitted)
    beta = fitted["pretraining"]["unet"]["law"]["params"]["beta"]
    assert axis.get_title().startswith(f"U-Net\nβ = {beta:.2f} [")
    assert law_legend(runs, DATA, "majortom")[-1].get_label() == "globe (not fitted)"
