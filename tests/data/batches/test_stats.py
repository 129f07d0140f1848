import json

import numpy as np
import pandas as pd
import pytest
import torch

from geoladder.data.batches import stats as stats_module
from geoladder.data.batches.batch import CLIP_SIGMA, BandStats, to_reflectance
from geoladder.data.batches.chip_store import ChipStore
from geoladder.data.batches.stats import write_stats
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.runs.digest import seal_path
from geoladder.study.specs import StatsSpec

SPEC = StatsSpec(chips="c")


@pytest.fixture
def folder(tmp_path):
    """A hand-made chip folder: 30 chips, every third for validation (and far brighter)."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "chips"
    folder.mkdir()
    dn10 = rng.integers(1100, 4000, (30, 4, 8, 8), dtype=np.uint16)
    dn20 = rng.integers(1100, 4000, (30, 6, 4, 4), dtype=np.uint16)
    dn10[::3], dn20[::3] = 30_000, 30_000
    np.save(folder / "10m-00000.npy", dn10)
    np.save(folder / "20m-00000.npy", dn20)
    split = np.where(np.arange(30) % 3 == 0, "val", "train")
    offset = np.where(np.arange(30) % 2 == 0, 1000, 0)
    pd.DataFrame(
        {"chip": range(30), "shard": 0, "slot": range(30), "split": split, "offset_dn": offset}
    ).to_parquet(folder / "manifest.parquet")
    return folder


@pytest.mark.parametrize("transform", ["linear", "sqrt"])
def test_moments_of_the_training_chips(folder, tmp_path, monkeypatch, transform):
    monkeypatch.setattr(stats_module, "CHUNK", 7)
    write_stats(SPEC, folder, tmp_path / "stats.json")
    stats = BandStats.load(tmp_path / "stats.json", SPEC.fingerprint)
    training = np.flatnonzero(np.arange(30) % 3)
    reflectance = to_reflectance(*ChipStore(folder).read(training)).double()
    values = reflectance.sqrt() if transform == "sqrt" else reflectance
    moments = getattr(stats, transform)
    np.testing.assert_allclose(moments.mean, values.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(moments.std, values.std((0, 2, 3), correction=0), rtol=1e-5)
    assert stats.pixels == 20 * 64 and stats.fingerprint == SPEC.fingerprint and tuple(stats.bands) == BANDS


@pytest.mark.parametrize("transform", ["linear", "sqrt"])
def test_standardise(folder, tmp_path, transform):
    write_stats(SPEC, folder, tmp_path / "stats.json")
    stats = BandStats.load(tmp_path / "stats.json", SPEC.fingerprint)
    reflectance = to_reflectance(*ChipStore(folder).read(np.flatnonzero(np.arange(30) % 3)))
    standard = stats.standardise(reflectance, transform)
    np.testing.assert_allclose(standard.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(standard.std((0, 2, 3), correction=0), 1, atol=1e-3)


@pytest.mark.parametrize("transform", ["linear", "sqrt"])
def test_model_input_is_standardised_reflectance_without_extremes(folder, tmp_path, transform):
    write_stats(SPEC, folder, tmp_path / "stats.json")
    stats = BandStats.load(tmp_path / "stats.json", SPEC.fingerprint)
    dn10, dn20, offset_dn = ChipStore(folder).read(np.arange(1, 3))
    dn10[0, 0, 0, 0] = 65_535
    wanted = stats.standardise(to_reflectance(dn10, dn20, offset_dn), transform)
    pixels = stats.model_input(dn10, dn20, offset_dn, transform)
    assert wanted.max() > CLIP_SIGMA and pixels.max() == CLIP_SIGMA
    assert torch.equal(pixels[wanted < CLIP_SIGMA], wanted[wanted < CLIP_SIGMA])


def test_large_sets_are_sampled_the_same_way_each_time(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(stats_module, "MAX_CHIPS", 5)
    for name in ("a.json", "b.json"):
        write_stats(SPEC, folder, tmp_path / name)
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()
    assert BandStats.load(tmp_path / "a.json", SPEC.fingerprint).pixels == 5 * 64


def test_json_has_the_stated_shape(folder, tmp_path):
    write_stats(SPEC, folder, tmp_path / "stats.json")
    raw = json.loads((tmp_path / "stats.json").read_text())
    assert set(raw) == {"bands", "linear", "sqrt", "pixels", "fingerprint"}
    assert len(raw["sqrt"]["mean"]) == len(raw["linear"]["std"]) == 10
    assert BandStats.from_dict(raw).as_dict() == raw


def test_bad_input(folder, tmp_path):
    with pytest.raises(GeoladderError, match="no band statistics at"):
        BandStats.load(tmp_path / "absent.json", SPEC.fingerprint)
    for text in ("{}", "[1]", "not json"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(GeoladderError, match=r"bad.json holds no band statistics"):
            BandStats.load(tmp_path / "bad.json", SPEC.fingerprint)
    manifest = pd.read_parquet(folder / "manifest.parquet")
    manifest.assign(split="val").to_parquet(folder / "manifest.parquet")
    with pytest.raises(GeoladderError, match="no training chips"):
        write_stats(SPEC, folder, tmp_path / "stats.json")


def test_statistics_of_another_study_are_refused(folder, tmp_path):
    path = tmp_path / "stats.json"
    write_stats(SPEC, folder, path)
    with pytest.raises(
        GeoladderError, match=r"of another study.*was made from .* but 0123456789ab is wanted"
    ):
        BandStats.load(path, "0123456789ab")
    seal_path(path).unlink()
    with pytest.raises(GeoladderError, match=r"of another study: its fingerprint is .* but 0123456789ab"):
        BandStats.load(path, "0123456789ab")


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("std", [0.0] * 10, "std of linear reflectance is 0.0"),
        ("std", [-0.1] * 10, "std of linear reflectance is -0.1"),
        ("mean", [0.1], "mean of linear reflectance has 1 numbers for 10 bands"),
        ("mean", [0.1] * 9 + [1e308], "mean of linear reflectance is 1e"),
        ("mean", [0.1] * 9 + [None], "holds no band statistics"),
        ("mean", [0.1] * 9 + [float("nan")], "mean of linear reflectance is nan"),
    ],
)
def test_statistics_that_no_pixels_have_are_refused(folder, tmp_path, part, values, message):
    write_stats(SPEC, folder, tmp_path / "stats.json")
    raw = json.loads((tmp_path / "stats.json").read_text())
    raw["linear"][part] = values
    (tmp_path / "edited.json").write_text(json.dumps(raw))
    with pytest.raises(GeoladderError, match=message):
        BandStats.load(tmp_path / "edited.json", SPEC.fingerprint)


def test_constant_band_is_refused(folder, tmp_path):
    dn10 = np.load(folder / "10m-00000.npy")
    dn10[:, 2] = 1000  # 0 or 0.1 by offset: set one offset so that the band is constant
    np.save(folder / "10m-00000.npy", dn10)
    manifest = pd.read_parquet(folder / "manifest.parquet").assign(offset_dn=0)
    manifest.to_parquet(folder / "manifest.parquet")
    with pytest.raises(GeoladderError, match="band B04 is the same"):
        write_stats(SPEC, folder, tmp_path / "stats.json")
