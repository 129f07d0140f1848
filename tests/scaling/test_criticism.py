"""Laws that are wrong of the data, designs that say little, and predictions that are not to be relied on."""

import numpy as np
import pandas as pd
import pytest

from geoladder.cli import main
from geoladder.errors import GeoladderError
from geoladder.scaling.fit.fit import Status, fit
from geoladder.scaling.fit.points import levels_of
from geoladder.scaling.questions.average import averaged

FAR = {"n": np.array([5e10]), "d": np.array([1e12])}
CHEAP = {"bootstrap": 0, "profile": False}


def true(n, d):
    return 1.8 + 480 * n**-0.34 + 2100 * d**-0.37


def kaplan(n, d):
    return ((8.8e13 / n) ** 0.8 + 5.4e13 / d) ** 0.095


def penalty(n, d):
    return true(n, d) * (1 + 0.01 * np.maximum(np.log10(d / (20 * n)), 0) ** 2)


def runs(law, rng=0, seeds=3, noise=0.003, levels=5):
    grid = pd.MultiIndex.from_product(
        [np.geomspace(5e7, 5e9, levels), np.geomspace(1e9, 1e11, levels), range(seeds)],
        names=["n", "d", "seed"],
    ).to_frame(index=False)
    noise = np.random.default_rng(rng).normal(0, noise, len(grid))
    return grid.assign(y=law(grid.n, grid.d) * np.exp(noise))


def test_a_wrong_law_is_called_so_and_the_true_one_hardly_ever():
    for law in (kaplan, penalty):
        for loss in ({}, {"loss": "huber", "delta": 1e-3}):
            wrong = fit(runs(law), seed="seed", **CHEAP, **loss)
            assert wrong.criticism.lack_of_fit and wrong.identifiability.verdict == "weak"
            assert any("misses the cells" in reason for reason in wrong.identifiability.reasons)
    seen = sum(fit(runs(true, k), seed="seed", **CHEAP).criticism.lack_of_fit for k in range(1000, 1030))
    assert seen <= 3


def test_without_repeats_residuals_are_searched_for_a_pattern():
    wrong = fit(runs(kaplan, seeds=1, noise=0.001), **CHEAP).criticism
    assert wrong.p is None and wrong.lack_of_fit and "a pattern of the sizes" in wrong.verdict
    seen = sum(fit(runs(true, k, 1), **CHEAP).criticism.lack_of_fit for k in range(1000, 1020))
    assert seen <= 3


def test_predictions_of_a_contradicted_law_are_marked_and_widened():
    wrong, right = (fit(runs(law), seed="seed", bootstrap=100, profile=False) for law in (penalty, true))
    low, high = wrong.band(**FAR)
    assert low < penalty(5e10, 1e12) < high
    assert wrong.caution(**FAR).startswith("not to be relied on: the law misses the cells")
    assert right.caution(**FAR).startswith("untested: hold-outs speak for")
    assert right.caution(n=[1e9], d=[1e10]) == ""
    assert {cut.along for cut in right.criticism.cuts} == {"n", "d", "all"}
    assert max(cut.decades for cut in right.criticism.cuts) == pytest.approx(1.0)


def test_sizes_that_move_together_are_named_and_the_law_in_one_of_them_offered():
    n = np.repeat(np.geomspace(1e7, 1e10, 8), 2)
    noise = np.random.default_rng(0).normal(0, 0.002, n.size)
    line = fit(pd.DataFrame({"n": n, "d": 20 * n, "y": true(n, 20 * n) * np.exp(noise)}), bootstrap=0)
    assert line.status is Status.NOT_IDENTIFIED and line.reduced.form == "saturating"
    assert "n and d move together in every run (d = 20 n^1)" in line.identifiability.reasons[0]


def test_close_sizes_are_levels_and_their_cost_is_said():
    near = np.geomspace(1.0, 1.21, 5)
    assert np.unique(levels_of(near, 1.1)).size == 5
    assert np.unique(levels_of(near, 1.1, given=1.1)).size == 2
    assert np.unique(levels_of(np.array([1.0, 1.02, 4, 4.08]), 1.1)).size == 2
    grid = pd.MultiIndex.from_product([1e9 * near, np.geomspace(1e9, 1e11, 5)], names=["n", "d"]).to_frame(
        index=False
    )
    table = grid.assign(y=true(grid.n, grid.d) * np.exp(np.random.default_rng(1).normal(0, 0.001, 25)))
    narrow = fit(table, bootstrap=0)
    assert narrow.params and narrow.identifiability.verdict == "weak"
    reason = next(reason for reason in narrow.identifiability.reasons if "within a factor of 1.21" in reason)
    assert "n takes 5 values" in reason and "times" in reason
    assert fit(table, bootstrap=0, levels_ratio=1.1).status is Status.NOT_IDENTIFIED
    with pytest.raises(GeoladderError, match="it is 1 or more"):
        fit(table, levels_ratio=0.5)


def test_laws_are_averaged_by_their_weights(tmp_path, capsys):
    table = runs(true, seeds=1, noise=0.02)
    laws = [fit(table, form, bootstrap=200, profile=False) for form in ("chinchilla", "product")]
    mean = averaged(laws, **FAR)
    assert sum(mean.weights.values()) == pytest.approx(1)
    values = [float(law.predict(**FAR)[0]) for law in laws]
    assert min(values) < mean.value < max(values)
    assert mean.band[0] < mean.value < mean.band[1] and mean.run[0] < mean.band[0]
    with pytest.raises(GeoladderError, match="same runs"):
        averaged([laws[0], fit(table[:-1], "product", bootstrap=10, profile=False)], **FAR)
    robust = [fit(table, loss="huber", delta=1e-3, bootstrap=10, profile=False)]
    with pytest.raises(GeoladderError, match="least-squares loss"):
        averaged(robust, **FAR)
    file, outs = tmp_path / "runs.csv", []
    table.to_csv(file, index=False)
    for form in ("chinchilla", "product"):
        outs.append(str(tmp_path / f"{form}.json"))
        options = [
            "--d",
            "d",
            "--form",
            form,
            "--loss",
            "log_squared",
            "--bootstrap",
            "20",
            "--out",
            outs[-1],
        ]
        assert main(["fit", str(file), *options]) == 0
    capsys.readouterr()
    assert main(["predict", *outs, "--n", "5e10", "--d", "1e12"]) == 0
    assert "average (chinchilla" in capsys.readouterr().out
