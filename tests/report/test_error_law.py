"""Correlations of loss and downstream error, and their figure."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from geoladder.errors import GeoladderError
from geoladder.report import error_law as module
from geoladder.report.error_law import error_law, rank_correlation
from geoladder.report.figures.error_law import draw_error_law
from geoladder.report.figures.linear import draw_linear
from geoladder.study.analysis import Figures

SIZES = {"xs": 1e4, "s": 4e4, "m": 1.6e5}


def planted(slope):
    """results.csv of twelve cells whose error is `slope` times their loss, on three draws, and random encoders."""
    rng = np.random.default_rng(3)
    rows = []
    for size, parameters in SIZES.items():
        for seed in range(4):
            loss = 0.1 * (parameters / 1e4) ** -0.1 * (1 + 0.1 * rng.random())
            cell = {"architecture": "unet", "size": size, "seed": seed, "bucket": "all", "fraction": 1.0}
            cell |= {"parameters_total": parameters, "unique_pixels": 1e6, "fingerprint": f"{size}{seed}"}
            pretrain = {"stage": "pretrain", "corpus": "majortom", "metric": "val_masked_mse", "value": loss}
            rows.append(cell | pretrain)
            for draw in range(3):
                head = {"stage": "linear", "task": "roads", "metric": "rmse", "draw": draw, "n": 4}
                noise = 1e-4 * rng.standard_normal()
                rows.append(cell | head | {"corpus": "majortom", "value": 0.2 + slope * loss + noise})
                rows.append(cell | head | {"corpus": "random", "value": 0.3})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("slope", "verdict"), [(1, "error follows loss"), (-1, "error runs against loss")])
def test_a_planted_relation_is_seen_with_its_sign(slope, verdict):
    (row,) = error_law(planted(slope)).itertuples()
    assert (row.task, row.architecture, row.n, row.cells, row.verdict) == ("roads", "unet", 4, 12, verdict)
    assert slope * row.correlation > 0.9
    assert -1 < row.low < row.high < 1


def test_intervals_hold_what_they_say():
    """Bonett and Wright's interval covers the rank correlation of a normal pair, 6 / pi asin(rho / 2)."""
    rng = np.random.default_rng(0)
    rho = 0.6
    true = 6 / np.pi * np.arcsin(rho / 2)
    pairs = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], (400, 17))
    intervals = np.array([rank_correlation(*pair.T) for pair in pairs])
    cover = ((intervals[:, 1] <= true) & (true <= intervals[:, 2])).mean()
    assert 0.91 <= cover <= 0.98
    assert intervals[0, 0] == stats.spearmanr(*pairs[0].T).statistic


@pytest.mark.parametrize("x", [[1.0, 2, 3], [1.0] * 8])
def test_few_cells_or_equal_losses_decide_nothing(x):
    assert np.isnan(rank_correlation(np.array(x), np.arange(len(x), dtype=float))).all()
    assert module._verdict(np.nan, np.nan) == "too few cells"


def test_the_figure_has_every_cell(tmp_path):
    planted(1).to_csv(tmp_path / "results.csv", index=False)
    draw_error_law(tmp_path / "results.csv", Figures(), tmp_path / "figure.pdf")
    assert len(pd.read_csv(tmp_path / "figure.csv")) == 12
    assert (tmp_path / "figure.png").stat().st_size > 1e4


@pytest.mark.parametrize(
    ("draw", "without"),
    [
        (draw_error_law, "linear"),
        (draw_error_law, "pretrain"),
        (lambda results, *others: draw_linear(results, "majortom", *others), "linear"),
    ],
)
def test_results_without_linear_heads_are_named(tmp_path, draw, without):
    table = planted(1)
    table[table.stage != without].to_csv(tmp_path / "results.csv", index=False)
    with pytest.raises(GeoladderError, match=r"results\.csv has no .*linear heads; give"):
        draw(tmp_path / "results.csv", Figures(), tmp_path / "figure.pdf")
    assert not (tmp_path / "figure.pdf").exists()
