"""Frozen results as tables and as quick plots: what is drawn is what the law says."""

import numpy as np
import pandas as pd
import pytest

from geoladder.errors import GeoladderError
from geoladder.scaling import compare, crossover, fit, predict


def table(A=30.0, rng=0):
    rng = np.random.default_rng(rng)
    n, d = (values.ravel() for values in np.meshgrid(np.geomspace(1e5, 1e8, 4), np.geomspace(1e6, 1e9, 4)))
    y = (0.1 + A * n**-0.35 + 60 * d**-0.3) * np.exp(rng.normal(0, 0.003, n.size))
    return pd.DataFrame({"n": n, "d": d, "y": y})


@pytest.fixture(scope="module")
def law():
    return fit(table(), bootstrap=50)


def test_a_fit_is_a_frame_of_parameters_with_the_ends_of_every_interval(law):
    frame = law.to_frame()
    assert frame.value.to_dict() == law.params
    low, high = law.intervals["profile"]["alpha"]
    assert frame.loc["alpha", ["profile_low", "profile_high"]].tolist() == [low, high]
    assert fit(table(), bootstrap=0, fixed={"E": 0.1}).to_frame().profile_low.isna().to_dict()["E"]


def test_a_fit_is_drawn_along_one_size_with_its_band_and_the_runs(law):
    axes = law.plot("d", n=1e7, runs=table())
    curve, dots, _ = axes.lines
    x, y = curve.get_data()
    assert y == pytest.approx(law.predict(n=np.full(len(x), 1e7), d=x))
    assert len(dots.get_xdata()) == 16 and len(axes.collections) == 1
    assert axes.get_xlabel() == "d" and axes.get_title() == law.equation
    assert law.plot(axes=axes) is axes
    with pytest.raises(GeoladderError, match="does not depend on u; it has: n, d"):
        law.plot("u")


def test_a_contest_a_crossover_and_a_prediction_are_frames_and_plots(law):
    contest = compare(table(), ("product", "chinchilla"), bootstrap=20)
    assert contest.to_frame().form.tolist() == [candidate.form for candidate in contest.laws]
    assert [bar.get_width() for bar in contest.plot().patches] == [c.weight for c in contest.laws][::-1]
    other = fit(table(A=15.0, rng=1), bootstrap=50)
    crossing = crossover(law, other, "n", {"d": 1e8})
    (row,) = crossing.to_frame().to_dict("records")
    assert row["along"] == "n" and row["d"] == 1e8 and row["verdict"] == crossing.verdict
    assert len(crossing.plot(law, other).lines) == 2 + len(crossing.at)
    expected = predict(law, n=[1e7, 1e9], d=1e8)
    axes = expected.plot()
    assert axes.lines[0].get_ydata() == pytest.approx(expected.to_frame().y)
    assert axes.get_xlabel() == "n" and len(axes.collections) == 2
