"""A copy of the package to which a test adds one entry, and a tiny study that is run with it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import geoladder

ROOT = Path(__file__).parents[2]


class Package:
    """The copy, in `folder`, driven through the real command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._source = folder / "src/geoladder"
        shutil.copytree(
            Path(geoladder.__file__).parent, self._source, ignore=shutil.ignore_patterns("__pycache__")
        )

    def add(self, file: str, source: str) -> None:
        (self._source / file).write_text(source)

    def study(self, architecture: str = "unet", **objective: object) -> None:
        """Write study.yaml: one cell of size xs, and its curve of one point beside scratch."""
        arms = {"architectures": [architecture], "sizes": ["xs"]}
        study = {
            "earth": {"tile_px": 48},
            "corpora": {"majortom": {"tiles": 12, "seed": 1}},
            "validation": {"share": 0.3, "chips": 8, "bench_buffer_km": 0},
            "cleaning": {"chip_px": 16},
            "bench": {"train_tiles": 1, "test_tiles": 1, "patches_per_tile": 12, "patch_px": 16},
            "pretrain": {
                "samples": 16, "batch": 8, "grid": [arms | {"corpora": ["majortom"], "seeds": [0]}],
                "objective": objective,
            },
            "finetune": {
                "steps": 2, "batch": 4, "n": [1], "seeds": [0], "tasks": ["roads"], "validations": 1,
                "test_patches": 8, "grid": [arms | {"corpora": ["majortom", "scratch"]}],
            },
            "gates": None,
            "fit": {"bootstrap": 2},
        }  # fmt: skip
        (self.folder / "study.yaml").write_text(yaml.safe_dump(study))

    def cells(self) -> subprocess.CompletedProcess:
        return self._run("geoladder.cli", "cells", "--study", "study.yaml")

    def make(self, target: str) -> subprocess.CompletedProcess:
        options = ("--snakefile", str(ROOT / "Snakefile"), "--cores", "2", "--configfile", "study.yaml")
        return self._run("snakemake", *options, "--", target)

    def _run(self, *command: str) -> subprocess.CompletedProcess:
        environment = os.environ | {"PYTHONPATH": str(self.folder / "src")}
        return subprocess.run(
            [sys.executable, "-m", *command], cwd=self.folder, env=environment, capture_output=True, text=True
        )


@pytest.fixture
def package(tmp_path) -> Package:
    return Package(tmp_path)
