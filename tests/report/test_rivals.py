"""Points of curves beside predictors that need no network."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from geoladder.report.figures.scaling import draw_scaling
from geoladder.report.rivals import PREDICTORS, marked, rivals
from geoladder.report.tables import write_tables
from geoladder.study.analysis import Figures

ARM = "task == 'roads' and corpus == '{}' and architecture == '{}'"


@pytest.fixture
def tables(table, laws, tmp_path):
    write_tables(table, laws, tmp_path / "tables")
    return {name: pd.read_csv(tmp_path / f"tables/{name}.csv") for name in ("curves", "pretraining_effect")}


def test_every_predictor_has_an_error_on_every_subset(table):
    rows = rivals(pd.read_csv(table))
    assert set(rows.predictor) == set(PREDICTORS)
    assert len(rows) == 4 * 2 * 3 * 4
    linear = rows[(rows.predictor == "linear") & (rows.n == 16)].y
    assert linear.to_numpy() == pytest.approx(0.85)


def test_points_that_a_predictor_beats_say_so(tables):
    marks = tables["curves"].fillna({"worse_than": ""}).set_index("n")
    scratch = marks.query(ARM.format("scratch", "unet")).worse_than
    # skill of scratch: .14, .18, .24 (mean of three seeds)
    assert scratch.to_dict() == {4: "linear", 16: "", 64: ""}
    pixel = marks.query(ARM.format("scratch", "pixel")).worse_than
    assert pixel.to_dict() == {4: "linear", 16: "linear", 64: ""}
    assert tables["pretraining_effect"].worse_than.isna().all()


def test_intervals_over_seeds_and_over_test_tiles(tables):
    points = tables["curves"].query(ARM.format("scratch", "unet"))
    half = stats.t.ppf(0.975, 2) * 0.01 / np.sqrt(3)
    assert (points.high - points["mean"]).to_numpy() == pytest.approx(half)
    assert (points["mean"] - points.low).to_numpy() == pytest.approx(half)
    assert (points.tile_low - points["mean"]).to_numpy() == pytest.approx(-0.3)
    assert (points.tile_high - points["mean"]).to_numpy() == pytest.approx(0.1)


def test_rows_of_results_have_intervals_and_classes(table):
    rows = pd.read_csv(table)
    one = rows[(rows.fingerprint == "fine-scratch-unet-landcover-0-4") & (rows.bucket == "all")].set_index(
        "metric"
    )
    assert one.high["error"] - one.value["error"] == pytest.approx(0.1)
    assert one.value["iou_tree"] == 0.4
    assert rows[rows.bucket == "japan"].low.isna().all()


def test_figures_cross_out_such_points_and_say_what_it_means(table, laws, tmp_path):
    draw_scaling(table, laws, Figures(), tmp_path / "scaling.pdf")
    drawn = pd.read_csv(tmp_path / "scaling.csv").query("kind == 'curve' and panel == 'roads against n'")
    assert set(drawn.architecture) == {"unet", "pixel", "mean", "linear", "boosted"}
    assert drawn[drawn.worse_than.notna()].groupby("architecture").x.agg(list).to_dict() == {
        "pixel": [4, 16],
        "unet": [4],
    }
    assert (drawn.query("architecture == 'linear'").y - 0.85).abs().max() < 1e-9


def test_only_subsets_of_both_are_compared():
    """The predictor is better on the draws it shares; a hard draw it never saw counts for neither."""
    trivial = pd.DataFrame({"stage": "trivial", "bucket": "all", "task": "roads", "n": 4, "metric": "linear_rmse",
                            "seed": [0, 1, 7], "value": [0.1, 0.1, 0.9]})  # fmt: skip
    errors = pd.DataFrame({"task": "roads", "corpus": "c", "n": 4, "seed": [0, 1, 2], "y": [0.2, 0.1, 0.01]})
    point = ["task", "corpus", "n"]
    rows = errors[point].drop_duplicates()
    assert marked(rows, errors, trivial, point).worse_than.tolist() == ["linear"]
    assert marked(rows, errors.assign(y=0.05), trivial, point).worse_than.tolist() == [""]
    assert marked(rows[:0], errors, trivial, point).worse_than.tolist() == []
