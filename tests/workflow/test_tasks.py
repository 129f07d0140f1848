"""A task added as one file, and official index files, through the real command line and graph on a tiny bench."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from geoladder.data.bench.reader import Bench

ROOT = Path(__file__).parents[2]
STUDY = {
    "earth": {"tile_px": 96},
    "corpora": {"majortom": {"like": "majortom", "tiles": 12, "seed": 1}},
    "validation": {"share": 0.25, "chips": 8},
    "bench": {"train_tiles": 1, "test_tiles": 1, "patches_per_tile": 9},
    "pretrain": {
        "samples": 32,
        "batch": 8,
        "grid": [{"corpora": ["majortom"], "architectures": ["unet"], "sizes": ["xs"], "seeds": [0]}],
    },
    "finetune": {
        "steps": 2,
        "n": [1],
        "seeds": [0],
        "validations": 1,
        "test_patches": 12,
        "grid": [{"corpora": ["majortom", "scratch"], "architectures": ["unet"], "sizes": ["xs"]}],
    },
    "gates": None,
    "fit": {"bootstrap": 0},
}
TOY = """
from geoladder.training.class_map import ClassMap

TASK = ClassMap(
    name="toy_light",
    title="Toy light",
    label="light",
    codes=(1, 2, 3),
    classes=("dark", "grey", "bright"),
    colours=("#000000", "#888888", "#ffffff"),
    error_label="Toy error (share)",
)
"""
BENCH_FILES = "data/bench/archive/metadata/tiles_metadata.json"


class Tiny:
    """A folder with a tiny study, driven by the package at `source`."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder, self.environment = folder, os.environ | {"PYTHONPATH": str(source)}

    def study(self, tasks: list[str], **bench: object) -> None:
        study = STUDY | {"finetune": STUDY["finetune"] | {"tasks": tasks}, "bench": STUDY["bench"] | bench}
        (self.folder / "study.yaml").write_text(yaml.safe_dump(study))

    def run(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def make(self, target: str, *options: str) -> str:
        done = self.run(
            *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"),
            *("--configfile", "study.yaml", *options, "--", target),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def bench_files(tmp_path_factory) -> Path:
    """A folder in which the files of the bench are made."""
    tiny = Tiny(tmp_path_factory.mktemp("tiny"), ROOT / "src")
    tiny.study(["roads"])
    tiny.make(BENCH_FILES)
    return tiny.folder


@pytest.fixture
def tiny(bench_files, tmp_path) -> Tiny:
    shutil.copytree(bench_files, tmp_path / "study", copy_function=shutil.copy2)
    return Tiny(tmp_path / "study", ROOT / "src")


def test_a_task_is_one_file(tiny, tmp_path):
    """From the list of cells to the figure; what is not in that file is the labels on disk."""
    tiny.study(["roads", "toy_light"])
    refused = tiny.run("geoladder", "cells", "--study", "study.yaml")
    assert refused.returncode == 1
    assert "unknown task 'toy_light'" in refused.stderr and "Traceback" not in refused.stderr

    shutil.copytree(ROOT / "src/geoladder", tmp_path / "src/geoladder")
    (tmp_path / "src/geoladder/training/tasks/toy.py").write_text(TOY)
    for path in (tiny.folder / "data/bench/archive").glob("*_s2.npy"):
        light = np.load(path)[..., 3:4].astype(float)
        np.save(
            str(path).replace("_s2.npy", "_label_light.npy"),
            1 + np.digitize(light, np.quantile(light, [0.3, 0.6])).astype(np.uint8),
        )
    toy = Tiny(tiny.folder, tmp_path / "src")
    assert "6 fine-tuning runs" in toy.run("geoladder", "cells", "--study", "study.yaml").stdout
    assert "every number: results/results.csv" in toy.make("results/figures/scaling.pdf")

    table = pd.read_csv(tiny.folder / "results/results.csv").query("task == 'toy_light' and bucket == 'all'")
    assert {"accuracy", "error", "miou"} <= set(table[table.stage == "finetune"].metric)
    assert {"zero_accuracy", "mean_error"} <= set(table[table.stage == "trivial"].metric)
    points = pd.read_csv(tiny.folder / "results/figures/scaling.csv")
    assert {"roads against n", "toy_light against n"} <= set(points.panel)
    patch = next((tiny.folder / "data/bench/archive").glob("*_train_s2.npy"))
    assert "label light" in toy.run("geoladder", "inspect", str(patch)).stdout

    (tmp_path / "src/geoladder/training/tasks/toy.py").write_text(TOY.replace("codes=(1, 2, 3),", ""))
    broken = toy.run("geoladder", "cells", "--study", "study.yaml")
    assert (broken.returncode, broken.stderr.count("\n")) == (1, 1)
    assert "training/tasks/toy.py defines no usable task" in broken.stderr and "codes" in broken.stderr


@pytest.mark.slow
def test_official_index_files_are_what_is_trained_on(tiny):
    folder = tiny.folder / "indices"
    tiny.study(["roads"], indices="indices")
    refused = tiny.run("geoladder", "cells", "--study", "study.yaml")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "bench.indices: indices has no file indices_*_roads_1.json" in refused.stderr

    tiny.study(["roads"])
    tiny.make("data/bench/index.parquet")
    bench = Bench(tiny.folder / "data/bench/archive", tiny.folder / "data/bench/index.parquet")
    folder.mkdir()

    def write(patches):
        sizes = {split: bench.pool("roads", split).bucket.value_counts() for split in ("train", "val")}
        buckets = {
            bucket: {
                "train_indices": list(range(patches)),
                "val_indices": [0],
                "length_multi_array_train": int(sizes["train"][bucket]),
                "length_multi_array_val": int(sizes["val"][bucket]),
            }
            for bucket in sizes["train"].index
        }
        (folder / "indices_01012024_128_10M_roads_1.json").write_text(json.dumps(buckets))
        return len(buckets)

    buckets = write(3)
    tiny.study(["roads"], indices="indices")
    results = ["results/finetune/scratch/unet-xs/roads/seed0/n1.json", "results/trivial/roads/seed0.json"]

    def train_patches(result):
        tiny.make(result)
        content = json.loads((tiny.folder / result).read_text())
        return content.get("points", [content])[0]["train_patches"]

    assert [train_patches(result) for result in results] == [3 * buckets] * 2
    write(2)
    assert [train_patches(result) for result in results] == [2 * buckets] * 2
    assert "Nothing to be done" in tiny.make("data/bench/index.parquet")
