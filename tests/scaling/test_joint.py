"""One law for a whole study: planted laws come back, intervals hold, and what the runs cannot tell is refused."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geoladder.cli import main
from geoladder.scaling import fit, joint
from geoladder.scaling.fit.points import Refusal
from geoladder.scaling.study_law.checks import held_out, shared_exponents

PUBLISHED = Path(__file__).parents[2] / "studies" / "claims" / "published.csv"
TERABYTES = {"globe": 0.5, "fasttom": 2.0, "majortom": 23.0}
GAMMA = {"roads": 0.1, "landcover": 0.1}


def grid(n=(1e7, 5e7, 2e8), d=(0.5, 2.0, 23.0), shots=(50, 500, 5000)):
    columns = {"task": ["roads", "landcover"], "family": ["unet", "vit"], "n": n, "d": d, "shots": shots}
    return pd.DataFrame(list(product(*columns.values())), columns=list(columns))


def noisy(rows, clean, rng, between=0.03, within=0.01):
    checkpoint = rows.groupby(["task", "family", "n", "d"]).ngroup().to_numpy()
    luck = rng.normal(0, between, checkpoint.max() + 1)[checkpoint] + rng.normal(0, within, len(rows))
    return rows.assign(y=clean * np.exp(luck))


def product_of_powers(rows, gamma=GAMMA):
    level = 0.3 * np.where(rows.task == "roads", 1, 1.5) * np.where(rows.family == "vit", 1.2, 1)
    return level * rows.n.pow(-0.05) * rows.d.pow(-0.02) * (rows.shots / 500) ** -rows.task.map(gamma)


def sum_of_powers(rows):
    level = np.where(rows.task == "roads", 1, 1.5) * np.where(rows.family == "vit", 1.2, 1)
    terms = (
        0.1,
        0.05 * (rows.n / 5e7) ** -0.5,
        0.05 * (rows.d / 2) ** -0.6,
        0.1 * (rows.shots / 500) ** -0.7,
    )
    return level * sum(terms)


def test_intervals_hold_the_planted_law_and_a_new_checkpoint():
    rng, rows, target = np.random.default_rng(0), grid(), {"n": 1e9, "d": 100.0, "shots": 100.0}
    one = pd.DataFrame([{"task": "roads", "family": "vit", **target}])
    hits = np.zeros(4)
    for _ in range(40):
        law = joint(noisy(rows, product_of_powers(rows), rng))
        ends = law.to_frame().set_index("parameter")
        expected, truth = law.predict("roads", "vit", **target), product_of_powers(one)[0]
        run = noisy(one, truth, rng).y[0]
        hits += [
            ends.low[name] <= value <= ends.high[name] for name, value in (("alpha", 0.05), ("gamma", 0.1))
        ] + [
            expected.law[0] <= truth <= expected.law[1],
            expected.run[0] <= run <= expected.run[1],
        ]
    assert (hits >= 35).all()
    assert law.checkpoints == 36 and law.sigma_checkpoint > 2 * law.sigma_row


def test_an_additive_law_comes_back_exactly_from_exact_errors():
    rows = grid()
    law = joint(rows.assign(y=sum_of_powers(rows)), "additive")
    values = law.to_frame().set_index("parameter").value
    assert values[["alpha", "beta", "gamma"]].tolist() == pytest.approx([0.5, 0.6, 0.7], rel=1e-4)
    assert values["S[roads,vit]"] == pytest.approx(1.2, rel=1e-5)
    beyond = {"n": 1e9, "d": 100.0, "shots": 5.0}
    truth = sum_of_powers(pd.DataFrame([{"task": "landcover", "family": "unet", **beyond}]))[0]
    assert law.predict("landcover", "unet", **beyond).y == pytest.approx(truth, rel=1e-4)
    assert law.r2 == pytest.approx(1)


def test_exponents_that_differ_are_found_and_only_those():
    rows = grid()
    table = noisy(rows, product_of_powers(rows, {"roads": 0.05, "landcover": 0.12}), np.random.default_rng(1))
    found = shared_exponents(joint(table)).set_index(["exponent", "by"])
    assert found.p["gamma", "task"] < 1e-6
    assert found.p.drop(("gamma", "task")).min() > 0.01
    law = joint(table, apart={"gamma": "task"})
    values = law.to_frame().set_index("parameter").value
    assert values[["gamma[roads]", "gamma[landcover]"]].tolist() == pytest.approx([0.05, 0.12], abs=0.01)


def test_hidden_sizes_shots_and_families_are_predicted_by_the_true_law_and_not_by_a_wrong_one():
    rows = grid()
    table = noisy(rows, sum_of_powers(rows), np.random.default_rng(2), between=0.003, within=0.003)
    cuts = held_out(joint(table)).set_index("hidden")
    assert {"n = 2e+08", "d = 23", "shots = 5e+03", "vit beyond its smallest n"} <= set(cuts.index)
    assert cuts.inside["shots = 5e+03"] < 0.5 and cuts.rmse["shots = 5e+03"] > 0.05
    table = noisy(rows, product_of_powers(rows), np.random.default_rng(3))
    cuts = held_out(joint(table))
    assert cuts.inside.min() > 0.7 and (cuts.reason == "").all()


def test_a_law_through_the_loss_takes_the_loss_of_an_unrun_checkpoint_from_another_law():
    rng, rows = np.random.default_rng(4), grid(n=(1e7, 3e7, 1e8, 3e8), d=(1e9, 1e10, 1e11))
    rows["loss"] = 1.7 + 480 * rows.n**-0.34 + 2100 * rows.d**-0.37
    level = np.where(rows.task == "roads", 0.1, 0.2)
    table = noisy(rows, level * rows.loss**1.5 * (rows.shots / 500) ** -0.1, rng)
    pretrained = rows[(rows.task == "roads") & (rows.family == "unet") & (rows.shots == 50)]
    losses = fit(
        pretrained.assign(y=pretrained.loss * np.exp(rng.normal(0, 0.002, len(pretrained)))), bootstrap=50
    )
    law = joint(table, "through_loss")
    expected = law.predict("roads", "unet", loss_law=losses, n=1e9, d=1e11, shots=50.0)
    loss = 1.7 + 480 * 1e9**-0.34 + 2100 * 1e11**-0.37
    truth = 0.1 * loss**1.5 * 0.1**-0.1
    assert expected.law[0] <= truth <= expected.law[1]
    known = law.predict("roads", "unet", loss=loss, shots=50.0)
    assert np.diff(expected.law) > np.diff(known.law)


def test_what_the_runs_cannot_tell_is_refused():
    rows = grid()
    table = rows.assign(y=product_of_powers(rows))
    one_size = table[(table.n == 5e7) & (table.family == "unet")]
    with pytest.raises(Refusal, match="no two runs tell apart"):
        joint(one_size).predict("roads", "unet", n=1e9, d=2.0, shots=50.0)
    assert joint(one_size).predict("roads", "unet", n=5e7, d=9.0, shots=50.0).y > 0
    with pytest.raises(Refusal, match="no run of mamba on roads; there are: unet, vit"):
        joint(table).predict("roads", "mamba", n=1e9, d=2.0, shots=50.0)
    with pytest.raises(Refusal, match=r"exponents of .* are alpha, beta, gamma"):
        joint(table, apart={"delta": "task"})
    with pytest.raises(Refusal, match="5 rows for 7 parameters"):
        joint(table.iloc[[0, 30, 60, 90, 107]])
    with pytest.raises(Refusal, match="needs a positive n, d, shots"):
        joint(table).predict("roads", "unet", n=1e9, shots=50.0)


def test_the_deferred_cell_of_the_published_charts_has_an_honest_width(tmp_path, capsys):
    table = pd.read_csv(PUBLISHED)
    table["terabytes"] = table.corpus.map(TERABYTES)
    table = table[table.terabytes.notna() & table.architecture.isin(["unet", "vit_upernet"])]
    table.to_csv(tmp_path / "runs.csv", index=False)
    verb = ["joint", str(tmp_path / "runs.csv"), "--n", "size", "--d", "terabytes", "--shots", "n"]
    verb += ["--family", "architecture", "--out", str(tmp_path / "joint.json")]
    cell = "task=landcover family=vit_upernet n=500M d=23 shots=100"
    assert main([*verb, "--apart", "gamma=task", "--at", cell]) == 0
    report = json.loads((tmp_path / "joint.json").read_text())
    (expected,) = report["predictions"]
    assert report["checkpoints"] == 21 and expected["y"] == pytest.approx(0.4257, abs=2e-4)
    assert expected["run"] == pytest.approx([0.360, 0.504], abs=1e-3)
    assert f"{cell}: y = 0.4257" in capsys.readouterr().out
    assert main([*verb, "--exclude", "task != 'landcover'", "--at", cell, "--skip-checks"]) == 0
    alone = json.loads((tmp_path / "joint.json").read_text())["predictions"][0]
    assert alone["dof"] < 4 and alone["run"] == pytest.approx([0.342, 0.670], abs=2e-3)
