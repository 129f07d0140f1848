"""A target is one file: a new one goes through pretraining and fine-tuning to the figure."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
TOY = re.search(r"```python\n(.*?)```", (ROOT / "docs/targets.md").read_text(), re.DOTALL)[1]
FILE = "training/targets/toy.py"
TARGETS = {"north": {"kind": "toy", "weight": 0.1}}


@pytest.mark.parametrize(
    ("toy", "words"),
    [
        (TOY.replace('    measure="squares",\n', ""), ["targets/toy.py", "measure", "required"]),
        (TOY.replace('"toy"', '"tay"'), ["unknown target 'toy'", "did you mean 'tay'"]),
        (TOY.replace("TARGET", "TARGETS"), ["toy.py defines no target", "TARGET = Target(...)"]),
    ],
)
def test_cells_names_what_is_wrong_without_a_traceback(package, toy, words):
    package.add(FILE, toy)
    package.study(targets=TARGETS)
    done = package.cells()
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.slow
def test_one_file_goes_from_the_cells_to_the_scaling_figure(package):
    package.add(FILE, TOY)
    package.study(targets=TARGETS)
    done = package.cells()
    assert done.returncode == 0, done.stderr
    figure = "results/figures/scaling.pdf"
    done = package.make(figure)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = package.folder / "results/pretrain/majortom/unet-xs/seed0"
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    assert {"val_north_squares", "val_north_worst"} <= set(metrics) and "val_geo_km" not in metrics
    assert "north_squares" in pd.read_csv(folder / "log.csv")
    card = json.loads((folder / "model.json").read_text())
    assert card["objective"]["targets"] == {"north": {"kind": "toy", "weight": 0.1, "by_deg": 90.0}}
    rows = pd.read_csv(package.folder / "results/results.csv")
    assert "val_north_worst" in set(rows["metric"])
    assert {"pretrain", "finetune"} <= set(rows["stage"])
    assert (package.folder / figure).is_file()
