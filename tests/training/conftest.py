"""Small chip folders and benches in the true layouts, with something planted that a model can learn."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from affine import Affine

from geoladder.data.batches.chips import MANIFEST_COLUMNS
from geoladder.data.batches.stats import write_stats
from geoladder.data.bench.reader import Bench, index_bench
from geoladder.models.ladder import rung
from geoladder.study.pretraining import LabelRaster, Objective
from geoladder.study.specs import FinetuneSpec, PretrainSpec, StatsSpec, TrivialSpec
from geoladder.training.pretrain import Inputs

PX = 16
REGIONS = ("europe", "east-africa", "nigeria", "north-america", "south-america", "japan")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def smooth(rng, count, px):
    """(count, px, px) fields in 0..1 that vary over several pixels, so that neighbours tell of hidden ones."""
    y, x = np.mgrid[:px, :px] / px
    a, b, phase, level = rng.uniform(-3, 3, (4, count, 1, 1))
    return 0.5 + 0.4 * np.sin(a * x + b * y + phase) + 0.03 * level


def write_chip_folder(folder, cells=24, per_cell=4, seed=0):
    """Bands follow one smooth field each chip; climate and latitude follow its brightness."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    count = cells * per_cell
    brightness = rng.uniform(0, 1, (count, 1, 1, 1))
    field = smooth(rng, count, PX)[:, None] * 1500 + 4000 * brightness
    gain = np.linspace(0.5, 1.5, 10).reshape(1, 10, 1, 1)
    dn = (field * gain + rng.normal(0, 30, (count, 10, PX, PX))).clip(1, 9999).astype(np.uint16)
    np.save(folder / "10m-00000.npy", dn[:, :4])
    np.save(folder / "20m-00000.npy", np.ascontiguousarray(dn[:, 4:, ::2, ::2]))
    cell = np.arange(count) // per_cell
    manifest = pd.DataFrame(
        {
            "chip": np.arange(count),
            "shard": 0,
            "slot": np.arange(count),
            "grid_cell": [f"{c}U_{c}R" for c in cell],
            "product_id": "S2A_MSIL2A_20210630T100000_N0300_R022_T32TQM_20210630T120000",
            "split": np.where(cell % 4 == 3, "val", "train"),
            "lat_deg": 60 * brightness[:, 0, 0, 0],
            "lon_deg": 10.0,
            "day_of_year": 180,
            "koppen": (brightness[:, 0, 0, 0] > 0.5) * 5,
            "offset_dn": 0,
            "cloud_share": 0.0,
        }
    )
    manifest[MANIFEST_COLUMNS].to_parquet(folder / "manifest.parquet")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A folder with chips/ and stats.json."""
    folder = tmp_path_factory.mktemp("corpus")
    write_chip_folder(folder / "chips")
    write_stats(StatsSpec(chips="0"), folder / "chips", folder / "stats.json")
    return folder


@pytest.fixture
def inputs(corpus):
    """What a run on the chips of `corpus` reads."""
    return Inputs(corpus / "chips", corpus / "stats.json", chips=corpus / "chips")


@pytest.fixture
def pretrain_spec():
    """Makes specs of short runs; keywords change them."""

    def make(architecture="unet", size="xs", **changes):
        values = {
            "corpus": "majortom",
            "fraction": Fraction(1),
            "architecture": architecture,
            "size": size,
            "model": rung(architecture, size).kwargs,
            "seed": 0,
            "chips": "0",
            "stats": "0",
            "validation_chips": 16,
            "transform": "sqrt",
            "samples": 96,
            "batch": 8,
            "lr": 0.01,
            "weight_decay": 0.05,
            "warmup_share": 0.1,
            "gradient_clip": 1.0,
            "checkpoint_every": 5,
            "objective": Objective(),
            "tensorboard": False,
            "precision": "32-true",
            "code": None,
        }
        return PretrainSpec(**(values | changes))

    return make


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
            stem = f"{region}_0_{split}"
            np.save(archive / f"{stem}_s2.npy", (bands * 10000).astype(np.uint16))
            np.save(archive / f"{stem}_label_roads.npy", road)
            np.save(archive / f"{stem}_label_building.npy", road)
            np.save(archive / f"{stem}_label_lc.npy", cover)
    index_bench(archive, folder / "index.parquet")
    return folder


@pytest.fixture
def opened(bench):
    return Bench(bench / "archive", bench / "index.parquet")


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
            "stats": "0",
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
        return FinetuneSpec(**(values | changes))

    return make


@pytest.fixture
def trivial_spec():
    def make(**changes):
        values = {
            "task": "roads",
            "seed": 0,
            "n": 2,
            "bench": "0",
            "harmonise": "baseline",
            "test_patches": 40,
        }
        return TrivialSpec(**(values | changes))

    return make


@pytest.fixture
def bands(tmp_path):
    """A map of 1 degree: 20 from 30 N to the pole, 10 from 15 S to 30 N, 7 (no code) south of that, 255 no data."""
    latitudes = 89.5 - np.arange(180)
    codes = np.select([latitudes > 30, latitudes > -15], [20, 10], 7).astype(np.uint8)
    codes[:10] = 255
    path = tmp_path / "bands.tif"
    profile = {"driver": "GTiff", "width": 360, "height": 180, "count": 1, "dtype": "uint8", "nodata": 255}
    place = {"crs": "EPSG:4326", "transform": Affine(1, 0, -180, 0, -1, 90)}
    with rasterio.open(path, "w", **profile, **place) as raster:
        raster.write(np.repeat(codes[:, None], 360, 1), 1)
    return LabelRaster(raster=path, codes=[10, 20, 90])
