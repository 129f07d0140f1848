"""Benchmarks still fit the code they measure, and the GPU check runs as far as a CPU can take it."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
TRAINING_NEEDS_NONE_OF = (
    "pyarrow", "rasterio", "snakemake", "cyclopts", "seaborn", "tenacity", "urllib3", "blosc2",
    "huggingface_hub",
)  # fmt: skip
"""Lightning itself imports matplotlib, pillow and rich where they are installed."""


@pytest.mark.parametrize("path", sorted(ROOT.glob("benchmarks/*.py")), ids=lambda path: path.name)
def test_a_benchmark_imports_only_what_there_is(path):
    runpy.run_path(str(path), run_name="imported")


def gpu_check(out, *options, before=""):
    """Run the dry check in a fresh process; its table, and its output."""
    words = ["gpu", "--dry", "--out", str(out), *options]
    run_it = "runpy.run_module('benchmarks.gpu', run_name='__main__')"
    code = f"import runpy, sys\n{before}\nsys.argv = {words!r}\n{run_it}"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return pd.read_csv(out / "dry.csv"), run.stdout


def test_the_check_measures_everything_with_training_packages_alone(tmp_path):
    """All but the input side runs where packages of archives, workflow, command line and figures are missing."""
    block = f"sys.modules.update(dict.fromkeys({TRAINING_NEEDS_NONE_OF!r}))"  # importing one of them fails
    table, _ = gpu_check(tmp_path, before=block)
    assert set(table["part"]) == {
        "ceilings", "kernels", "families", "parallel", "cell", "tuning", "feed", "rungs"
    }  # fmt: skip
    assert not table["ok"].eq(False).any()
    families = table[table["part"] == "families"]
    assert families.groupby("item").size().eq(4).all() and families["ok"].eq(True).all()
    (left_out,) = table[table["part"] == "feed"].itertuples()
    assert "needs pyarrow and rasterio" in left_out.note
    text = (tmp_path / "dry.md").read_text()
    assert "## rungs" in text and "commit: " in text


def test_the_check_feeds_the_device_from_chips_and_from_tiles(tmp_path):
    table, _ = gpu_check(tmp_path, "--parts", "feed")
    assert set(table["item"]) == {"chips from disk", "crops from tiles"}
    assert table.loc[table["unit"] == "1/s", "value"].gt(0).all()


def test_documented_checks_take_the_options_they_are_shown_with(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.gpu.__main__ import PARTS, options

    text = "".join(path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")])
    commands = re.findall(r"python -m benchmarks\.gpu([^`\n]*)", text)
    assert len(commands) >= 4
    for command in commands:
        chosen = options().parse_args(command.split())
        assert set(chosen.parts.split(",")) <= set(PARTS)


def test_a_limit_that_is_missed_fails_the_check(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.gpu import table
    from benchmarks.gpu.check import at_most

    row = at_most(0.1, "copy", "on the device", "error", 0.2, "1")
    assert row.ok is False and at_most(0.1, "", "", "", float("nan"), "").ok is False
    facts = {"device": "d", "torch": "t", "commit": "c", "day": "2026-01-01"}
    table.write(tmp_path / "card", [("kernels", row)], facts)
    assert "FAILED" in (tmp_path / "card.md").read_text()
