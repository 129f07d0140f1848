"""Small benches in the true layout, with something planted that a model can learn."""

import numpy as np
import pytest
import torch

from geoladder.data.bench.reader import Bench, index_bench
from geoladder.data.bench.split import write_split
from geoladder.registry.ladder import rung
from geoladder.study.downstream_specs import BaselineSpec, FinetuneSpec, SplitSpec
from pretraining import PX, STATS, smooth

REGIONS = ("europe", "east-africa", "nigeria", "north-america", "south-america", "japan")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    """A folder with archive/ and index.parquet: roads are where B04 is dark, land cover follows B08."""
    folder = tmp_path_factory.mktemp("bench")
    archive = folder / "archive"
    archive.mkdir()
    rng = np.random.default_rng(1)
    codes = np.array([10, 20, 30, 40], np.uint8)
    for region in REGIONS:
        for split, count in (("train", 24), ("val", 6), ("test", 12)):
            red, infrared = smooth(rng, count, PX), smooth(rng, count, PX)
            bands = rng.uniform(0.05, 0.3, (count, PX, PX, 10))
            bands[..., 2], bands[..., 3] = 0.1 + 0.3 * red, 0.1 + 0.3 * infrared
            road = (red < 0.4).astype(np.float32)[..., None] * 0.9
            cover = codes[np.digitize(infrared, [0.3, 0.5, 0.7])][..., None]
            cover[0, :2] = 0  # nodata
            stem = f"{region}_{int(split == 'test')}_{split}"
            np.save(archive / f"{stem}_s2.npy", (bands * 10000).astype(np.uint16))
            np.save(archive / f"{stem}_label_roads.npy", road)
            np.save(archive / f"{stem}_label_building.npy", road)
            np.save(archive / f"{stem}_label_lc.npy", cover)
    index_bench(archive, folder / "index.parquet")
    return folder


@pytest.fixture
def opened(bench):
    return Bench(bench / "archive", bench / "index.parquet")


def split_spec(task, seed, n):
    """Spec of the subset of one run on the bench above, whose buckets have one tile each."""
    return SplitSpec(
        task=task,
        n=[n],
        protocol="seeded",
        seed=seed,
        validation="apart",
        allow_short=False,
        indices=[],
        bench="0",
    )


def drawn(values):
    """Values of a run's spec, with the fingerprint of its subset where they lack it."""
    return {"subset": split_spec(values["task"], values["seed"], values["n"]).fingerprint} | values


@pytest.fixture
def split(opened, tmp_path_factory):
    """Draws the subset of a run's spec, of another bench if one is given, and returns the file."""

    def write(spec, bench=opened):
        path = tmp_path_factory.mktemp("split") / "seed.parquet"
        n = spec.subsets[-1].n if isinstance(spec, BaselineSpec) else spec.n
        write_split(split_spec(spec.task, spec.seed, n), bench, path, [])
        return path

    return write


@pytest.fixture
def finetune_spec():
    """Makes specs of short runs; keywords change them."""

    def make(architecture="unet", size="xs", **changes):
        values = {
            "corpus": "scratch",
            "architecture": architecture,
            "size": size,
            "model": rung(architecture, size).kwargs,
            "pretrained": None,
            "task": "roads",
            "seed": 0,
            "n": 2,
            "bench": "0",
            "stats": STATS,
            "harmonise": "baseline",
            "transform": "sqrt",
            "steps": 10,
            "batch": 8,
            "lr": 0.01,
            "weight_decay": 0.05,
            "warmup_share": 0.1,
            "validations": 2,
            "mode": "full",
            "test_patches": 40,
            "precision": "32-true",
            "code": None,
        }
        return FinetuneSpec(**drawn(values | changes))

    return make


@pytest.fixture
def trivial_spec():
    """Makes specs of the baselines of one n or several; keywords change them."""

    def make(n=(2,), task="roads", seed=0, harmonise="baseline", baseline_pixels=2000):
        shared = {"task": task, "seed": seed, "bench": "0", "harmonise": harmonise, "test_patches": 40}
        subsets = [drawn(shared | {"n": size}) for size in n]
        return BaselineSpec(task=task, seed=seed, subsets=subsets, baseline_pixels=baseline_pixels)

    return make
