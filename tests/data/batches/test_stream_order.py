import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from geoladder.data.batches.order import StreamOrder, positions_of
from geoladder.errors import GeoladderError

RANKS, WORKERS = (1, 2, 3, 8), (0, 1, 3)
BATCH = 24  # every number of ranks divides it


def seen(order, steps, ranks, workers):
    """Samples of some steps as (epoch, tile, crop), in the order ranks and workers would read them."""
    positions = [
        positions_of(step, BATCH, rank, ranks, worker, max(workers, 1))
        for step in steps
        for rank in range(ranks)
        for worker in range(max(workers, 1))
    ]
    return np.stack(order.at(np.concatenate([np.empty(0, np.int64), *positions])), axis=1)


@settings(max_examples=150, deadline=None)
@given(
    tiles=st.integers(1, 400),
    crops=st.integers(1, 9),
    window=st.integers(1, 64),
    seed=st.integers(0, 2**40),
    stop=st.floats(0, 1),
    before=st.tuples(st.sampled_from(RANKS), st.sampled_from(WORKERS)),
    after=st.tuples(st.sampled_from(RANKS), st.sampled_from(WORKERS)),
)
@example(tiles=97, crops=16, window=40, seed=1, stop=0.37, before=(8, 3), after=(3, 1))
def test_each_sample_once_per_epoch_before_and_after_a_stop(tiles, crops, window, seed, stop, before, after):
    """Two epochs, stopped anywhere, and gone on with by any other number of ranks and workers."""
    order = StreamOrder(tiles, crops, seed, window)
    steps = -(-2 * order.samples // BATCH)
    stopped = round(stop * steps)
    samples = np.concatenate(
        [seen(order, range(stopped), *before), seen(order, range(stopped, steps), *after)]
    )
    for epoch in range(2):
        of_epoch = samples[samples[:, 0] == epoch]
        codes = of_epoch[:, 1] * crops + of_epoch[:, 2]
        np.testing.assert_array_equal(np.sort(codes), np.arange(tiles * crops))


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("workers", WORKERS)
def test_every_combination_reads_the_same_steps(ranks, workers):
    order = StreamOrder(500, 6, 3, 60)
    for step in (0, 17, 124, 125, 126):  # the epoch ends within step 124
        alone = seen(order, [step], 1, 0)
        shared = seen(order, [step], ranks, workers)
        np.testing.assert_array_equal(np.unique(alone, axis=0), np.unique(shared, axis=0))


def test_ranks_get_equal_shares_and_no_tiles_are_refused():
    assert [positions_of(5, 24, rank, 8).size for rank in range(8)] == [3] * 8
    with pytest.raises(GeoladderError, match="no training tiles"):
        StreamOrder(0, 4, 0, 960)


@pytest.mark.parametrize("tiles", [20_000, 100_003])
@pytest.mark.parametrize("crops", [1, 4, 16])
def test_archive_order_and_training_order_are_uncorrelated_in_the_default_window(tiles, crops):
    for seed in range(3):
        order = StreamOrder(tiles, crops, seed, 960)
        orders = [
            order.at(np.arange(epoch * order.samples, (epoch + 1) * order.samples)).tile for epoch in (0, 1)
        ]
        for tile in orders:
            assert abs(spearmanr(np.arange(tile.size), tile).statistic) < 0.05
        assert abs(spearmanr(*orders).statistic) < 0.05  # nor does one epoch tell of the next


def test_a_batch_is_of_as_many_tiles_and_spread_over_the_archive():
    order = StreamOrder(50_000, 16, 0, 960)
    for step in (0, 500, 2000):
        tile = order.at(positions_of(step, 240)).tile
        assert np.unique(tile).size == 240
        spread = np.histogram(tile, bins=8, range=(0, 50_000))[0]
        assert spread.min() > 10  # 30 are expected in each eighth


def test_crops_of_a_tile_come_soon_after_one_another_but_not_at_once():
    order = StreamOrder(50_000, 16, 0, 960)
    tile = order.at(np.arange(order.samples // 4)).tile
    place = np.flatnonzero(tile == tile[order.samples // 8])
    assert place.size == 16
    assert np.diff(place).min() >= order.lanes  # a whole round of other tiles between two crops of one
    assert place[-1] - place[0] <= 960 * 16


@pytest.mark.parametrize(("ranks", "workers"), [(1, 1), (4, 3), (8, 6), (3, 10)])
def test_every_tile_is_read_once_by_one_worker_that_holds_few(ranks, workers):
    """Simulates one worker with the cache it is told to have: reads are the tiles it saw, nearly."""
    order = StreamOrder(6000, 16, 0, 960)
    capacity = order.tiles_held(ranks * workers)
    assert capacity == 1200 // (ranks * workers) and order.reads_per_tile(ranks * workers) == 1
    positions = np.arange(0, order.samples, 1).reshape(-1, ranks * workers)[:, 1 % (ranks * workers)]
    tiles, reads, cache = order.at(positions).tile.tolist(), 0, {}
    for tile in tiles:
        if tile not in cache:
            reads += 1
            if len(cache) == capacity:
                del cache[next(iter(cache))]
        else:
            del cache[tile]
        cache[tile] = True  # youngest last
    assert reads < 1.2 * 6000 / (ranks * workers)


def test_reading_is_spread_evenly_over_time():
    order = StreamOrder(60_000, 16, 0, 960)
    tile = order.at(np.arange(40 * 16 * 240)).tile[960 * 16 :]  # once it runs
    first = np.unique(tile, return_index=True)[1]
    new_per_step = np.bincount(first // 240, minlength=tile.size // 240)[4 * 16 :]
    assert new_per_step.max() <= 2 * 240 / 16 and new_per_step.min() >= 0.5 * 240 / 16


def test_more_readers_than_divide_the_lanes_are_counted():
    order = StreamOrder(10_000, 16, 0, 960)
    assert (order.lanes, order.reads_per_tile(7), order.reads_per_tile(64)) == (240, 7, 4)


def test_an_order_of_millions_costs_nothing():
    began = time.perf_counter()
    order = StreamOrder(2_250_000, 16, 0, 960)
    for step in range(20):
        order.at(positions_of(10**6 + step, 1024, 3, 8))
    assert time.perf_counter() - began < 1
