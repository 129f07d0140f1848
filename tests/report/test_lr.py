"""Best learning rates from a sweep: planted optima are found, edges and divergence are told."""

import numpy as np
import pandas as pd
import pytest

from geoladder.cli import main
from geoladder.errors import GeoladderError
from geoladder.registry import ARCHITECTURES
from geoladder.registry.ladder import rung
from geoladder.report.best_rates import best_rates, swept_losses

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


def results(best, loss=lambda distance: 0.5 + 0.02 * distance**2, seeds=(0, 1)):
    """A sweep's results.csv: `best` is the planted base rate by (architecture, size)."""
    rows = []
    for (architecture, size), rate in best.items():
        scale = ARCHITECTURES[architecture].base_width / rung(architecture, size).width
        for factor in FACTORS:
            for seed in seeds:
                base = 0.01 * factor
                value = loss(np.log2(base / rate)) + 0.001 * (seed - 0.5)
                rows.append((architecture, size, "sweep", base * scale, seed, "val_loss", value))
    return pd.DataFrame(rows, columns=["architecture", "size", "stage", "lr", "seed", "metric", "value"])


def test_planted_optima_are_found_and_compared_at_the_base_width():
    planted = {("unet", "xs"): 0.008, ("unet", "s"): 0.011, ("unet", "m"): 0.0125, ("vit_upernet", "s"): 0.02}
    table = best_rates(swept_losses(results(planted))).set_index(["architecture", "size"])
    for name, rate in planted.items():
        assert table.loc[name, "best_base_lr"] == pytest.approx(rate, rel=1e-9)
    assert table.loc[("unet", "xs"), "ratio"] == pytest.approx(12.5 / 8)
    assert set(table["verdict"]) == {"stays"} and not table["at_edge"].any()
    assert (
        (table["best_low"] <= table["best_base_lr"]) & (table["best_base_lr"] <= table["best_high"])
    ).all()


@pytest.mark.parametrize("lowest", [-1, 0, 1])
def test_on_a_plateau_chance_does_not_decide(lowest):
    """Three of five rates are as good as one another but for 1 %; the middle of the valley is the best rate."""

    def valley(distance):
        return 0.5 + 0.1 * (abs(distance) > 1.5) - 0.005 * (round(distance) == lowest)

    table = best_rates(swept_losses(results({("unet", "s"): 0.01}, valley)))
    assert table["best_base_lr"][0] == pytest.approx(0.01, rel=0.1)


def test_an_optimum_that_moves_is_told():
    table = best_rates(swept_losses(results({("unet", "xs"): 0.005, ("unet", "m"): 0.015})))
    assert set(table["verdict"]) == {"moves"}


def test_what_one_rate_for_all_costs():
    table = best_rates(swept_losses(results({("unet", "xs"): 0.005, ("unet", "m"): 0.02}))).set_index("size")
    assert table["shared_lr"].tolist() == pytest.approx([0.01] * 2)
    assert table["regret"].tolist() == pytest.approx([0.02 / 0.5] * 2, rel=0.01)


def test_a_flat_valley_decides_nothing():
    rng = np.random.default_rng(0)
    noisy = results(
        {("unet", "s"): 0.01, ("unet", "m"): 0.01}, lambda _: 0.5 + 0.01 * rng.normal(), seeds=range(4)
    )
    table = best_rates(swept_losses(noisy))
    assert set(table["verdict"]) == {"undecided"}
    assert (table["ratio_high"] > 2).all()


def test_one_seed_gives_no_interval():
    table = best_rates(swept_losses(results({("unet", "s"): 0.01, ("unet", "m"): 0.01}, seeds=(0,))))
    assert table[["best_low", "ratio_high"]].isna().all(axis=None)
    assert set(table["verdict"]) == {"undecided"}


def test_a_minimum_at_the_edge_is_not_trusted():
    table = best_rates(swept_losses(results({("unet", "xs"): 0.09, ("unet", "m"): 0.01}))).set_index("size")
    assert table.loc["xs", "at_edge"] and table.loc["xs", "best_base_lr"] == pytest.approx(0.04)
    assert set(table["verdict"]) == {"moves"}


def test_rates_that_diverged_do_not_count():
    def loss(distance):
        return np.nan if distance > 0.6 else 0.5 + 0.02 * distance**2

    table = best_rates(swept_losses(results({("unet", "s"): 0.01}, loss)))
    assert table["best_base_lr"].item() == pytest.approx(0.01)
    assert table["at_edge"].item()


def test_no_sweep_in_the_table():
    table = results({("unet", "s"): 0.01}).assign(stage="pretrain")
    with pytest.raises(GeoladderError, match=r"studies/lr\.yaml"):
        swept_losses(table)


def test_the_figure_has_its_numbers_beside_it(tmp_path):
    planted = {("unet", size): 0.01 for size in ("xs", "s", "m")} | {("mamba_upernet", "s"): 0.02}
    results(planted).to_csv(tmp_path / "results.csv", index=False)
    paths = {
        "results": tmp_path / "results.csv",
        "table": tmp_path / "lr_table.csv",
        "out": tmp_path / "lr.pdf",
    }
    assert (
        main(["figure-lr", *(word for name, path in paths.items() for word in (f"--{name}", str(path)))]) == 0
    )
    assert (tmp_path / "lr.pdf").read_bytes().startswith(b"%PDF") and (
        tmp_path / "lr.png"
    ).stat().st_size > 10_000
    assert len(pd.read_csv(tmp_path / "lr.csv")) == len(planted) * len(FACTORS) * 2
    assert len(pd.read_csv(tmp_path / "lr_table.csv")) == len(planted)
