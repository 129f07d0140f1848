from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize, special

from geoladder.cli import main
from geoladder.errors import GeoladderError
from geoladder.scaling.fit import record
from geoladder.scaling.fit.fit import Status, fit
from geoladder.scaling.fit.points import Refusal, read_points
from geoladder.scaling.laws.forms import form_of

SIZES = [(n, d) for n, d in product([2.5e4, 1e5, 4e5, 1.6e6], [2.5e5, 1e6, 4e6])]
TWO = [(n, d) for n, d in SIZES if n < 2e5]


def points(E=0.05, A=3.0, B=20.0, alpha=0.34, beta=0.4, noise=0.0, seeds=1, sizes=SIZES, rng=0):
    n, d = np.array(sizes * seeds).T
    wobble = np.exp(noise * np.random.default_rng(rng).standard_normal(len(n)))
    seed = np.repeat(np.arange(seeds), len(sizes))
    return pd.DataFrame({"n": n, "d": d, "seed": seed, "y": (E + A * n**-alpha + B * d**-beta) * wobble})


@settings(max_examples=15, deadline=None)
@given(alpha=st.floats(0.15, 0.8), beta=st.floats(0.15, 0.8), E=st.floats(0.01, 0.5))
@example(
    alpha=0.22179131067134172, beta=0.1587, E=0.4239669963116687
)  # exact to rounding: nothing left to gain
def test_planted_exponents_are_recovered(alpha, beta, E):
    planted = points(E=E, A=0.5 * 2.5e4**alpha, B=0.5 * 2.5e5**beta, alpha=alpha, beta=beta)
    law = fit(planted, bootstrap=0, profile=False)
    assert law.status is Status.CONVERGED
    assert law.params["alpha"] == pytest.approx(alpha, rel=1e-4)
    assert law.params["beta"] == pytest.approx(beta, rel=1e-4)
    assert law.params["E"] == pytest.approx(E, rel=1e-4)
    assert law.objective < 1e-12


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("loss", [{}, {"loss": "huber", "delta": 1e-3}])
def test_intervals_hold_the_truth_about_as_often_as_they_say(seeds, loss):
    covered = {"profile": 0, "bootstrap": 0}
    for draw in range(40):
        table = points(noise=0.005, seeds=seeds, rng=draw)
        law = fit(table, seed="seed" if seeds > 1 else None, bootstrap=200, level=0.9, rng=draw, **loss)
        for kind in covered:
            low, high = law.intervals[kind]["beta"]
            covered[kind] += (low or -np.inf) <= 0.4 <= (high or np.inf)
    assert all(30 <= count for count in covered.values()), covered


@pytest.mark.parametrize("seeds", [1, 3])
def test_two_sizes_are_refused_in_every_draw_and_the_reduced_law_is_offered(seeds):
    for draw in range(20):
        law = fit(points(sizes=TWO, noise=0.01, seeds=seeds, rng=draw), seed="seed", bootstrap=20)
        assert law.status is Status.NOT_IDENTIFIED
        assert law.params == {} and law.intervals == {} and law.objective is None
        assert law.identifiability.levels == {"n": 2, "d": 3}
        assert "n takes 2 distinct values" in law.identifiability.reasons[0]
        assert law.reduced.form == "product"
        assert law.reduced.params["alpha"] > 0
    with pytest.raises(GeoladderError, match="was refused: n takes 2"):
        law.predict(n=[1e5], d=[1e6])


def test_two_sizes_that_jitter_are_still_two():
    jittered = points(sizes=TWO, noise=0.01, seeds=3)
    jittered["n"] *= 1 + 0.02 * np.random.default_rng(0).random(len(jittered))
    assert fit(jittered, bootstrap=0).status is Status.NOT_IDENTIFIED


def test_a_held_floor_makes_two_sizes_enough():
    law = fit(points(sizes=TWO, noise=0.002, seeds=3), bootstrap=0, fixed={"E": 0.05})
    assert law.status is Status.CONVERGED
    assert law.params["E"] == pytest.approx(0.05)
    assert law.params["alpha"] == pytest.approx(0.34, abs=0.1)


def test_a_flat_error_has_an_open_interval_and_no_false_exponent():
    flat = points(A=1e-9, noise=0.01, seeds=2)
    law = fit(flat, bootstrap=0)
    assert law.identifiability.verdict == "weak"
    assert None in law.intervals["profile"]["alpha"]


def test_a_noisy_curve_that_has_reached_its_floor_is_no_bound_and_its_interval_holds_the_floor():
    covered = 0
    for draw in range(30):
        n = np.repeat([4, 16, 64, 256, 1024, 4096.0], 3)
        noise = np.exp(0.01 * np.random.default_rng(draw).standard_normal(len(n)))
        curve = pd.DataFrame({"n": n, "y": (0.5 + 0.4 * n**-0.9) * noise})
        law = fit(curve, "saturating", bootstrap=200, rng=draw)
        assert law.status is Status.CONVERGED
        low, high = law.intervals["profile"]["E"]
        covered += low <= 0.5 <= high
    assert covered >= 26


def test_planned_levels_count_not_the_wobble_about_them():
    data = points(sizes=[(n, d) for n, d in SIZES if d < 2e6], noise=0.01, seeds=3)
    data["fraction"] = data.d
    data["d"] *= np.exp(0.2 * np.random.default_rng(0).standard_normal(len(data)))
    law = fit(data, bootstrap=0, levels={"d": "fraction"})
    assert law.identifiability.levels == {"n": 4, "d": 2}
    assert law.status is Status.NOT_IDENTIFIED
    luck = points(seeds=3)
    luck["fraction"] = luck.d
    least = luck.seed.where(luck.d == luck.d.min(), 1)
    luck["d"] *= 1 + 0.1 * (least - 1)  # of little data, seeds with more of it are by luck better, too
    luck["y"] *= 1 - 0.15 * (least - 1)
    steady, bent = (
        fit(luck, seed="seed", bootstrap=0, profile=False, levels=levels).params["beta"]
        for levels in ({"d": "fraction"}, None)
    )
    assert steady == pytest.approx(0.4, abs=0.05)
    assert bent > 0.48
    with pytest.raises(Refusal, match="no column share"):
        fit(data, levels={"d": "share"})


def test_points_with_a_large_standard_error_hardly_count():
    data = points(noise=0.001)
    data["sd"] = 0.001 * data.y
    data.loc[3, "y"] *= 3
    data.loc[3, "sd"] = 100.0
    assert fit(data, sd="sd", bootstrap=0).params["beta"] == pytest.approx(0.4, abs=0.03)
    assert fit(data, bootstrap=0).params["beta"] != pytest.approx(0.4, abs=0.03)


def test_a_huber_loss_shrugs_off_an_outlier():
    data = points(noise=0.001)
    data.loc[3, "y"] *= 1.5
    law = fit(data, loss="huber", delta=1e-3, bootstrap=0, profile=False)
    assert law.params["beta"] == pytest.approx(0.4, abs=0.03)


def test_a_law_of_one_term_under_a_narrow_huber_loss_is_an_absolute_loss_and_still_solved():
    n = np.repeat(np.geomspace(1, 1e4, 8), 2)
    y = 0.9 * n**-0.2 * np.exp(0.05 * np.random.default_rng(0).standard_normal(n.size))
    law = fit(pd.DataFrame({"n": n, "y": y}), "power", loss="huber", delta=1e-3, bootstrap=100)
    lines = [  # an absolute loss is least on a line through two of the points
        np.polyfit(np.log(n[[i, j]]), np.log(y[[i, j]]), 1)
        for i in range(16)
        for j in range(i)
        if n[i] != n[j]
    ]
    best = min(np.abs(np.polyval(line, np.log(n)) - np.log(y)).sum() for line in lines)
    assert law.objective <= 1e-3 * best
    assert law.reached == 1.0
    low, high = law.intervals["bootstrap"]["alpha"]
    assert 0.01 < high - low < 0.1


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others():
    data = points(noise=0.01, seeds=2)
    first, again, other = (fit(data, seed="seed", bootstrap=50, rng=rng) for rng in (1, 1, 2))
    assert first.intervals == again.intervals
    assert first.intervals["bootstrap"] != other.intervals["bootstrap"]


def test_a_prediction_interval_holds_new_runs_and_is_wider_than_the_band():
    inside = 0
    for draw in range(40):
        data = points(noise=0.01, seeds=2, rng=draw)
        law = fit(data, bootstrap=200, rng=draw)
        new = (0.05 + 3.0 * 3e6**-0.34 + 20 * 8e6**-0.4) * np.exp(
            0.01 * np.random.default_rng(1000 + draw).standard_normal()
        )
        low, high = law.prediction(n=[3e6], d=[8e6])
        band = law.band(n=[3e6], d=[8e6])
        assert high[0] - low[0] > band[1][0] - band[0][0]
        inside += low[0] <= new <= high[0]
    assert inside >= 34


def test_a_fit_survives_json(tmp_path):
    runs, out = tmp_path / "runs.csv", tmp_path / "fit.json"
    options = ["--d", "d", "--loss", "log_squared", "--bootstrap", "20", "--out", str(out)]
    for data in (points(noise=0.01), points(sizes=TWO, noise=0.01)):
        data.to_csv(runs, index=False)
        law = fit(pd.read_csv(runs), bootstrap=20)
        assert main(["fit", str(runs), *options]) == (0 if law.params else 1)
        again = record.read(out)
        assert again == law
        if law.params:
            np.testing.assert_array_equal(again.predict(n=[1e5], d=[1e6]), law.predict(n=[1e5], d=[1e6]))
            np.testing.assert_allclose(again.band(n=[1e5], d=[1e6]), law.band(n=[1e5], d=[1e6]))
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(GeoladderError, match="no fit written by"):
        record.read(tmp_path / "other.json")


def broken(**change):
    return points(noise=0.01).assign(**change)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (points().drop(columns="d"), "no column d; there are: n, seed, y"),
        (broken(y=lambda t: t.y.where(t.index != 2, -1.0)), "row 2: y is -1.0"),
        (broken(y=lambda t: t.y.where(t.index != 2, 0.0)), "row 2: y is 0.0"),
        (broken(y=lambda t: t.y.where(t.index != 2)), "row 2: y is nan"),
        (broken(n="many"), "row 0: n is many"),
        (broken(n=1e5), "n takes one value"),
        (broken(y=0.3), "y is 0.3 in every row"),
        (pd.concat([points(), points().iloc[:1]]), "2 rows are doubled"),
        (points(noise=0.01).iloc[:4], "4 points for the 5 parameters"),
    ],
)
def test_bad_tables_are_refused_with_the_reason(table, message):
    with pytest.raises(Refusal, match=message):
        fit(table)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(GeoladderError, match="unknown law 'cubic'; allowed are: constant"):
        fit(points(), "cubic")
    with pytest.raises(GeoladderError, match="unknown loss"):
        fit(points(), loss="absolute")
    with pytest.raises(GeoladderError, match="huber takes a positive delta"):
        fit(points(), loss="huber", delta=-1.0)
    with pytest.raises(GeoladderError, match="no parameter 'gamma'"):
        fit(points(), fixed={"gamma": 1.0})


def test_runs_that_had_not_settled_carry_no_law():
    table = pd.DataFrame(
        {"n": [1, 2, 4, 8], "y": [1.0, 0.8, 0.7, 0.65], "settled": [True, True, True, False]}
    )
    with pytest.raises(Refusal, match=r"1 of 4 rows are of runs that had not settled \(first: n = 8\)"):
        read_points(table, form_of("saturating"), {"n": "n"}, "y")
    assert read_points(table[:3], form_of("saturating"), {"n": "n"}, "y").y.size == 3
    unknown = table.assign(settled=None)
    assert read_points(unknown, form_of("saturating"), {"n": "n"}, "y").y.size == 4


def test_a_huber_loss_of_raw_residuals_is_at_the_optimum_of_another_optimiser():
    table = points(noise=0.01)
    table.loc[3::7, "y"] += 0.05
    law = fit(table, loss="huber_raw", delta=0.002, bootstrap=0)

    def objective(theta):
        e, a, b = np.exp(theta[:3])
        y = e + a * (table.n / 1e5) ** -theta[3] + b * (table.d / 1e6) ** -theta[4]
        return special.huber(0.002, y - table.y).sum()

    p = law.params
    start = [
        *np.log([p["E"], p["A"] * 1e5 ** -p["alpha"], p["B"] * 1e6 ** -p["beta"]]),
        p["alpha"],
        p["beta"],
    ]
    assert objective(start) == pytest.approx(law.objective, rel=1e-9)
    other = optimize.minimize(objective, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13})
    assert law.objective <= other.fun * (1 + 1e-6)


def test_r2_and_rmse_are_in_units_of_y():
    table = points(noise=0.01)
    law = fit(table, bootstrap=0)
    gap = law.predict(n=table.n.to_numpy(), d=table.d.to_numpy()) - table.y
    assert law.rmse == pytest.approx(np.sqrt(np.mean(gap**2)))
    assert law.r2 == pytest.approx(1 - np.sum(gap**2) / np.sum((table.y - table.y.mean()) ** 2))


def test_equal_rows_are_repeats_where_that_is_said():
    table = pd.concat(
        [points(noise=0.01), points(noise=0.01).assign(y=lambda t: t.y * 1.003), points(noise=0.01).iloc[:3]]
    )
    with pytest.raises(Refusal, match="say that they are --repeats"):
        fit(table, bootstrap=0)
    law = fit(table, repeats=True, bootstrap=0)
    assert law.n_points == len(table) and law.variance is not None
