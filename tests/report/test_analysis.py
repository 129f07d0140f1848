"""From result files to tables and figures, on planted results."""

import json

import numpy as np
import pandas as pd
import pytest

from geoladder.errors import GeoladderError
from geoladder.report.collect import collect
from geoladder.report.curves import EFFECT, curves, pretraining_effect
from geoladder.report.figures.gates import draw_gates
from geoladder.report.figures.scaling import draw_scaling
from geoladder.report.gates import write_gates
from geoladder.report.laws import fit_laws
from geoladder.report.tables import write_tables
from geoladder.study.analysis import Figures, Fit
from geoladder.study.downstream import Gates


def test_every_metric_of_every_run_is_a_row(results, table):
    _, ledger = results
    rows = pd.read_csv(table)
    assert set(rows.fingerprint) == set(json.loads(ledger.read_text()).values())
    one = rows[(rows.fingerprint == "pre-majortom-xs-1/4-1") & (rows.metric == "val_masked_mse")].iloc[0]
    assert one.fraction == 0.25
    assert one.parameters_no_norm == 9900
    assert one.older_code
    assert one.seed == 1
    buckets = rows[rows.fingerprint == "fine-scratch-unet-roads-0-4"].bucket
    assert sorted(set(buckets)) == ["all", "japan"]


def test_values_are_not_rounded(results, table):
    root, _ = results
    file = root / "results/pretrain/majortom@1-16/unet-m/seed1/metrics.json"
    exact = json.loads(file.read_text())["metrics"]["val_masked_mse"]
    rows = pd.read_csv(table)
    assert exact in set(rows.value)


def test_stale_results_are_refused_with_the_command_that_mends_them(results):
    root, ledger = results
    file = "results/pretrain/majortom/unet-s/seed0/metrics.json"
    expected = json.loads(ledger.read_text()) | {file: "another"}
    ledger.write_text(json.dumps(expected))
    with pytest.raises(GeoladderError, match=f"--forcerun {file}"):
        collect(ledger, root / "results.csv", root)
    assert not (root / "results.csv").exists()


def test_missing_results_are_named(results):
    root, ledger = results
    (root / "results/trivial/roads/seed0.json").unlink()
    with pytest.raises(GeoladderError, match=r"results/trivial/roads/seed0\.json"):
        collect(ledger, root / "results.csv", root)


def test_laws_are_fitted_to_the_nested_corpus_alone(laws):
    entry = json.loads(laws.read_text())["pretraining"]["unet"]
    assert entry["runs"] == 18
    assert len(entry["used"]) == 18
    assert [run["fingerprint"] for run in entry["left_out"]] == ["pre-globe-s-1-0"]
    assert entry["law"]["params"]["alpha"] == pytest.approx(0.4, abs=0.05)
    assert entry["law"]["params"]["beta"] == pytest.approx(0.4, abs=0.05)
    curve = next(c for c in json.loads(laws.read_text())["curves"] if c["task"] == "roads")
    assert curve["metric"] == "rmse"


def test_the_gates_own_runs_are_no_points_of_the_curves(table, laws):
    for curve in json.loads(laws.read_text())["curves"]:
        assert curve["law"]["n_points"] == 3
    assert set(curves(pd.read_csv(table)).n) == {4, 16, 64}


def test_two_data_sizes_give_no_exponent_even_if_each_seed_draws_other_cells(results, tmp_path):
    root, ledger = results
    expected = json.loads(ledger.read_text())
    kept = {file: mark for file, mark in expected.items() if "@1-16" not in file}
    for place, file in enumerate(f for f in kept if "@1-4" in f):
        content = json.loads((root / file).read_text())
        content["unique_pixels"] += 1024 * place
        (root / file).write_text(json.dumps(content))
    ledger.write_text(json.dumps(kept))
    collect(ledger, root / "results.csv", root)
    fit_laws(root / "results.csv", Fit(bootstrap=0), "majortom", tmp_path / "laws.json")
    law = json.loads((tmp_path / "laws.json").read_text())["pretraining"]["unet"]["law"]
    assert law["status"] == "not_identified"
    assert law["identifiability"]["levels"] == {"n": 3, "d": 2}


def test_damaged_results_are_named(results):
    root, ledger = results
    file = root / "results/trivial/roads/seed0.json"
    for content, words in (
        ('{"fing', "no readable result"),
        ("{}", "lacks fingerprint"),
        ("3", "no readable"),
    ):
        file.write_text(content)
        with pytest.raises(GeoladderError, match=rf"seed0\.json.*{words}"):
            collect(ledger, root / "results.csv", root)


def test_a_cell_run_once_is_judged_by_the_seed_spread_of_its_architecture(results):
    root, ledger = results
    expected = json.loads(ledger.read_text())
    single = {f: m for f, m in expected.items() if not ("seed1" in f and "unet-m" in f and "pretrain" in f)}
    ledger.write_text(json.dumps(single))
    collect(ledger, root / "results.csv", root)
    gates = gates_of(root / "results.csv").query("subject == 'unet, size m'").set_index("gate")
    losses = [
        json.loads((root / f"results/pretrain/majortom@1-{share}/unet-m/seed0/metrics.json").read_text())[
            "metrics"
        ]["val_masked_mse"]
        for share in (16, 4)
    ]
    relative = np.log(1.001) / np.sqrt(2)
    assert gates.threshold["loss falls with data"] == pytest.approx(relative * losses[0], rel=1e-3)
    assert gates.threshold["no step back in data"].to_numpy() == pytest.approx(
        [-relative * loss for loss in losses], rel=1e-3
    )
    ledger.write_text(json.dumps({f: m for f, m in expected.items() if "seed1" not in f or "fine" in f}))
    collect(ledger, root / "results.csv", root)
    gates = gates_of(root / "results.csv")
    assert not gates[gates.gate.str.contains("loss|step")].passed.any()  # nothing repeated, nothing shown


def test_a_study_without_pretrained_arms_has_tables_with_columns(results, tmp_path):
    root, ledger = results
    expected = json.loads(ledger.read_text())
    ledger.write_text(
        json.dumps({f: m for f, m in expected.items() if not f.startswith("results/finetune/maj")})
    )
    collect(ledger, root / "results.csv", root)
    fit_laws(root / "results.csv", Fit(bootstrap=10), "majortom", tmp_path / "laws.json")
    write_tables(root / "results.csv", tmp_path / "laws.json", tmp_path / "tables")
    assert list(pd.read_csv(tmp_path / "tables/pretraining_effect.csv")) == [*EFFECT, "worse_than"]
    draw_scaling(root / "results.csv", tmp_path / "laws.json", Figures(), tmp_path / "scaling.pdf")


def test_the_effect_of_pretraining_is_paired_by_seed(table):
    effect = pretraining_effect(pd.read_csv(table))
    assert len(effect) == 2 * 3
    assert effect.seeds.eq(3).all()
    assert effect.effect.to_numpy() == pytest.approx(
        -0.05
    )  # every seed gains .05, whatever the seed's own level
    assert (effect.high - effect.low).to_numpy() == pytest.approx(0.0, abs=1e-9)


def test_a_run_that_diverged_is_left_out_of_the_effect(table):
    results = pd.read_csv(table)
    diverged = results.fingerprint.eq("fine-majortom-unet-roads-1-16") & results.bucket.eq("all")
    results.loc[diverged, "value"] = np.nan
    effect = pretraining_effect(results).set_index(["task", "n"])
    assert effect.seeds.to_dict() == dict.fromkeys(effect.index, 3) | {("roads", 16): 2}
    assert effect.effect.to_numpy() == pytest.approx(-0.05)


def gates_of(table, **settings):
    out = table.with_name("gates.csv")
    write_gates(table, Gates(size="s", n=256, seeds=[0, 1, 2], **settings), "majortom", out)
    return pd.read_csv(out)


def test_gates_pass_on_a_world_that_has_what_they_ask(table):
    gates = gates_of(table)
    assert gates.passed.all()
    assert set(gates.gate) == {
        "context beats pixels",
        "curve beats mean",
        "loss falls with data",
        "loss falls with size",
        "no step back in data",
        "no step back in size",
    }
    context = gates[gates.gate == "context beats pixels"]
    assert context.value.to_numpy() == pytest.approx(0.08)


def test_each_gate_can_fail(results):
    root, ledger = results
    for flat in root.glob("results/pretrain/majortom/unet-m/seed*/metrics.json"):
        content = json.loads(flat.read_text())
        content["metrics"]["val_masked_mse"] = 0.9
        flat.write_text(json.dumps(content))
    for n in (64, 256):
        stage = "gates" if n == 256 else "finetune"
        poor = root / f"results/{stage}/scratch/unet-s/roads/seed1/n{n}.json"
        content = json.loads(poor.read_text())
        content["metrics"]["r2"] = -0.5
        poor.write_text(json.dumps(content))
    collect(ledger, root / "results.csv", root)
    gates = gates_of(root / "results.csv")
    failed = gates[~gates.passed]
    assert set(failed.gate) == {
        "context beats pixels",
        "curve beats mean",
        "loss falls with data",
        "loss falls with size",
        "no step back in data",
        "no step back in size",
    }
    assert "roads" in set(failed[failed.gate == "context beats pixels"].subject)


def test_tables_hold_means_over_seeds(table, laws, tmp_path):
    write_tables(table, laws, tmp_path / "tables")
    cells = pd.read_csv(tmp_path / "tables/cells.csv")
    assert cells.set_index(["corpus", "fraction", "size"]).loc[("majortom", 1.0, "xs"), "seeds"] == 2
    for name in ("curves", "laws", "pretraining_effect", "external"):
        assert (tmp_path / f"tables/{name}.csv").exists()
        assert "tabular" in (tmp_path / f"tables/{name}.tex").read_text()


def test_figures_come_as_pdf_png_and_numbers_and_repeat_to_the_byte(table, laws, tmp_path):
    for folder in ("one", "two"):
        draw_scaling(table, laws, Figures(), tmp_path / folder / "scaling.pdf")
    for suffix in ("pdf", "csv"):
        first, second = ((tmp_path / folder / f"scaling.{suffix}").read_bytes() for folder in ("one", "two"))
        assert first == second
    numbers = pd.read_csv(tmp_path / "one/scaling.csv")
    assert set(numbers.kind) == {"law", "run", "curve"}
    assert (tmp_path / "one/scaling.png").stat().st_size > 10_000
    gates_of(table)
    draw_gates(table.with_name("gates.csv"), table, Figures(), tmp_path / "gates.pdf")
    assert (tmp_path / "gates.png").stat().st_size > 10_000


def drawn_with_worse_arms(results, arms, folder):
    """Points at n = 4 of a figure with other arms of U-Net, by folder: what their specs change, how much worse."""
    root, ledger = results
    expected = json.loads(ledger.read_text())
    for old in [f for f in expected if f.startswith("results/finetune/majortom/unet-s/")]:
        for name, (changes, worse) in arms.items():
            content = json.loads((root / old).read_text())
            content["spec"] |= changes
            content["metrics"] = {metric: value + worse for metric, value in content["metrics"].items()}
            content["fingerprint"] = f"{name}{old}"
            new = root / old.replace("majortom/unet-s", name)
            new.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(content))
            expected[new.relative_to(root).as_posix()] = content["fingerprint"]
    ledger.write_text(json.dumps(expected))
    collect(ledger, root / "results.csv", root)
    fit_laws(root / "results.csv", Fit(bootstrap=0), "majortom", root / "laws.json")
    draw_scaling(root / "results.csv", root / "laws.json", Figures(), folder / "scaling.pdf")
    return pd.read_csv(folder / "scaling.csv").query("kind == 'curve' and x == 4 and architecture == 'unet'")


def test_sizes_and_corpora_are_lines_of_their_own_and_never_averaged(results, tmp_path):
    arms = {
        "majortom/unet-m": ({"corpus": "majortom", "size": "m"}, 0.5),
        "globe/unet-s": ({"corpus": "globe", "size": "s"}, 0.25),
    }
    numbers = drawn_with_worse_arms(results, arms, tmp_path)
    at = numbers.set_index(["panel", "line"]).y
    small = at["roads against n, size s", "majortom"]
    assert at["roads against n, size m", "majortom"] == pytest.approx(small + 0.5)
    assert at["roads against n, size s", "globe"] == pytest.approx(small + 0.25)
    assert (numbers.seeds == 3).all()


def test_an_architecture_with_few_runs_is_drawn_without_a_law(results, tmp_path):
    root, ledger = results
    expected = json.loads(ledger.read_text())
    kept = [f for f in expected if "pretrain" not in f or ("unet-s" in f and "@" not in f)]
    ledger.write_text(json.dumps({file: expected[file] for file in kept}))
    collect(ledger, root / "results.csv", root)
    fit_laws(root / "results.csv", Fit(bootstrap=0), "majortom", root / "laws.json")
    assert json.loads((root / "laws.json").read_text())["pretraining"]["unet"]["law"] is None
    draw_scaling(root / "results.csv", root / "laws.json", Figures(), tmp_path / "scaling.pdf")


def test_no_law_in_n_is_fitted_to_a_curve_of_which_a_run_had_not_settled(results, tmp_path):
    root, ledger = results
    rushed = root / "results/finetune/majortom/unet-s/roads/seed2/n64.json"
    rushed.write_text(json.dumps(json.loads(rushed.read_text()) | {"settled": False}))
    collect(ledger, root / "results.csv", root)
    table = pd.read_csv(root / "results.csv")
    assert not table[table.fingerprint == "fine-majortom-unet-roads-2-64"].settled.any()
    fit_laws(root / "results.csv", Fit(bootstrap=0), "majortom", root / "laws.json")
    laws = {
        (law["task"], law["corpus"], law["architecture"]): law
        for law in json.loads((root / "laws.json").read_text())["curves"]
    }
    refused = laws.pop(("roads", "majortom", "unet"))
    assert refused["law"] is None
    assert "1 of 3 rows are of runs that had not settled (first: n = 64)" in refused["refusal"]
    assert all(law["law"] and not law["refusal"] for law in laws.values())
    write_tables(root / "results.csv", root / "laws.json", tmp_path)
    text = (tmp_path / "fit_report.md").read_text()
    assert "**roads, unet-s from majortom**: no law: 1 of 3 rows are of runs that had not settled" in text
    counts = pd.read_csv(tmp_path / "curves.csv").set_index(["task", "corpus", "architecture", "n"]).settled
    assert counts["roads", "majortom", "unet", 64] == 2
    effect = pretraining_effect(table).set_index(["task", "n"]).settled
    assert not effect["roads", 64] and effect["roads", 16]
    draw_scaling(root / "results.csv", root / "laws.json", Figures(), tmp_path / "scaling.pdf")
    drawn = pd.read_csv(tmp_path / "scaling.csv").query("kind == 'curve' and line == 'majortom'")
    assert drawn[drawn.settled.astype(str) == "False"][["panel", "x"]].to_numpy().tolist() == [
        ["roads against n", 64]
    ]


def test_arms_that_differ_in_mode_or_transfer_are_never_averaged(results, tmp_path):
    arms = {
        "majortom/unet-s+fullencoder": ({"mode": "full", "transfer": "encoder"}, 0.25),
        "majortom/unet-s+frozenall": ({"mode": "frozen", "transfer": "all"}, 0.5),
    }
    numbers = drawn_with_worse_arms(results, arms, tmp_path)
    assert (numbers.seeds == 3).all()
    at = numbers.set_index(["panel", "line"]).y
    whole = at["roads against n, full", "majortom"]
    assert at["roads against n, full", "majortom, encoder alone"] == pytest.approx(whole + 0.25)
    assert at["roads against n, frozen", "majortom"] == pytest.approx(whole + 0.5)
    effect = pretraining_effect(pd.read_csv(results[0] / "results.csv")).query("task == 'roads' and n == 4")
    by_start = effect.set_index(["mode", "transfer"]).effect
    assert by_start["full", "encoder"] == pytest.approx(by_start["full", "all"] + 0.25)
    assert ("frozen", "all") not in by_start.index  # no frozen arm from scratch to compare with
