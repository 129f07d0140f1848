import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoladder.data.batches.order import batch_at, permuted
from geoladder.errors import GeoladderError


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 70), st.integers(0, 2**40))
def test_each_chip_once_per_epoch(n_chips, batch, seed):
    epochs = 3
    steps = -(-epochs * n_chips // batch)
    seen = np.concatenate([batch_at(step, batch, n_chips, seed) for step in range(steps)])[: epochs * n_chips]
    for epoch in seen.reshape(epochs, n_chips):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(n_chips))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 64), st.integers(1, 10**7), st.integers(0, 1000))
def test_any_step_is_reproducible_and_independent_of_the_batch_size(step, batch, n_chips, seed):
    chips = batch_at(step, batch, n_chips, seed)
    assert chips.shape == (batch,) and chips.dtype == np.int64
    assert chips.min() >= 0 and chips.max() < n_chips
    one_by_one = [batch_at(step * batch + k, 1, n_chips, seed)[0] for k in range(batch)]
    np.testing.assert_array_equal(chips, one_by_one)


def test_order_is_shuffled_and_differs_by_epoch_and_seed():
    n = 5000
    place = np.arange(n)
    orders = [permuted(place, n, seed, np.full(n, epoch)) for seed, epoch in [(0, 0), (0, 1), (1, 0)]]
    for order in orders:
        assert abs(np.corrcoef(place, order)[0, 1]) < 0.05
        assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert abs(np.corrcoef(orders[one], orders[other])[0, 1]) < 0.05


def test_first_chip_is_uniform_over_seeds():
    """Chi-square of 16 cells, 1600 draws: 15 degrees of freedom, 37.7 is the 0.1 % point."""
    first = [permuted(np.array([0]), 16, seed, np.array([0]))[0] for seed in range(1600)]
    counts = np.bincount(first, minlength=16)
    assert ((counts - 100) ** 2 / 100).sum() < 37.7


def test_empty_training_set_is_refused():
    with pytest.raises(GeoladderError, match="no training chips"):
        batch_at(0, 4, 0, 0)
