"""2 to a power in all lanes at once, and what reads and writes some lanes, as compiled code."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from geoladder.models import exp2_lanes, lanes, scan_kernels
from geoladder.models.exp2_lanes import exp2
from geoladder.models.lanes import LANES, load, load_first, store, store_first, totals, transpose


@njit
def powers(x, out):
    for i in range(0, x.size, LANES):
        store(out, i, exp2(load(x, i)))


@njit
def copy_first(source, target, count):
    store_first(target, 1, load_first(source, 2, count), count)


@njit
def all_lanes_of_first(source, target, count):
    store(target, 0, load_first(source, 0, count))


@njit
def sum_rows(tile, out):
    store(out, 0, totals(tile, 0))


@njit
def turn(source, stride, out):
    transpose(out, 0, source, 0, stride)


LOWEST = {np.float32: -100, np.float64: -900}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_powers_of_two_are_within_two_units_in_the_last_place(dtype):
    x = np.linspace(LOWEST[dtype], np.finfo(dtype).maxexp - 2, 1 << 18, dtype=dtype)
    got = np.empty_like(x)
    powers(x, got)
    want = np.exp2(x.astype(np.longdouble))
    assert np.max(np.abs(got - want) / np.spacing(want.astype(dtype))) < 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_powers(dtype):
    highest = np.finfo(dtype).maxexp - 1
    x = np.zeros(LANES, dtype)
    x[:6] = 0, np.nan, -np.inf, -1e6, np.inf, highest + 4
    got = np.empty_like(x)
    powers(x, got)
    assert got[0] == 1
    assert np.isnan(got[1])
    assert got[2] == got[3] == 2.0 ** LOWEST[dtype]
    assert got[4] == got[5] == 2.0**highest
    assert (got[6:] == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 5, LANES])
def test_only_the_first_lanes_are_read_and_written(dtype, count):
    source, target = np.arange(1, 3 * LANES, dtype=dtype), np.zeros(3 * LANES, dtype)
    copy_first(source, target, count)
    assert target[1 : 1 + count].tolist() == source[2 : 2 + count].tolist()
    assert target[0] == 0
    assert not target[1 + count :].any()
    all_lanes_of_first(source, target, count)
    assert target[:count].tolist() == source[:count].tolist()
    assert not target[count:LANES].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_of_rows_and_transposed_tiles(dtype):
    tile = np.arange(LANES * LANES, dtype=dtype).reshape(LANES, LANES)
    sums = np.empty(LANES, dtype)
    sum_rows(tile, sums)
    assert sums.tolist() == tile.sum(1).tolist()
    wide = np.arange(LANES * (LANES + 7), dtype=dtype).reshape(LANES, LANES + 7)
    turned = np.empty_like(tile)
    turn(wide, LANES + 7, turned)
    assert np.array_equal(turned, wide[:, :LANES].T)


def test_cached_kernels_are_compiled_anew_when_their_parts_change():
    parts = b"".join(Path(module.__file__).read_bytes() for module in (lanes, exp2_lanes))
    digest = hashlib.sha256(parts).hexdigest()[: len(scan_kernels.MADE_OF)]
    assert digest == scan_kernels.MADE_OF, "write this digest to scan_kernels.MADE_OF"
