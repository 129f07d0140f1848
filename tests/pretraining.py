"""Fixtures of pretraining for all tests: a small chip folder in which a model can learn, specs of runs, and a map."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine

from geoladder.data.batches.stats import write_stats
from geoladder.registry.ladder import rung
from geoladder.study.pretraining import Objective, TargetUse
from geoladder.study.specs import PretrainSpec, StatsSpec
from geoladder.training.job import Inputs

PX = 16
STATS = StatsSpec(chips="0").fingerprint
"""Of the statistics of small chip folders."""


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
    manifest.to_parquet(folder / "manifest.parquet")


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
            "stats": STATS,
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
    return TargetUse(kind="raster", raster=path, codes=[10, 20, 90], weight=0.02)
