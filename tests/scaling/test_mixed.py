"""Runs that share something: variances, intervals and predictions against what was planted."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from geoladder.cli import main
from geoladder.errors import GeoladderError
from geoladder.scaling.fit.fit import fit
from geoladder.scaling.fit.points import Refusal

SIZES, DATA = np.geomspace(1e7, 1e9, 4), np.geomspace(1e9, 3e10, 4)
CHEAP = {"bootstrap": 0, "profile": False}


def law(n, d):
    return 1.7 + 400 * n**-0.34 + 1500 * d**-0.37


def cells(rng, cell=0.006, seed=0.002, seeds=3):
    """4 x 4 cells; all seeds of a cell share a misfit."""
    rng = np.random.default_rng(rng)
    grid = pd.MultiIndex.from_product([SIZES, DATA, range(seeds)], names=["n", "d", "seed"]).to_frame(
        index=False
    )
    shared = np.repeat(rng.normal(0, cell, 16), seeds)
    return grid.assign(y=law(grid.n, grid.d) * np.exp(shared + rng.normal(0, seed, len(grid))))


def checkpoints(rng, memory=0.9, sd=0.005, steps=8):
    """Six runs whose checkpoints remember."""
    rng, parts = np.random.default_rng(rng), []
    for name, n in enumerate(np.geomspace(1e7, 1e9, 6)):
        noise = [rng.normal(0, sd)]
        for _ in range(steps - 1):
            noise.append(memory * noise[-1] + rng.normal(0, sd * np.sqrt(1 - memory**2)))
        d = np.geomspace(1e9, 3e10, steps)
        parts.append(pd.DataFrame({"n": n, "d": d, "name": f"r{name}", "y": law(n, d) * np.exp(noise)}))
    return pd.concat(parts, ignore_index=True)


def test_variances_are_recovered_and_cells_count_as_observations():
    splits = [fit(cells(k, 0.02, 0.01, 4), seed="seed", **CHEAP).variance for k in range(12)]
    assert np.mean([c.sigma_seed for c in splits]) == pytest.approx(0.01, rel=0.1)
    assert np.mean([c.sigma_cell for c in splits]) == pytest.approx(0.02, rel=0.2)
    assert all(c.mixed["alpha"] > 1.3 * c.plain["alpha"] for c in splits)
    assert all((c.level, c.groups) == ("cell", 16) for c in splits)
    assert splits[0].dof["alpha"] == pytest.approx(11, abs=0.01)  # cells less parameters
    assert "16 cells carry the information, not rows" in splits[0].verdict
    assert fit(cells(0, seeds=1), **CHEAP).variance is None


def test_one_way_variances_are_those_of_the_analysis_of_variance():
    table = cells(1)
    fitted = fit(table, seed="seed", **CHEAP)
    logs = np.log(table.y).groupby([table.n, table.d])
    within = float(logs.apply(lambda y: ((y - y.mean()) ** 2).sum()).sum()) / 32
    residuals = logs.mean().to_numpy() - np.log(fitted.predict(n=np.repeat(SIZES, 4), d=np.tile(DATA, 4)))
    between = 3 * float((residuals**2).sum()) / 11
    assert fitted.variance.sigma_seed**2 == pytest.approx(within, rel=1e-3)
    assert fitted.variance.sigma_cell**2 == pytest.approx((between - within) / 3, rel=1e-3)


def test_sizes_that_wobble_within_a_cell_are_whitened_and_agree_with_the_means():
    table = cells(2)
    wobbled = table.assign(n=table.n * (1 + 1e-5 * table.seed))
    means, whitened = (fit(rows, seed="seed", bootstrap=0).intervals["profile"] for rows in (table, wobbled))
    assert whitened["alpha"] == pytest.approx(means["alpha"], rel=1e-2)
    assert whitened["E"] == pytest.approx(means["E"], rel=1e-3)


def test_the_law_of_checkpoints_is_the_generalised_least_squares_fit():
    table = checkpoints(3)
    fitted = fit(table, run="name", **CHEAP)
    split = fitted.variance
    assert (split.level, split.groups) == ("run", 6) and split.memory > 0.5
    lag = np.abs(np.subtract.outer(np.arange(8), np.arange(8)))
    block = split.sigma_run**2 * split.memory**lag + split.sigma_seed**2 * np.eye(8)
    white = np.linalg.inv(np.linalg.cholesky(np.kron(np.eye(6), block)))

    def residuals(p):
        fit_y = np.exp(p[0]) + np.exp(p[1]) * table.n ** -p[3] + np.exp(p[2]) * table.d ** -p[4]
        return white @ (np.log(fit_y) - np.log(table.y))

    start = [*np.log([1.7, 400, 1500]), 0.34, 0.37]
    best = optimize.least_squares(residuals, start, xtol=1e-14, ftol=1e-14, x_scale="jac").x
    assert fitted.params["alpha"] == pytest.approx(best[3], rel=1e-4)
    assert fitted.params["beta"] == pytest.approx(best[4], rel=1e-4)


def test_intervals_of_runs_that_share_something_hold_the_truth_about_as_often_as_they_say():
    held = {"profile": 0, "bootstrap": 0}
    for k in range(16):
        law_of_cells = fit(cells(k), seed="seed", bootstrap=100, rng=k)
        for kind in held:
            low, high = law_of_cells.intervals[kind]["alpha"]
            held[kind] += low <= 0.34 <= high
    assert min(held.values()) >= 13, held
    alone = fit(cells(0).assign(seed=range(48)), bootstrap=0).intervals["profile"]["alpha"]
    together = fit(cells(0), seed="seed", bootstrap=0).intervals["profile"]["alpha"]
    assert together[1] - together[0] > 1.3 * (alone[1] - alone[0])


@pytest.mark.slow
@pytest.mark.parametrize("loss", [{}, {"loss": "huber", "delta": 1e-3}])
def test_intervals_of_checkpoints_hold_the_truth_about_as_often_as_they_say(loss):
    held = 0
    for k in range(20):
        low, high = fit(checkpoints(k), run="name", bootstrap=0, **loss).intervals["profile"]["alpha"]
        held += (low or -np.inf) <= 0.34 <= (high or np.inf)
    assert held >= 16


def test_a_new_seed_a_new_cell_and_a_new_run_differ():
    table = cells(4, 0.02, 0.001)
    fitted = fit(table, seed="seed", bootstrap=200)
    at = {"n": SIZES[:1], "d": DATA[:1]}
    (low,), (high,) = fitted.prediction(of="seed", **at)
    mean = np.exp(np.log(table.y[:3]).mean())
    assert low < mean < high and high / low < 1.02
    (least,), (most,) = fitted.prediction(of="cell", **at)
    assert most / least > 1.05
    assert fitted.prediction(of="run", **at) == fitted.prediction(of="cell", **at)
    with pytest.raises(GeoladderError, match="no cell was run at these sizes"):
        fitted.prediction(of="seed", n=[3e9], d=[3e10])
    runs = fit(checkpoints(5), run="name", bootstrap=50)
    cell, run = (np.ravel(runs.prediction(of=new, n=[1e9], d=[3e10])) for new in ("cell", "run"))
    assert cell[0] > run[0] and cell[1] < run[1]
    with pytest.raises(GeoladderError, match="where seeds repeat"):
        runs.prediction(of="seed", n=[1e9], d=[3e10])


def test_runs_that_contradict_seeds_are_refused_and_unnamed_ones_warned_of(tmp_path, capsys):
    table = checkpoints(0)
    with pytest.raises(Refusal, match=r"name r0 has rows of 2 seeds \(seed 0, 1\)"):
        fit(table.assign(seed=table.index % 2), seed="seed", run="name")
    with pytest.raises(Refusal, match="row 2: name is empty"):
        fit(table.assign(name=table.name.where(table.index != 2)), run="name")
    with pytest.raises(Refusal, match="rows are doubled"):
        fit(pd.concat([table, table[:1]]), run="name")
    silent = fit(table.rename(columns={"name": "run_id"}), **CHEAP).identifiability
    assert silent.verdict == "weak" and "name the column of runs" in silent.reasons[-1]
    by_residuals = fit(checkpoints(0, steps=16), **CHEAP).identifiability
    assert any("residuals of neighbouring d are alike" in reason for reason in by_residuals.reasons)
    file, out = tmp_path / "runs.csv", tmp_path / "fit.json"
    table.to_csv(file, index=False)
    options = [
        "--d",
        "d",
        "--run-col",
        "name",
        "--bootstrap",
        "20",
        "--loss",
        "log_squared",
        "--out",
        str(out),
    ]
    assert main(["fit", str(file), *options]) == 0
    assert "6 runs carry the information, not rows" in capsys.readouterr().out
    assert main(["predict", str(out), "--n", "1e9", "--d", "3e10"]) == 0
    printed = capsys.readouterr().out
    assert "a new cell [" in printed and "a new run [" in printed
