"""The command line on any CSV: what it writes, what it prints, what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest

from geoladder.cli import main


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(1)
    grid = pd.MultiIndex.from_product(
        [np.geomspace(1e6, 1e9, 5), np.geomspace(1e8, 1e11, 5), [0, 1]], names=["params", "tokens", "seed"]
    ).to_frame(index=False)
    clean = 1.7 + 400 * grid.params**-0.34 + 1500 * grid.tokens**-0.36
    grid["loss"] = clean * np.exp(rng.normal(0, 0.003, len(grid)))
    grid["family"] = np.where(grid.index % 4 < 2, "a", "b")
    file = tmp_path / "runs.csv"
    grid.to_csv(file, index=False)
    return file


COLUMNS = ["--n", "params", "--d", "tokens", "--y", "loss"]


def test_fit_writes_what_it_promises_and_says_it_shortly(runs, tmp_path, capsys):
    out = tmp_path / "fit.json"
    options = [*COLUMNS, "--seed-col", "seed", "--loss", "huber", "--delta", "1e-3", "--bootstrap", "100"]
    assert main(["fit", str(runs), *options, "--rng", "42", "--exclude", "loss > 8", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["form"] == "chinchilla" and report["status"] == "converged"
    assert report["params"]["alpha"] == pytest.approx(0.34, abs=0.02)
    for kind in ("profile", "bootstrap"):
        low, high = report["intervals"][kind]["alpha"]
        assert low < 0.34 < high
    assert report["identifiability"] | {"condition": 0} == {
        "verdict": "identified",
        "reasons": [],
        "levels": {"n": 5, "d": 5},
        "rank": 5,
        "condition": 0,
    }
    assert report["n_points"] + len(report["excluded"]) == 50
    assert all(row["reason"] == "loss > 8" for row in report["excluded"])
    assert report["minima"] == [] and report["bootstrap"]["kind"] == "cell"
    assert len(report["provenance"]["sha256"]) == 64
    assert report["provenance"]["settings"]["rng"] == 42
    printed = capsys.readouterr().out
    assert "y = E + A n^-alpha + B d^-beta" in printed and "converged; identified" in printed
    assert len(printed.splitlines()) <= 10


def test_predict_and_frontier_read_the_fit(runs, tmp_path, capsys):
    fit = tmp_path / "fit.json"
    assert (
        main(["fit", str(runs), *COLUMNS, "--loss", "log_squared", "--bootstrap", "50", "--out", str(fit)])
        == 0
    )
    capsys.readouterr()
    assert main(["predict", str(fit), "--n", "1e10", "--d", "1e11"]) == 0
    line = capsys.readouterr().out
    value = float(line.split()[2].rstrip(";"))
    assert value == pytest.approx(1.7 + 400 * 1e10**-0.34 + 1500 * 1e11**-0.36, rel=0.01)
    assert "a new run [" in line and "1.0 decades outside" in line
    out = tmp_path / "frontier.json"
    assert main(["frontier", str(fit), "--flops", "1e19", "1e30", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "n and d outside the sizes fitted" in printed and "N* grows as C^0.5" in printed
    best = json.loads(out.read_text())["allocations"][0]
    assert best["n"]["value"] * best["d"]["value"] * 6 == pytest.approx(1e19)
    assert main(["predict", str(fit), "--n", "1e10"]) == 1
    assert "needs --n and --d" in capsys.readouterr().err


def test_isoflop_says_the_best_size_of_each_budget_and_its_growth(tmp_path, capsys):
    rng = np.random.default_rng(3)
    table = pd.DataFrame(
        {"c": c, "params": n, "loss": 2 + 0.03 * np.log(n / c**0.5) ** 2 + rng.normal(0, 1e-4)}
        for c in (1e12, 1e13, 1e14)
        for n in c**0.5 * np.array([0.1, 0.4, 1, 3, 9])
    )
    file, out = tmp_path / "runs.csv", tmp_path / "isoflop.json"
    table.to_csv(file, index=False)
    options = ["--flops", "c", "--n", "params", "--y", "loss", "--out", str(out)]
    assert main(["isoflop", str(file), *options]) == 0
    printed = capsys.readouterr().out
    assert "C = 1e+12: N = " in printed and "of 5 runs" in printed and "C^0.5" in printed
    curves = json.loads(out.read_text())
    for minimum in curves["minima"]:
        assert minimum["low"] < minimum["n"] < minimum["high"]
        assert minimum["n"] == pytest.approx(minimum["flops"] ** 0.5, rel=0.02)
    assert curves["line"]["slope"] == pytest.approx(0.5, abs=0.01)
    assert len(curves["provenance"]["sha256"]) == 64
    assert main(["isoflop", str(file), "--n", "params", "--y", "loss"]) == 1
    assert "no column flops (did you mean 'loss'?); there are: c, params, loss" in capsys.readouterr().err


def test_compare_names_the_law_and_tests_it(runs, tmp_path, capsys):
    out = tmp_path / "compare.json"
    options = [*COLUMNS, "--seed-col", "seed", "--bootstrap", "50", "--by", "family", "--out", str(out)]
    assert main(["compare", str(runs), *options]) == 0
    report = json.loads(out.read_text())
    assert report["laws"][0]["form"] == "chinchilla"
    assert {t["direction"] for t in report["trends"]} == {"falls"}
    assert len(report["held_out"]["n"]["runs"]) == 10
    assert report["shared_exponents"]["p"] > 0.001
    assert "chinchilla is best by at least 2 units" in capsys.readouterr().out
    assert main(["compare", str(runs), *COLUMNS, "--loss", "huber"]) == 1
    assert "log_squared" in capsys.readouterr().err


def test_two_sizes_are_refused_without_a_number_that_looks_like_an_answer(runs, tmp_path, capsys):
    table = pd.read_csv(runs)
    table[table.params < 1e7].to_csv(runs, index=False)
    out = tmp_path / "fit.json"
    assert main(["fit", str(runs), *COLUMNS, "--bootstrap", "50", "--out", str(out)]) == 1
    report = json.loads(out.read_text())
    assert report["status"] == "not_identified"
    assert report["identifiability"]["verdict"] == "not_identified"
    assert "n takes 2 distinct values" in report["identifiability"]["reasons"][0]
    assert set(report["params"].values()) == {None} and report["objective"] is None
    assert all(ends == [None, None] for kind in report["intervals"].values() for ends in kind.values())
    assert report["reduced"]["form"] == "product"
    printed = capsys.readouterr()
    assert "add runs at another n" in printed.out and "was not fitted" in printed.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n", "size", "--d", "tokens", "--y", "loss"], "no column size"),
        ([*COLUMNS, "--form", "cubic"], "unknown law 'cubic'"),
        ([*COLUMNS, "--loss", "absolute"], "unknown loss"),
        ([*COLUMNS, "--fix", "E"], "write NAME=VALUE"),
        ([*COLUMNS, "--fix", "G=1"], "no parameter 'G'"),
        ([*COLUMNS, "--exclude", "loss >"], "cannot be evaluated"),
        ([*COLUMNS, "--exclude", "loss > 0"], "points for the 5 parameters"),
        ([*COLUMNS, "--bootstrap", "-1"], "resamples are 0 or more"),
        (["--n", "params", "--y", "loss"], "needs a column for d"),
    ],
)
def test_bad_options_end_in_one_line_and_no_file(runs, tmp_path, capsys, options, message):
    out = tmp_path / "fit.json"
    assert main(["fit", str(runs), *options, "--out", str(out)]) == 1
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed
    assert not out.exists()


def test_files_that_are_no_tables_are_named(tmp_path, capsys):
    assert main(["fit", str(tmp_path / "none.csv"), "--out", str(tmp_path / "fit.json")]) == 1
    assert "no table of runs at" in capsys.readouterr().err
    (tmp_path / "empty.csv").write_text("")
    assert main(["fit", str(tmp_path / "empty.csv"), "--out", str(tmp_path / "fit.json")]) == 1
    assert "empty.csv is empty" in capsys.readouterr().err
    assert main(["predict", str(tmp_path / "none.json"), "--n", "1"]) == 1
    assert "cannot be read as a fit" in capsys.readouterr().err
