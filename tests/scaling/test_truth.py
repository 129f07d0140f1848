"""Fits of public data reproduce, or beat, what was published."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geoladder.scaling.compute.isoflop import power_line
from geoladder.scaling.fit.fit import Status, fit

TRUTH = Path(__file__).parents[3] / "shared" / "truth"
pytestmark = pytest.mark.skipif(not TRUTH.is_dir(), reason="public scaling data are not beside the project")


@pytest.fixture(scope="module")
def expected():
    return json.loads((TRUTH / "expected.json").read_text())


@pytest.fixture(scope="module")
def epoch():
    table = pd.read_csv(TRUTH / "epoch/chinchilla_svg_extracted.csv")
    table = table.drop(columns=["x", "y"]).rename(columns={"Model Size": "n", "loss": "y"})
    table["d"] = table["Training FLOP"] / (6 * table.n)
    kept = np.sort(np.argsort(table.y.to_numpy())[:-5])
    return table.iloc[kept]


@pytest.fixture(scope="module")
def chinchilla(epoch):
    return fit(epoch, loss="huber", delta=1e-3, bootstrap=4000, rng=42)


def test_chinchilla_point_fit_is_at_the_global_optimum(chinchilla, expected):
    truth = expected["epoch_point_huber"]
    assert chinchilla.status is Status.CONVERGED
    assert chinchilla.n_points == 240
    assert chinchilla.reached > 0.8
    assert chinchilla.objective <= 0.0010182740178 * (1 + 1e-6)
    for name, tolerance in truth["tol_rel"].items():
        if name != "objective":
            assert chinchilla.params[name] == pytest.approx(truth["true_optimum"][name], rel=tolerance)


def test_chinchilla_bootstrap_reaches_every_optimum(chinchilla, expected):
    truth = expected["epoch_bootstrap"]
    assert chinchilla.bootstrap.objective_sum <= truth["sum_of_objectives"] * (1 + 1e-6)
    for name, (low, high) in truth["true_optimum"].items():
        interval = chinchilla.intervals["bootstrap"][name]
        assert interval[0] == pytest.approx(low, rel=0.01 if name == "A" else 0.003)
        assert interval[1] == pytest.approx(high, rel=0.003)


@pytest.mark.parametrize("delta", ["1e-3", "1e-4"])
def test_gemstones_fit_is_not_above_the_published_one(delta):
    table = pd.read_json(TRUTH / "gemstones/data_slim_chinchilla.jsonl", lines=True)
    published = json.loads((TRUTH / f"gemstones/fit_delta{delta}_slim_chinchilla.json").read_text())
    fitted = fit(
        table,
        n="params_active_precise",
        d="tokens",
        y="final_loss",
        loss="huber",
        delta=float(delta),
        bootstrap=0,
        profile=False,
    )
    a, b = published["coefficients"]["0"]
    alpha, beta = published["exponents"]["0"]
    law = (
        np.exp(published["irreducible_error"]["0"])
        + np.exp(a) * table.params_active_precise**-alpha
        + np.exp(b) * table.tokens**-beta
    )
    residual = np.abs(np.log(law) - np.log(table.final_loss))
    step = float(delta)
    theirs = np.where(residual <= step, residual**2 / 2, step * (residual - step / 2)).sum()
    assert fitted.objective <= min(theirs, published["loss"]["0"] * (1 + 1e-6)) * (1 + 1e-7)


def test_over_training_laws_extrapolate_as_published(expected):
    models = pd.read_csv(TRUTH / "gadre/gadre_104_models.csv")
    models = models[models.dataset == "rpj"].assign(y=lambda t: t.loss_c4_val)
    ratio = models.cc_mult * 20
    models["n_tokens"] = models.tokens
    small = ["d=96_l=8_h=4", "d=512_l=8_h=4", "d=576_l=24_h=8", "d=1024_l=24_h=8"]
    first = (models.model.isin(small) & (models.cc_mult == 1)) | (
        (models.model == small[0]) & (models.cc_mult == 16)
    )
    assert first.sum() == 5
    law = fit(models[first], "chinchilla_tied", n="params", d="tokens", loss="squared", bootstrap=0)
    second = first | ((models.model == "open_lm_1b") & (models.cc_mult == 1))
    errors = models[second].assign(loss=law.predict(n=models[second].params, d=models[second].tokens))
    error_law = fit(errors, "error_law", n="loss_c4_val", y="err_avg17", loss="squared", bootstrap=0)
    assert ratio.max() == 640
    published = expected["gadre_redpajama"]["rpj"]["published_rel_err_pct"]
    for name, multiple in (("open_lm_1b M=640", 32), ("open_lm_7b M=20", 1)):
        row = models[(models.model == name.split()[0]) & (models.cc_mult == multiple)].iloc[0]
        loss = float(law.predict(n=[row.params], d=[row.tokens])[0])
        assert 100 * abs(loss / row.y - 1) == pytest.approx(published[f"{name} loss"], abs=0.002)
        error = float(error_law.predict(n=[loss])[0])
        assert 100 * abs(error / row.err_avg17 - 1) == pytest.approx(published[f"{name} err17"], abs=0.002)


def test_broken_law_of_four_digit_addition(expected):
    truth = expected["bnsl_addition"]["published"]
    table = pd.read_csv(TRUTH / "bnsl/four_digit_addition.csv")
    fitted = table[table.split == "fit"]
    law = fit(
        fitted,
        "broken",
        n="train_size",
        y="test_cross_entropy",
        loss="log1p_squared",
        bootstrap=0,
        profile=False,
    )
    assert np.sqrt(law.objective / len(fitted)) <= truth["rmsle_train"] * (1 + 1e-6)
    for name in ("a", "b", "c0", "c1", "d1", "f1"):
        assert law.params[name] == pytest.approx(truth[name], rel=1e-4), name
    rest = table[table.split != "fit"]
    miss = np.log(law.predict(n=rest.train_size)) - np.log(rest.test_cross_entropy)
    assert np.sqrt((miss**2).mean()) == pytest.approx(truth["rmsle_extrapolate"], rel=1e-3)


def test_learning_curve_laws_reach_the_official_estimators():
    curves = pd.read_csv(TRUTH / "revisiting_nsl/benchmark.vision.csv")
    official = pd.read_csv(TRUTH / "revisiting_nsl/official_m1_m4.csv").set_index(["task", "model", "method"])
    bounded = []
    for (task, model), rows in curves.groupby(["Task", "Model"]):
        seen, unseen = rows[rows.Training == 1], rows[rows.Training == 0]

        def miss(form, seen=seen, unseen=unseen, **loss):
            law = fit(seen, form, n="Seen Examples", y="Loss", bootstrap=0, profile=False, **loss)
            gap = np.log(law.predict(n=unseen["Seen Examples"])) - np.log(unseen.Loss)
            return law, float(np.sqrt((gap**2).mean()))

        assert miss("m1")[1] == pytest.approx(official.rmse_log[task, model, "M1"], rel=1e-9)
        # The official M3 searches its knee on a grid; ours is at the optimum, so never above it, and near it.
        theirs = official.loc[(task, model, "M3")]
        x, y = seen["Seen Examples"], seen.Loss
        published = ((theirs.c * np.log(1 / x + theirs.gamma) + np.log(theirs.beta) - np.log(y)) ** 2).sum()
        law, error = miss("m3")
        assert published * (1 - 2e-3) <= law.objective <= published * (1 + 1e-9)
        assert error <= theirs.rmse_log + 1e-9
        bounded.append((miss("m4", loss="huber", delta=1e-3)[1], official.rmse_log[task, model, "M4"]))
    ours, theirs = np.mean(bounded, axis=0)
    assert ours <= theirs


def test_exponents_of_compute_optimal_sizes_are_the_published_ones():
    optima = pd.read_csv(TRUTH / "porian/optimal_pairs.csv")
    published = pd.read_csv(TRUTH / "porian/published_exponents.csv").set_index("exp")
    for name, rows in optima.groupby("exp"):
        assert power_line(rows.flops, rows.n_star).slope == pytest.approx(published.basic[name], rel=1e-9)
        weighted = power_line(rows.flops, rows.n_star, rows.n_star_std_log)
        assert weighted.slope == pytest.approx(published.weighted[name], rel=1e-9)


def test_lines_through_the_best_of_each_bin_are_the_published_ones(expected):
    results = pd.read_csv(TRUTH / "openclip/zeroshot_results.csv")
    results = results[results.upstream_dataset.str.startswith("LAION")]
    for task, metric in (("imagenet1k", "acc1"), ("mscoco_captions", "image_retrieval_recall@5")):
        rows = results[results.downstream_dataset == task]
        log_x = np.log10(rows.gmacs_total)
        edges = np.linspace(log_x.min(), log_x.max() + 0.1, 6)
        best = (1 - rows[metric]).groupby(np.digitize(log_x, edges) - 1).min()
        centres = (edges[:-1] + edges[1:]) / 2
        line = power_line(10 ** centres[best.index], best)
        assert line.slope == pytest.approx(expected["openclip"][task]["slope"], rel=1e-6)
        assert line.coefficient == pytest.approx(expected["openclip"][task]["coef"], rel=1e-6)
