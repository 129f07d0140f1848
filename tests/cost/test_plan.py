"""What a study will cost, against sums done by hand."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geoladder.cli import main
from geoladder.cost.corpora import PUBLISHED, archive_size
from geoladder.cost.plan import Machine, plan_study
from geoladder.cost.profile import profile, rungs
from geoladder.cost.rung_cost import PEAK_TFLOPS, counted, rung_cost
from geoladder.data.fetch.plan import FetchPlan, Part, RemoteFile, write_plan
from geoladder.study.corpora import Corpus, Earth, Select
from geoladder.study.load import load_study

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def study():
    return load_study(ROOT / "config.yaml")


def test_cells_cost_what_their_samples_do(study):
    plan = plan_study(study, Machine("h100-80", 8, 0.5))
    cell = plan.cells.set_index(["corpus", "architecture", "size", "seed"]).loc[("majortom", "unet", "m", 0)]
    gflops = profile("unet", "m", study.cleaning.chip_px)["gflops_train"] * study.pretrain.samples
    assert cell["gflops_train"] == pytest.approx(gflops)
    assert cell["gpu_hours"] == pytest.approx(gflops * 1e9 / (PEAK_TFLOPS["h100-80"] * 1e12 * 0.5) / 3600)
    assert len(plan.cells) == len(study.cells()) + len(study.oracle_cells())


def test_totals_add_up_and_no_cell_is_faster_than_its_own_devices(study):
    few, many = (plan_study(study, Machine(gpus=gpus)) for gpus in (2, 10_000))
    assert few.totals["gpu_hours"] == pytest.approx(
        few.cells["gpu_hours"].sum() + few.arms["gpu_hours"].sum() + few.linear["gpu_hours"].sum()
    )
    assert few.totals["wall_hours"] == pytest.approx(few.totals["gpu_hours"] / 2)
    assert many.totals["wall_hours"] == pytest.approx(many.cells["gpu_hours"].max())


def test_chips_of_the_default_study_by_hand(study):
    archives = plan_study(study, Machine()).archives.set_index("corpus")
    assert archives.loc["majortom", "chips"] == 540 * (72 // 32) ** 2
    assert archives.loc["majortom", "chip_bytes"] == 540 * 4 * 2 * (4 * 32**2 + 6 * 16**2)


def test_every_fine_tuning_run_is_in_an_arm(study):
    assert plan_study(study, Machine()).arms["runs"].sum() == len(study.points())


def test_an_archive_on_disk_is_counted_and_one_that_is_not_is_published(tmp_path):
    corpus = Corpus(source="majortom", path=tmp_path)
    assert archive_size(corpus, Earth(), tmp_path) == PUBLISHED["majortom"]
    pd.DataFrame({"grid_cell": ["1U_1R"] * 7}).to_parquet(tmp_path / "metadata.parquet")
    counted = archive_size(corpus, Earth(), tmp_path)
    assert (counted.tiles, counted.told_by) == (7, "metadata")
    assert counted.size_bytes == pytest.approx(7 * 23e12 / 2_245_886)


def test_of_a_remote_archive_the_selection_counts(tmp_path):
    corpus = Corpus(
        source="majortom", url="https://example.org/a", select={"fraction": "1/8", "max_cloud_percent": 5}
    )
    guessed = archive_size(corpus, Earth(), tmp_path)
    assert guessed.told_by == "published" and guessed.tiles == round(2_245_886 / 8)
    parts = tuple(
        Part(RemoteFile(f"images/{number}.parquet", 4_000_000), 3, 500, (1, 2, 3)) for number in range(9)
    )
    write_plan(tmp_path, FetchPlan("https://example.org/a", corpus.select, False, parts, 4500))
    planned = archive_size(corpus, Earth(), tmp_path)
    assert planned[:1] + planned[2:] == (27, 9 * 24_000, "fetch plan")
    other = corpus.model_copy(update={"select": Select(fraction=0.125)})
    assert archive_size(other, Earth(), tmp_path) == guessed


def test_the_verb_writes_tables_and_states_its_assumptions(tmp_path, capsys):
    arguments = ["plan", str(ROOT / "config.yaml"), "--gpus", "4", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert "35% of 312 TFLOP/s" in capsys.readouterr().out
    assert json.loads((tmp_path / "plan.json").read_text())["gpus"] == 4
    assert set(pd.read_csv(tmp_path / "cells.csv").columns) >= {"batch_40gb", "batch_80gb_shared", "epochs"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpus", "0"], "at least one GPU"),
        (["--utilisation", "1.5"], "utilisation in (0, 1]"),
        (["no_such.yaml"], "no_such.yaml"),
    ],
)
def test_bad_input(options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["plan", *options, "--out", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("architecture", "size"), rungs())
def test_kept_costs_are_what_counting_gives(architecture, size):
    """After a change of a model: python tools/count_rungs.py."""
    assert rung_cost(architecture, size, 128) is not counted(architecture, size, 128)
    assert rung_cost(architecture, size, 128) == pytest.approx(counted(architecture, size, 128), rel=1e-12)


def test_other_image_sizes_are_counted():
    assert rung_cost("unet", "xs", 40) == counted("unet", "xs", 40)


def test_planning_the_paper_needs_no_torch_and_no_archive(tmp_path):
    code = (
        "import sys; from geoladder.cli import main;"
        f"done = main(['plan', {str(ROOT / 'studies/paper.yaml')!r}, '--out', {str(tmp_path)!r}]);"
        "sys.exit(done or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    totals = json.loads((tmp_path / "plan.json").read_text())
    assert totals["bytes"] == 23 * 10**12 + 5 * 10**11  # FastTOM is cut from MajorTOM


def gpu_table(folder, rows):
    """A table of the GPU check, as `benchmarks/gpu` writes it, of (rung, quantity, value)."""
    table = pd.DataFrame(rows, columns=["item", "quantity", "value"])
    folder.mkdir(exist_ok=True)
    table.assign(part="rungs", setting="as trained, batch 256, bf16-mixed").to_csv(
        folder / "h200-141.csv", index=False
    )


MEMORY = "peak memory over the plan's estimate"


def test_a_measured_rung_counts_with_its_own_utilisation_and_memory(tmp_path, capsys):
    options = ["plan", str(ROOT / "studies/paper.yaml"), "--card", "h200-141", "--measured", str(tmp_path)]
    main([*options, "--out", str(tmp_path / "assumed")])
    assert "Assumed: 35% of 989 TFLOP/s bf16; cells" in capsys.readouterr().out
    rows = [("vit_upernet-P16-100M", "utilisation", 0.7), ("vit_upernet-P16-100M", MEMORY, 2.2)]
    rows.append(("mamba_upernet-P16-100M", "utilisation", 0.1))  # its memory was not measured: not used
    gpu_table(tmp_path, rows)
    main([*options, "--out", str(tmp_path / "measured")])
    text = capsys.readouterr().out
    assert "Measured on h200-141: utilisation and memory of vit_upernet-P16-100M\nAssumed: 35% of" in text
    assert "for the other rungs; cells" in text
    assumed, measured = (pd.read_csv(tmp_path / name / "cells.csv") for name in ("assumed", "measured"))
    changed = (assumed["architecture"] == "vit_upernet") & (assumed["size"] == "P16-100M")
    assert changed.any() and not changed.all()
    assert np.allclose(measured["gpu_hours"], assumed["gpu_hours"] * np.where(changed, 0.5, 1))
    ratio = measured["batch_80gb"] / assumed["batch_80gb"]
    assert ratio[changed].isin([0.25, 0.5]).all() and ratio[~changed].eq(1).all()
    main([*options, "--utilisation", "0.35", "--out", str(tmp_path / "told")])
    assert "Measured" not in capsys.readouterr().out
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "told" / "cells.csv"), assumed)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "is no table of the GPU check"), ("a,b\n1,2\n", "is no table of the GPU check")],
)
def test_a_table_of_something_else_is_refused(content, message, tmp_path, capsys):
    (tmp_path / "h200-141.csv").write_text(content)
    options = ["--card", "h200-141", "--measured", str(tmp_path), "--out", str(tmp_path / "plan")]
    assert main(["plan", str(ROOT / "studies/paper.yaml"), *options])
    assert message in capsys.readouterr().err
