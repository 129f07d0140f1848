"""A target is one file: a new one goes through pretraining and fine-tuning to the figure."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

import geoladder

ROOT = Path(__file__).parents[2]
TOY = re.search(r"```python\n(.*?)```", (ROOT / "docs/targets.md").read_text(), re.DOTALL)[1]
CUT = {"architectures": ["unet"], "sizes": ["xs"]}
STUDY = {
    "earth": {"tile_px": 48},
    "corpora": {"majortom": {"tiles": 12, "seed": 1}},
    "validation": {"share": 0.3, "chips": 8, "bench_buffer_km": 0},
    "cleaning": {"chip_px": 16},
    "bench": {"train_tiles": 1, "test_tiles": 1, "patches_per_tile": 12, "patch_px": 16},
    "pretrain": {
        "samples": 16, "batch": 8, "grid": [CUT | {"corpora": ["majortom"], "seeds": [0]}],
        "objective": {"targets": {"north": {"kind": "toy", "weight": 0.1}}},
    },
    "finetune": {
        "steps": 2, "batch": 4, "n": [1], "seeds": [0], "tasks": ["roads"], "validations": 1,
        "test_patches": 8, "grid": [CUT | {"corpora": ["majortom", "scratch"]}],
    },
    "gates": None,
    "fit": {"bootstrap": 2},
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Runs a module in a folder with a study and a copy of the package that has one more file."""
    source = tmp_path / "src/geoladder"
    shutil.copytree(Path(geoladder.__file__).parent, source, ignore=shutil.ignore_patterns("__pycache__"))

    def start(toy, *command):
        (source / "training/targets/toy.py").write_text(toy)
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
        return subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return start


@pytest.mark.parametrize(
    ("toy", "words"),
    [
        (TOY.replace('    measure="squares",\n', ""), ["targets/toy.py", "measure", "required"]),
        (TOY.replace('"toy"', '"tay"'), ["unknown target 'toy'", "did you mean 'tay'"]),
        (TOY.replace("TARGET", "TARGETS"), ["toy.py defines no target", "TARGET = Target(...)"]),
    ],
)
def test_cells_names_what_is_wrong_without_a_traceback(run, toy, words):
    done = run(toy, "geoladder.cli", "cells", "--study", "study.yaml")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_one_file_goes_from_the_cells_to_the_scaling_figure(run, tmp_path):
    done = run(TOY, "geoladder.cli", "cells", "--study", "study.yaml")
    assert done.returncode == 0, done.stderr
    snakemake = ["snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
    figure = "results/figures/scaling.pdf"
    done = run(TOY, *snakemake, "--configfile", "study.yaml", "--", figure)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "results/pretrain/majortom/unet-xs/seed0"
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    assert {"val_north_squares", "val_north_worst"} <= set(metrics) and "val_geo_km" not in metrics
    assert "north_squares" in pd.read_csv(folder / "log.csv")
    card = json.loads((folder / "model.json").read_text())
    assert card["objective"]["targets"] == {"north": {"kind": "toy", "weight": 0.1, "by_deg": 90.0}}
    rows = pd.read_csv(tmp_path / "results/results.csv")
    assert "val_north_worst" in set(rows["metric"])
    assert {"pretrain", "finetune"} <= set(rows["stage"])
    assert (tmp_path / figure).is_file()
