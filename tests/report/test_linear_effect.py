"""Pretrained against random encoders under linear heads, with intervals over draws, seeds, and both."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from geoladder.report.collect import RUN_COLUMNS, collect
from geoladder.report.gates import _transfer_gates
from geoladder.report.linear_effect import linear_effect, linear_errors, mean_interval, two_way_interval

BORN = {"commit": "abc", "dirty": False, "code": "c0de"}


def result(corpus, seed, error):
    """A file of linear heads with `error(n, draw)` as the error of each."""
    points = [
        {
            "n": n,
            "draw": draw,
            "strength": 0.1,
            "metrics": {"rmse": error(n, draw), "r2": 0.5},
            "by_bucket": {},
        }
        for n in (1, 4)
        for draw in range(5)
    ]
    fraction = {"fraction": None if corpus == "random" else "1/4"}
    spec = {
        "corpus": corpus,
        "architecture": "unet",
        "size": "s",
        "task": "roads",
        "mode": "linear",
        "seed": seed,
    }
    return {
        "fingerprint": f"{corpus}-{seed}",
        "spec": spec | fraction | {"n": [1, 4]},
        "provenance": BORN,
        "points": points,
        "parameters": {"total": 500, "encoder": 400, "norm": 10},
    }


@pytest.fixture
def table(tmp_path):
    """results.csv of three seeds: pretraining takes .01 off, a draw moves both arms alike."""
    fingerprints = {}
    for seed in range(3):
        for corpus, gain in (("random", 0.0), ("majortom", 0.01 + 0.001 * (seed - 1))):
            name = f"results/linear/{corpus}/unet-s/seed{seed}/roads.json"
            content = result(corpus, seed, lambda n, draw, gain=gain: 0.2 - gain + 0.05 * draw)
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).write_text(json.dumps(content))
            fingerprints[name] = content["fingerprint"]
    (tmp_path / "ledger.json").write_text(json.dumps(fingerprints))
    collect(tmp_path / "ledger.json", tmp_path / "results.csv", tmp_path)
    return pd.read_csv(tmp_path / "results.csv")


def test_rows_say_draw_mode_and_seed(table):
    rows = table[table.metric == "rmse"]
    assert list(table.columns)[: len(RUN_COLUMNS)] == RUN_COLUMNS
    assert len(rows) == 2 * 3 * 2 * 5
    assert set(rows["mode"]) == {"linear"}
    assert set(rows.draw) == {0, 1, 2, 3, 4}
    assert rows[rows.corpus == "majortom"].fraction.eq(0.25).all()
    assert rows[rows.corpus == "random"].fraction.isna().all()
    assert len(linear_errors(table)) == len(rows)


def test_the_effect_is_paired_by_seed_and_draw(table):
    effect = linear_effect(table)
    assert list(effect.n) == [1, 4]
    for row in effect.to_dict("records"):
        assert (row["corpus"], row["fraction"], row["seeds"], row["draws"]) == ("majortom", 0.25, 3, 5)
        assert row["effect"] == pytest.approx(-0.01)
        assert row["random"] == pytest.approx(0.3)
        assert (row["draws_low"], row["draws_high"]) == pytest.approx((-0.01, -0.01))
        half = stats.t.ppf(0.975, 2) * 0.001 / 3**0.5
        assert (row["seeds_low"], row["seeds_high"]) == pytest.approx((-0.01 - half, -0.01 + half))
        # Only seeds vary here, so the two-way interval is theirs.
        assert (row["low"], row["high"]) == pytest.approx((-0.01 - half, -0.01 + half))


def test_a_study_without_linear_heads_has_an_empty_table(table):
    assert linear_effect(table[table.stage != "linear"]).empty


def test_single_seeds_and_draws_have_no_interval():
    assert np.isnan(mean_interval(np.ones(1))).all()
    assert np.isnan(two_way_interval(np.ones((1, 9)))).all()
    assert np.isnan(two_way_interval(np.ones((9, 1)))).all()


def test_the_two_way_interval_covers_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        shape = (4, 10)
        grid = rng.normal(size=(4, 1)) + 0.7 * rng.normal(size=(1, 10)) + rng.normal(size=shape)
        low, high = two_way_interval(grid)
        covered += low <= 0 <= high
    assert 925 <= covered <= 985


@given(st.integers(0, 1000), st.floats(-3, 3), st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_the_two_way_interval_moves_and_scales_with_its_data(seed, shift, scale):
    grid = np.random.default_rng(seed).normal(size=(3, 6))
    low, high = two_way_interval(grid)
    assert two_way_interval(scale * grid + shift) == pytest.approx(
        (scale * low + shift, scale * high + shift)
    )
    assert two_way_interval(grid.T) == pytest.approx((low, high))


def test_the_gate_of_transfer_wants_the_whole_interval_on_its_side(table):
    def gates(rows):
        named = rows.assign(corpus=rows.corpus.replace("majortom", "oracle"))
        return [gate for gate in _transfer_gates(named) if gate[2] > gate[3]], named

    passed, named = gates(table)
    assert [gate[1] for gate in passed] == ["roads, unet-s, n=1", "roads, unet-s, n=4"]
    assert "rmse 0.2900 against 0.3000: -0.0100 [" in passed[0][4] and "3 seeds, 5 draws" in passed[0][4]
    half = stats.t.ppf(0.975, 2) * 0.001 / 3**0.5
    assert passed[0][2] == pytest.approx(0.01 - half)
    one_seed, _ = gates(table[table.seed == 0])
    assert [gate[2] for gate in one_seed] == pytest.approx([0.009, 0.009])
    worse = named.assign(value=named.value + 0.02 * (named.corpus == "oracle"))
    assert not [gate for gate in _transfer_gates(worse) if gate[2] > gate[3]]
    assert not list(_transfer_gates(table))  # a study without an oracle
