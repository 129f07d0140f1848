"""2 to a power as the kernels compute it, and blocks and chunks of any fill."""

import numpy as np
import pytest
from numba import njit

from geoladder.models.scan_kernels import BLOCK, CHUNK, Tensors, backward, exp2, forward

LOWEST, HIGHEST = -100, 127


@njit
def powers(x, y):
    for i in range(x.size):
        y[i] = exp2(x[i])


def test_powers_of_two_are_within_two_units_in_the_last_place():
    x = np.linspace(LOWEST, HIGHEST - 1, 1 << 18, dtype=np.float32)
    y = np.empty_like(x)
    powers(x, y)
    want = np.exp2(x.astype(np.longdouble))
    assert np.max(np.abs(y - want) / np.spacing(want.astype(np.float32))) < 2


def test_special_powers():
    x = np.array([0, np.nan, -np.inf, -1e6, np.inf, HIGHEST + 4], np.float32)
    y = np.empty_like(x)
    powers(x, y)
    assert y[0] == 1
    assert np.isnan(y[1])
    assert y[2] == y[3] == 2.0**LOWEST
    assert y[4] == y[5] == 2.0**HIGHEST


def test_plain_python_and_double_precision_are_exact():
    x = np.array([-900.5, 0, 3], np.float64)
    y = np.empty_like(x)
    powers(x, y)
    assert y.tolist() == [exp2(power) for power in x] == np.exp2(x).tolist()


@pytest.mark.parametrize(("channels", "length"), [(BLOCK + 1, CHUNK + 1), (3, 5), (2 * BLOCK, 2 * CHUNK)])
def test_only_the_items_of_a_share_are_written(channels, length):
    generator = np.random.default_rng(0)
    tokens = [generator.standard_normal((3, length, size)) for size in (channels, channels, 2, 2)]
    inputs = Tensors(*tokens, -np.ones((2, channels)), np.ones(channels))
    y, states = np.full_like(inputs.u, 7), np.full((3, -(-length // CHUNK), 2, channels), 7.0)
    gradients = Tensors(
        *(np.zeros_like(array) for array in tokens), np.zeros((3, 2, channels)), np.zeros_like(y[:, 0])
    )
    forward(inputs, y, states, 1, 2)
    backward(inputs, np.ones_like(y), states, gradients, 1, 2)
    assert (y[[0, 2]] == 7).all()
    assert (states[[0, 2]] == 7).all()
    assert (y[1] != 7).all()
    for gradient in gradients:
        assert not gradient[[0, 2]].any()
        assert gradient[1].any()
