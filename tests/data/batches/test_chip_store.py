import shutil
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch

from geoladder.data.batches import chip_store
from geoladder.data.batches.batch import CLIP_SIGMA, BandStats, PretrainBatch
from geoladder.data.batches.chip_store import ChipStore, training_chips, validation_chips
from geoladder.errors import GeoladderError
from pretraining import STATS


@pytest.fixture
def opened(corpus):
    return corpus / "chips", BandStats.load(corpus / "stats.json", STATS)


def take(batches, count):
    return [next(batches) for _ in range(count)]


def same(a, b):
    return (
        torch.equal(a.pixels, b.pixels)
        and torch.equal(a.mask, b.mask)
        and a.targets.keys() == b.targets.keys()
        and all(torch.equal(a.targets[name], b.targets[name]) for name in a.targets)
    )


def rows(batch, which):
    """Some samples of a batch."""
    targets = {name: truth[which] for name, truth in batch.targets.items()}
    return PretrainBatch(batch.pixels[which], batch.mask[which], targets)


def test_a_batch_is_what_models_expect(opened, pretrain_spec):
    spec = pretrain_spec()
    batch = next(training_chips(spec, *opened).batches(0))
    assert batch.pixels.shape == (8, 10, 16, 16)
    assert batch.pixels.dtype == torch.float32
    assert batch.mask.shape == (8, 1, 16, 16)
    assert batch.targets["geo"].shape == (8, 4)
    assert batch.targets["climate"].dtype == torch.int64
    assert batch.pixels.abs().max() <= CLIP_SIGMA


def test_standardised_over_the_training_set(opened, pretrain_spec):
    spec = pretrain_spec()
    chips = training_chips(spec, *opened)
    mask = torch.zeros(len(chips), 1, 16, 16, dtype=torch.bool)
    pixels = chips.batch(np.arange(len(chips)), mask).pixels
    assert pixels.mean(dim=(0, 2, 3)).abs().max() < 1e-3
    assert (pixels.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3


def test_batches_are_a_function_of_seed_and_step(opened, pretrain_spec):
    spec = pretrain_spec()
    chips = training_chips(spec, *opened)
    whole = take(chips.batches(0), 20)
    resumed = take(chips.batches(13), 7)
    assert all(map(same, whole[13:], resumed))
    other = next(training_chips(pretrain_spec(seed=1), *opened).batches(0))
    assert not torch.equal(other.pixels, whole[0].pixels)
    assert not torch.equal(other.mask, whole[0].mask)
    assert not torch.equal(whole[0].mask, whole[1].mask)


def test_ranks_share_the_batch_of_one(opened, pretrain_spec):
    spec = pretrain_spec()
    chips = training_chips(spec, *opened)
    alone = next(chips.batches(3))
    parts = [next(chips.batches(3, rank, 2)) for rank in range(2)]
    for i, part in enumerate(parts):
        assert same(part, rows(alone, slice(i, None, 2)))


def test_ranks_that_cannot_share_evenly_are_refused(opened, pretrain_spec):
    spec = pretrain_spec()
    with pytest.raises(GeoladderError, match=r"compute\.devices"):
        next(training_chips(spec, *opened).batches(0, 0, 3))


def test_reading_from_disk_gives_the_same(opened, pretrain_spec, monkeypatch):
    spec = pretrain_spec()
    batch = next(training_chips(spec, *opened).batches(2))
    monkeypatch.setattr(chip_store, "IN_MEMORY_BYTES", 0)
    assert same(batch, next(training_chips(spec, *opened).batches(2)))


def places(chips):
    lat_deg, lon_deg, _ = chips.places(np.arange(len(chips)))
    return set(zip(lat_deg, lon_deg, strict=True))


def test_fractions_are_nested_and_drawn_by_the_seed(opened, pretrain_spec):
    def of(fraction, seed=0):
        return places(training_chips(pretrain_spec(fraction=Fraction(fraction), seed=seed), *opened))

    whole = of(1)
    assert len(whole) == 18 * 4  # of 24 cells, a quarter is for validation
    assert of("1/4") < of("1/2") < whole
    assert of("1/2", seed=1) != of("1/2")
    assert of(1, seed=1) == whole


def test_no_chip_left_says_how_many_cells_there_were(opened, pretrain_spec):
    with pytest.raises(GeoladderError, match="majortom@1/100000 has no training chip: 0 of 18 grid cells"):
        training_chips(pretrain_spec(fraction=Fraction(1, 100000)), *opened)


def test_the_validation_set_is_the_same_for_all_cells(opened, pretrain_spec):
    chips = validation_chips(pretrain_spec(), *opened)
    assert len(chips) == 16
    assert not places(chips) & places(training_chips(pretrain_spec(), *opened))
    other = validation_chips(pretrain_spec(seed=5, fraction=Fraction(1, 2)), *opened)
    assert places(other) == places(chips)
    assert len(validation_chips(pretrain_spec(validation_chips=99), *opened)) == 24


def test_validation_masks_never_change_and_do_not_depend_on_which_chips_are_looked_at(opened, pretrain_spec):
    spec = pretrain_spec()
    chips = validation_chips(spec, *opened)
    (whole,) = chips.validation_batches(spec.objective, np.arange(16))
    (some,) = chips.validation_batches(spec.objective, np.array([3, 9]))
    assert same(some, rows(whole, [3, 9]))


def test_a_corpus_without_validation_chips_is_refused(corpus, tmp_path, pretrain_spec):
    shutil.copytree(corpus / "chips", tmp_path / "chips")
    manifest = pd.read_parquet(tmp_path / "chips/manifest.parquet")
    manifest.assign(split="train").to_parquet(tmp_path / "chips/manifest.parquet")
    with pytest.raises(GeoladderError, match="no validation chip"):
        validation_chips(pretrain_spec(), tmp_path / "chips", BandStats.load(corpus / "stats.json", STATS))
    assert len(ChipStore(corpus / "chips")) == 96
