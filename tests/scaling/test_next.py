"""Which runs next: the choice reaches what is wanted, costs less than the grid, and says what cannot be known."""

import json

import numpy as np
import pandas as pd
import pytest

from geoladder.cli import main
from geoladder.scaling import compare, fit, frontier, next_runs, predict
from geoladder.scaling.expressions import column
from geoladder.scaling.fit.points import Refusal, read_points
from geoladder.scaling.laws.forms import form_of
from geoladder.scaling.questions.next_runs import Assumed, Noise, grid, scatter_of

TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.34, "beta": 0.37}
LEVELS = {"n": [1e7, 3e7, 1e8, 3e8, 1e9], "d": [1e9, 1e10, 1e11]}
ASSUMED = Assumed("chinchilla", TRUTH, Noise(0.005))


def simulated(cells, rng):
    clean = TRUTH["E"] + TRUTH["A"] * cells.n ** -TRUTH["alpha"] + TRUTH["B"] * cells.d ** -TRUTH["beta"]
    return cells.assign(y=clean * np.exp(rng.normal(0, 0.005, len(cells))), seed=np.arange(len(cells)))


def half(law):
    low, high = law.intervals["profile"]["alpha"]
    return (high - low) / 2


def test_runs_chosen_halve_the_interval_for_less_than_repeating_the_grid():
    rng = np.random.default_rng(3)
    whole = grid(LEVELS, "6*n*d")
    table = simulated(whole, rng)
    today = fit(table, bootstrap=0)
    read = read_points(table, form_of("chinchilla"), {"n": "n", "d": "d"}, "y")
    fine = grid({"n": np.geomspace(1e7, 1e9, 25), "d": np.geomspace(1e9, 1e11, 15)}, "6*n*d")
    choice = next_runs(today, "alpha", fine, runs=read, cost="cost", most_runs=1, simulations=200)
    frame = choice.to_frame()
    assert choice.expected <= choice.half_width * 0.501
    assert choice.simulated == pytest.approx(choice.expected, rel=0.25)
    assert choice.cost == pytest.approx((frame.cost * frame.more).sum())
    assert choice.cost < 3 * whole.cost.sum() / 1.5
    bought = frame.loc[frame.index.repeat(frame.more.astype(int)), ["n", "d", "cost"]]
    both = pd.concat([table, simulated(bought, rng)], ignore_index=True).assign(seed=lambda t: range(len(t)))
    assert half(fit(both, seed="seed", bootstrap=0)) < 0.7 * half(today)


def test_before_any_run_a_design_is_chosen_and_a_budget_is_kept():
    choice = next_runs(ASSUMED, "alpha", grid(LEVELS, "6*n*d"), cost="cost", half_width=0.03)
    assert choice.half_width is None and choice.expected <= 0.0301
    spent = next_runs(ASSUMED, "y n=1e10 d=1e12", grid(LEVELS, "6*n*d"), cost="cost", budget=2e20)
    assert spent.cost <= 2e20 and np.isfinite(spent.expected)
    first = next_runs(ASSUMED, "alpha", grid(LEVELS, "6*n*d"), cost="cost", half_width=0.03, count=3)
    assert first.runs.more.sum() == 3


def test_seeds_lose_to_new_cells_where_cells_scatter():
    seeds = next_runs(ASSUMED, "alpha", grid(LEVELS, "1+0*n*d"), cost="cost", half_width=0.03)
    noise = Noise(0.001, 0.005)
    cells = next_runs(
        Assumed("chinchilla", TRUTH, noise), "alpha", grid(LEVELS, "1+0*n*d"), cost="cost", budget=15.0
    )
    assert seeds.runs.more.max() > 1
    assert len(cells.runs) > len(seeds.runs)


@pytest.mark.parametrize(
    ("question", "table", "options", "message"),
    [
        ("gamma", grid(LEVELS, "6*n*d"), {"budget": 1.0}, "cannot answer 'gamma'"),
        ("y n=1e9", grid(LEVELS, "6*n*d"), {"budget": 1.0}, "cannot answer"),
        ("alpha", grid(LEVELS, "0*n*d"), {"budget": 1.0}, "must be positive"),
        ("alpha", grid(LEVELS, "6*n*d"), {"budget": 1.0, "dearest": 1.0}, "no admissible run"),
        ("alpha", grid({"n": [1e7, 1e8], "d": [1e9, 1e10, 1e11]}, "n"), {"budget": 1e9}, "undetermined"),
        ("alpha", grid(LEVELS, "6*n*d"), {"half_width": 1e-6}, "do not reach the width"),
        ("alpha", grid(LEVELS, "6*n*d"), {}, "no width to shrink"),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_the_reason(question, table, options, message):
    with pytest.raises(Refusal, match=message):
        next_runs(ASSUMED, question, table, cost="cost", **options)


def test_the_verb_chooses_before_any_run_and_from_runs(tmp_path, capsys):
    out = tmp_path / "next.json"
    assume = [part for name, value in TRUTH.items() for part in ("--assume", f"{name}={value}")]
    options = ["--question", "alpha", "--n-levels", "1e7", "1e8", "1e9", "--d-levels", "1e9", "1e10", "1e11"]
    assert (
        main(["next", *assume, *options, "--noise", "0.005", "--half-width", "0.05", "--out", str(out)]) == 0
    )
    assert "half-width" in capsys.readouterr().out
    assert json.loads(out.read_text())["runs"][0]["more"] >= 1
    runs = tmp_path / "runs.csv"
    table = simulated(grid(LEVELS, "6*n*d"), np.random.default_rng(0)).rename(columns={"cost": "FLOP"})
    table.drop(columns="d").to_csv(runs, index=False)
    options = ["--question", "alpha", "--d", "FLOP/(6*n)", "--bootstrap", "0", "--most-runs", "80"]
    assert main(["next", str(runs), *options]) == 0
    assert "today" in capsys.readouterr().out
    assert main(["next", "--question", "alpha"]) == 1
    assert "either a CSV of runs" in capsys.readouterr().err


def test_the_api_predicts_splits_and_compares_as_the_command_line_does():
    law = fit(simulated(grid(LEVELS, "6*n*d"), np.random.default_rng(1)), bootstrap=100)
    frame = predict(law, n=[1e9, 1e10], d=[1e11, 1e11]).to_frame()
    assert (frame.run_low < frame.y).all() and (frame.y < frame.run_high).all()
    best = frontier(law, [1e19, 1e20]).to_frame()
    assert best.d_per_n.tolist() == pytest.approx((best.d / best.n).tolist())
    table = simulated(grid(LEVELS, "6*n*d"), np.random.default_rng(1))
    assert compare(table, bootstrap=50).laws[0].form in ("chinchilla", "chinchilla_tied")


def test_formulas_are_parsed_and_never_evaluated():
    table = pd.DataFrame({"FLOP": [6e20, 12e20], "N": [1e9, 2e9], "a b": [1.0, 2.0]})
    assert column(table, "FLOP/(6*N)").tolist() == [1e11, 1e11]
    assert column(table, "`a b` * 2 ** 3").tolist() == [8, 16]
    assert column(table, "N").tolist() == [1e9, 2e9]
    for text in (
        "__import__('os')",
        "N.values",
        "N[0]",
        "[N for N in FLOP]",
        "N if N else 1",
        "M*2",
        "N+",
        "'a'*9",
    ):
        with pytest.raises(Exception, match=r"column|allowed|formula"):
            column(table, text)


def test_the_scatter_of_cells_that_a_fit_found_sends_the_next_runs_to_new_cells():
    rng, cells = np.random.default_rng(5), grid(LEVELS, "1+0*n*d")
    shared = np.exp(rng.normal(0, 0.01, len(cells)))
    table = pd.concat([simulated(cells, rng).assign(seed=seed) for seed in range(3)], ignore_index=True)
    table["y"] *= np.tile(shared, 3)
    law = fit(table, seed="seed", bootstrap=0)
    noise = scatter_of(law)
    assert noise.cell == law.variance.sigma_cell > 0.005
    assert noise.seed == pytest.approx(0.005, rel=0.3)
    read = read_points(table, form_of("chinchilla"), {"n": "n", "d": "d"}, "y", seed="seed")
    fine = grid({"n": np.geomspace(1e7, 1e9, 9), "d": np.geomspace(1e9, 1e11, 5)}, "1+0*n*d")
    choice = next_runs(law, "alpha", fine, runs=read, cost="cost", shrink=0.8, simulations=0)
    assert (choice.runs.loc[choice.runs.made > 0, "more"].sum()) < choice.runs.more.sum() / 2
    assert scatter_of(fit(table[table.seed == 0], bootstrap=0)).cell == 0
