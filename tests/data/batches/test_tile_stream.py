"""Crops read straight from tiles: the same batches by any number of readers, and runs that go on."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from geoladder.data.archives.majortom import MajorTom
from geoladder.data.batches.batch import CLIP_SIGMA, BandStats, to_reflectance
from geoladder.data.batches.tile_stream import TileCrops, TileReader, open_tiles
from geoladder.data.index.build import build_index
from geoladder.errors import GeoladderError
from geoladder.registry.target import Places
from geoladder.study.corpora import Corpus, Earth
from geoladder.study.pretraining import Objective
from geoladder.study.specs import IndexSpec, TileReading
from geoladder.synth.archive import write_archive
from geoladder.training.job import Hardware, Inputs
from geoladder.training.pretrain import pretrain

PX = 16
READING = TileReading(crops_per_tile=4, shuffle_window=8, max_cloud_share=1.0)
INDEX = IndexSpec(
    archive="0",
    bench="0",
    exclude_bench="none",
    one_product_per_cell=True,
    max_cloud_percent=100,
    max_nodata_share=0.5,
    max_corrupt_share=0.5,
    harmonise="baseline",
    validation_share=0.2,
    bench_buffer_km=0,
)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """A folder with archive/ and index.parquet."""
    folder = tmp_path_factory.mktemp("tiles")
    write_archive(folder / "archive", Earth(tile_px=48), Corpus(tiles=16), 1)
    build_index(INDEX, folder / "archive", Path("no-bench"), folder / "index.parquet", folder / "ledger.csv")
    return folder


@pytest.fixture
def crops_of(tiles, corpus, pretrain_spec):
    def make(workers=0, **changes):
        spec = pretrain_spec(tiles=READING, **changes)
        stats = BandStats.load(corpus / "stats.json")
        return TileCrops(spec, tiles / "archive", tiles / "index.parquet", stats, PX, workers)

    return make


def stored(crops, positions):
    """Samples as a reader gives them."""
    return TileReader(crops, 8)[positions]


def take(batches, count):
    return [next(batches) for _ in range(count)]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(two), strict=True))


def tensors(batch):
    return [batch.pixels, batch.mask, *(batch.targets[name] for name in sorted(batch.targets))]


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same_batches(crops_of, workers):
    for one, two in zip(take(crops_of().batches(0), 6), take(crops_of(workers).batches(0), 6), strict=True):
        assert same(one, two)


@pytest.mark.parametrize("ranks", [2, 8])
def test_ranks_share_the_same_global_batch(crops_of, ranks):
    whole = take(crops_of().batches(0), 3)
    slices = [take(crops_of().batches(0, rank, ranks), 3) for rank in range(ranks)]
    for step, batch in enumerate(whole):
        for rank in range(ranks):
            for part, piece in zip(tensors(batch), tensors(slices[rank][step]), strict=True):
                assert torch.equal(part[rank::ranks], piece)


def test_a_stream_goes_on_at_any_step(crops_of):
    whole = take(crops_of().batches(0), 12)
    for first in (1, 7, 11):
        assert same(whole[first], next(crops_of().batches(first)))


def test_ranks_that_cannot_share_a_batch_are_refused(crops_of):
    with pytest.raises(GeoladderError, match="8 samples cannot be shared evenly by 3 devices"):
        next(crops_of().batches(0, 0, 3))


def test_without_shared_memory_a_rank_reads_the_same_batches_itself(crops_of, monkeypatch, caplog):
    def refuse(**_):
        raise OSError("no /dev/shm")

    monkeypatch.setattr("geoladder.data.batches.tile_stream.SharedMemory", refuse)
    for one, two in zip(take(crops_of().batches(0), 2), take(crops_of(3).batches(0), 2), strict=True):
        assert same(one, two)
    assert caplog.text.count("no memory can be shared here (no /dev/shm)") == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_out_of_a_worker_as_it_is(tiles, corpus, pretrain_spec, workers):
    stats = BandStats.load(corpus / "stats.json")
    spec = pretrain_spec(tiles=READING)
    crops = TileCrops(spec, tiles / "archive", tiles / "index.parquet", stats, 64, workers)
    with pytest.raises(
        GeoladderError, match=r"^of \d+ training tiles in a row, .* none gives a crop of 64 px"
    ):
        next(crops.batches(0))


def test_crops_have_the_labels_of_their_own_centres(crops_of, bands):
    crops = crops_of(objective=Objective(targets={"band": bands}))
    places = Places(*stored(crops, np.arange(8))[3:])
    classes = next(crops.batches(0)).targets["band"]
    assert classes.tolist() == bands.entry.encode(bands.settings, places).tolist()
    assert len(set(classes.tolist())) > 1


@pytest.mark.parametrize("workers", [0, 2])
def test_pixels_are_dn_less_the_offset_of_their_own_tile(tiles, corpus, pretrain_spec, tmp_path, workers):
    """The index says the offset of each tile, here another one each."""
    table = pd.read_parquet(tiles / "index.parquet")
    table.assign(offset_dn=100 + 70 * np.arange(len(table))).to_parquet(tmp_path / "index.parquet")
    spec, stats = pretrain_spec(tiles=READING), BandStats.load(corpus / "stats.json")
    crops = TileCrops(spec, tiles / "archive", tmp_path / "index.parquet", stats, PX, workers)
    index = open_tiles(tmp_path / "index.parquet", "majortom", spec.fraction, spec.seed)
    tile = [tile for _, tile, _ in crops.samples_of(np.arange(8))]
    dn10, dn20, *_ = stored(crops, np.arange(8))
    offsets = index["offset_dn"][tile].to_numpy(np.int64)
    assert len(set(offsets)) > 1
    reflectance = to_reflectance(dn10, dn20, offsets)
    mean, std = (torch.tensor(values).view(10, 1, 1) for values in (stats.sqrt.mean, stats.sqrt.std))
    wanted = ((reflectance.sqrt() - mean) / std).clamp(-CLIP_SIGMA, CLIP_SIGMA)
    torch.testing.assert_close(next(crops.batches(0)).pixels, wanted)


def test_crops_are_bit_exact_squares_of_their_tiles_on_the_20_m_grid(crops_of, tiles):
    crops = crops_of()
    index = open_tiles(tiles / "index.parquet", "majortom", crops._spec.fraction, crops._spec.seed)
    positions = np.arange(24)
    dn10, dn20, *_ = stored(crops, positions)
    archive = MajorTom(tiles / "archive")
    for number, (_, which, _) in enumerate(crops.samples_of(positions)):
        whole = archive.read(index["part"][which], index["row"][which])
        places = [
            (top, left)
            for top in range(0, 48 - PX + 1, 2)
            for left in range(0, 48 - PX + 1, 2)
            if np.array_equal(whole.dn10[:, top : top + PX, left : left + PX], dn10[number])
        ]
        assert places
        assert any(
            np.array_equal(
                whole.dn20[:, top // 2 : (top + PX) // 2, left // 2 : (left + PX) // 2], dn20[number]
            )
            for top, left in places
        )


def test_a_tile_is_read_once_for_all_its_crops(crops_of, monkeypatch):
    crops = crops_of()
    read = []
    real = MajorTom.read
    monkeypatch.setattr(MajorTom, "read", lambda self, *place: read.append(place) or real(self, *place))
    take(crops.batches(0), len(crops) * READING.crops_per_tile // 8)
    assert len(read) == len(set(read)) <= len(crops)


def test_a_run_on_tiles_says_what_it_saw_and_goes_on_after_a_shot(
    tiles, corpus, pretrain_spec, tmp_path, monkeypatch
):
    spec = pretrain_spec(tiles=READING, samples=64, checkpoint_every=3)

    def run(out):
        inputs = Inputs(
            corpus / "chips",
            corpus / "stats.json",
            archive=tiles / "archive",
            index=tiles / "index.parquet",
        )
        pretrain(spec, inputs, Hardware(), out)
        return json.loads((out / "metrics.json").read_text())

    whole = run(tmp_path / "whole")
    assert whole["samples_seen"] == 64
    assert 0 < whole["unique_pixels"] <= 16 * 48**2
    assert 0 < whole["coverage"] <= 1

    class Shot(Exception):
        pass

    with monkeypatch.context() as patch:
        real = TileCrops.batches

        def shot(self, first_step, *ranks):
            for number, batch in enumerate(real(self, first_step, *ranks)):
                if number == 5:
                    raise Shot
                yield batch

        patch.setattr(TileCrops, "batches", shot)
        with pytest.raises(Shot):
            run(tmp_path / "shot")
    assert run(tmp_path / "shot")["metrics"] == whole["metrics"]


def test_what_is_missing_is_named(corpus, pretrain_spec, tmp_path):
    inputs = Inputs(corpus / "chips", corpus / "stats.json")
    with pytest.raises(GeoladderError, match="--archive and --index"):
        pretrain(pretrain_spec(tiles=READING), inputs, Hardware(), tmp_path / "a")
    with pytest.raises(GeoladderError, match="--chips"):
        pretrain(pretrain_spec(), inputs, Hardware(), tmp_path / "b")
