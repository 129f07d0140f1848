"""What a study asks: trends, held-out runs, seeds, which law, crossovers, compute, each against a planted answer."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from geoladder.errors import GeoladderError
from geoladder.scaling.compute.allocate import allocate, worth_of_decade
from geoladder.scaling.compute.isoflop import isoflop, power_line
from geoladder.scaling.fit.extrapolate import hold_out
from geoladder.scaling.fit.fit import Settings, fit
from geoladder.scaling.fit.points import Refusal, read_points
from geoladder.scaling.fit.trend import trend
from geoladder.scaling.laws.forms import form_of
from geoladder.scaling.laws.loss import Loss
from geoladder.scaling.questions.compare import aicc, compare, shared_exponents, verdict
from geoladder.scaling.questions.crossover import crossover

COLUMNS = {"n": "n", "d": "d"}
SIZES, DATA = np.geomspace(1e5, 1e8, 5), np.geomspace(1e6, 1e9, 5)


def runs(A=30.0, alpha=0.35, B=60.0, beta=0.3, E=0.1, noise=0.003, cell=0.0, seeds=1, rng=0, sizes=SIZES):
    rng = np.random.default_rng(rng)
    rows = pd.MultiIndex.from_product([sizes, DATA, range(seeds)], names=["n", "d", "seed"]).to_frame(
        index=False
    )
    shared = np.repeat(
        rng.normal(0, cell, len(rows) // seeds) if cell else np.zeros(len(rows) // seeds), seeds
    )
    clean = E + A * rows.n**-alpha + B * rows.d**-beta
    return rows.assign(y=clean * np.exp(shared + rng.normal(0, noise, len(rows))))


def read(table, form="chinchilla", **more):
    return read_points(table, form_of(form), COLUMNS, "y", **more)


def test_a_falling_error_is_seen_and_a_flat_one_is_not():
    assert trend(read(runs()), "n").direction == "falls"
    assert trend(read(runs(A=1e-12)), "n").verdict.startswith("no scaling seen in n")
    assert trend(read(runs(A=1e-12)), "d").direction == "falls"
    rising = runs().assign(y=lambda t: 1 / t.y)
    rise = trend(read(rising), "n")
    assert rise.direction == "rises" and rise.worst_rise > 0


@pytest.mark.filterwarnings("ignore:invalid value")
def test_sizes_that_move_together_show_no_scaling():
    together = runs()[lambda table: np.isclose(table.d, 10 * table.n)]
    assert trend(read(together, "power"), "n").verdict.endswith("slope nan [nan, nan] includes 0")


def test_two_planned_levels_of_equal_size_are_two_means_in_the_order_of_the_levels():
    table = pd.DataFrame({"n": [10.0, 10, 10, 10, 99], "plan": list("ababc"), "y": [0.8, 0.5, 0.9, 0.6, 0.4]})
    planned = read_points(table, form_of("power"), {"n": "n"}, "y", planned={"n": "plan"})
    assert trend(planned, "n").worst_rise == 0


def test_a_flat_error_is_called_scaling_about_as_rarely_as_promised():
    seen = sum(
        trend(read(runs(A=1e-12, noise=0.02, rng=k)), "n").direction != "no scaling seen" for k in range(200)
    )
    assert seen <= 20


def test_the_planted_law_wins_and_criteria_that_do_not_exist_are_not_given():
    best = compare(
        read(runs()),
        ["constant", "product", "chinchilla_tied", "chinchilla"],
        Settings(bootstrap=0, profile=False),
    )
    assert best[0].form == "chinchilla"
    assert sum(c.weight for c in best) == pytest.approx(1)
    assert verdict(best) == "chinchilla is best by at least 2 units of AICc"
    few = compare(
        read(runs().iloc[[0, 6, 12, 18, 24, 3]]),
        ["product", "chinchilla"],
        Settings(bootstrap=0, profile=False),
    )
    assert next(c for c in few if c.form == "chinchilla").aicc is None
    with pytest.raises(Refusal, match="log_squared"):
        compare(read(runs()), ["product"], Settings(loss=Loss("huber", 1e-3)))
    assert aicc(0.5, 10, 3) == pytest.approx(10 * np.log(0.05) + 8 + 2 * 4 * 5 / 5)
    assert aicc(0.5, 5, 3) is None


def test_shared_exponents_are_kept_when_true_and_rejected_when_false():
    same = {"a": read(runs(A=20, rng=1)), "b": read(runs(A=40, E=0.2, rng=2))}
    shared = shared_exponents("chinchilla", same)
    assert shared.p > 0.01
    assert shared.exponents == pytest.approx({"alpha": 0.35, "beta": 0.3}, abs=0.02)
    other = shared_exponents("chinchilla", {**same, "c": read(runs(alpha=0.5, A=300, rng=3))})
    assert other.p < 1e-6 and other.verdict.startswith("exponents differ")
    assert other.aicc_shared > other.aicc_separate


def test_hidden_runs_of_a_true_law_are_hit_and_those_of_a_wrong_law_are_missed_with_their_sign():
    table = runs(seeds=2, noise=0.01)
    settings = Settings(bootstrap=200, profile=False)
    hidden = hold_out(table, "chinchilla", COLUMNS, "y", "n", settings, seed="seed")
    assert len(hidden.runs) == 10 and sum(run.hit for run in hidden.runs) >= 8
    assert hidden.runs[0].decades == pytest.approx(0.75, abs=0.01)
    wrong = hold_out(runs(E=0.6), "product", COLUMNS, "y", "n", settings)
    assert np.mean([run.error for run in wrong.runs]) < 0  # a law without a floor promises too much
    rolling = hold_out(table, "chinchilla", COLUMNS, "y", "n", settings, rolling=True, seed="seed")
    assert len(rolling.runs) == 20 and len(rolling.skipped) == 2
    assert "n takes 2 distinct values" in rolling.skipped[1]


def fitted(**planted):
    return fit(runs(**planted), bootstrap=200, profile=False)


def test_a_crossover_is_found_where_planted_and_not_where_there_is_none():
    steep, shallow = fitted(A=60.0, alpha=0.45, noise=0.002), fitted(A=6.0, alpha=0.25, noise=0.002, rng=1)
    planted = optimize.brentq(lambda n: 60 * n**-0.45 - 6 * n**-0.25, 1e3, 1e7)
    cross = crossover(steep, shallow, "n", {"d": 1e9}, decades=2)
    assert cross.at[0] == pytest.approx(planted, rel=0.3)
    assert cross.interval[0] < planted < cross.interval[1]
    assert cross.better_below == 2
    apart = crossover(fitted(E=0.1), fitted(E=0.5, rng=1), "n", {"d": 1e9}, decades=0)
    assert apart.at == [] and apart.interval is None and apart.never == 1.0
    assert apart.verdict.startswith("no crossover along n: law 1 is lower")
    twin = crossover(fitted(noise=0.02), fitted(noise=0.02, rng=7), "n", {"d": 1e9})
    assert twin.interval is None or None in twin.interval
    with pytest.raises(GeoladderError, match="bootstrap draws"):
        crossover(fit(runs(), bootstrap=0, profile=False), steep, "n", {"d": 1e9})


def test_the_best_split_of_compute_agrees_with_a_search():
    law = fitted()
    best = allocate(law, 1e15)

    def loss(log_n):
        n = np.exp(log_n)
        return law.predict(n=[n], d=[1e15 / 6 / n])[0]

    searched = optimize.minimize_scalar(
        loss, bounds=(np.log(1e4), np.log(1e9)), method="bounded", options={"xatol": 1e-9}
    )
    assert best.n.value == pytest.approx(np.exp(searched.x), rel=1e-4)
    assert best.y.value == pytest.approx(searched.fun, rel=1e-9)
    assert best.n.value * best.d.value * 6 == pytest.approx(1e15)
    assert best.n.low < best.n.value < best.n.high and best.outside == []
    assert allocate(law, 1e21).outside == ["n", "d"]
    with pytest.raises(GeoladderError, match="not product"):
        allocate(fit(runs(), "product", bootstrap=0, profile=False), 1e15)


def test_what_a_decade_of_parameters_is_worth_lowers_the_error_as_much():
    law = fitted()
    worth = worth_of_decade(law, 1e6, 1e7)
    assert law.predict(n=[1e6], d=[1e7 * worth.value])[0] == pytest.approx(law.predict(n=[1e7], d=[1e7])[0])
    assert worth.low < worth.value < worth.high
    assert worth_of_decade(law, 1e4, 1e9).value == np.inf


def isoflop_runs(noise=0.0, offsets=(0.2, 0.6, 1.5, 4), rng=0):
    rng = np.random.default_rng(rng)
    return pd.DataFrame(
        {"c": c, "n": n, "y": 1 + 0.02 * (np.log(n) - 0.5 * np.log(c)) ** 2 + rng.normal(0, noise)}
        for c in np.geomspace(1e12, 1e15, 4)
        for n in c**0.5 * np.array(offsets)
    )


def test_isoflop_minima_lie_at_the_bottom_and_their_line_has_its_slope():
    curves = isoflop(isoflop_runs(), "c", "n", "y")
    assert all(m.inside for m in curves.minima)
    assert [m.n for m in curves.minima] == pytest.approx([m.flops**0.5 for m in curves.minima])
    assert (curves.line.slope, curves.line.coefficient) == pytest.approx((0.5, 1.0))
    with pytest.raises(Refusal, match="three sizes"):
        isoflop(isoflop_runs().iloc[:2], "c", "n", "y")
    with pytest.raises(Refusal, match="no column k; there are: c, n, y"):
        isoflop(isoflop_runs(), "c", "k", "y")
    with pytest.raises(Refusal, match=r"row 1: n is -1\.0"):
        isoflop(isoflop_runs().assign(n=[5.0, -1.0] * 8), "c", "n", "y")


def test_isoflop_intervals_cover_the_planted_size_and_exponent():
    sizes = slopes = 0
    for rng in range(40):
        curves = isoflop(isoflop_runs(0.001, (0.1, 0.3, 0.8, 1.5, 4, 9), rng), "c", "n", "y")
        sizes += sum(m.low <= m.flops**0.5 <= m.high for m in curves.minima)
        slopes += curves.line.low <= 0.5 <= curves.line.high
    assert 0.88 <= sizes / 160 <= 0.995
    assert slopes >= 34


def test_an_isoflop_minimum_outside_the_sizes_run_is_no_part_of_the_line():
    curves = isoflop(isoflop_runs(offsets=(2, 4, 8)), "c", "n", "y")
    assert not any(m.inside for m in curves.minima) and curves.line is None
    assert all(m.low is None and m.sd_log is None for m in curves.minima)  # three sizes leave no scatter


def test_weights_and_noise_of_a_line():
    x, sd = np.geomspace(1, 1e4, 9), np.array([0.01] * 8 + [5.0])
    y = 3 * x**0.7
    y[-1] *= 10
    line = power_line(x, y, sd)
    assert line.slope == pytest.approx(0.7, abs=1e-4)
    assert line.low < 0.7 < line.high
    assert power_line(x, y).slope > 0.75


def test_the_bias_of_parabolas_is_stated_as_it_is():
    law = {"E": 1.7, "A": 480.0, "B": 2100.0, "alpha": 0.34, "beta": 0.28}
    exponent = law["beta"] / (law["alpha"] + law["beta"])
    rows = []
    for flops in (1e19, 1e20, 1e21):
        best = (law["alpha"] * law["A"] / (law["beta"] * law["B"])) ** (1 / (law["alpha"] + law["beta"]))
        best *= (flops / 6) ** exponent
        for n in best * 3.0 ** np.arange(-1 if flops > 1e20 else -2, 3):
            y = law["E"] + law["A"] * n ** -law["alpha"] + law["B"] * (flops / 6 / n) ** -law["beta"]
            rows.append({"flops": flops, "n": n, "y": y})
    curves = isoflop(pd.DataFrame(rows), "flops", "n", "y")
    assert curves.bias.slope == pytest.approx(curves.line.slope - exponent, abs=5e-4)
    assert abs(curves.bias.slope) > 1e-3 and curves.bias.n != pytest.approx(1, abs=0.01)
