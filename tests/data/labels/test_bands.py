import numpy as np
import pytest
import torch

from geoladder.data.labels.bands import (
    BANDS,
    BANDS_10M,
    BANDS_20M,
    baseline,
    boa_offset_dn,
    offset_from_pixels,
    to_reflectance,
)
from geoladder.errors import GeoladderError


@pytest.mark.parametrize(
    ("number", "offset"),
    [("0205", 0), ("0301", 0), ("0400", 1000), ("0500", 1000), ("0511", 1000), ("9999", None)],
)
def test_offset_follows_baseline_and_not_the_date(make, number, offset):
    for date in ("20160101", "20240101"):
        product = make.product(date, number)
        assert baseline(product) == number
        assert boa_offset_dn(product) == offset


def test_name_without_baseline_is_unknown():
    assert baseline("S2A_T33UUU_20170216") == "9999"
    assert boa_offset_dn("S2A_T33UUU_20170216") is None


def test_offset_from_pixels_looks_at_the_darkest_band_and_ignores_nodata():
    bright = np.full((20, 20), 5000, np.uint16)
    dark = np.full((20, 20), 300, np.uint16)
    shifted = dark + np.uint16(1000)
    bright[:10] = dark[:10] = shifted[:10] = 0
    assert offset_from_pixels([bright, dark]) == 0
    assert offset_from_pixels([bright, shifted]) == 1000
    assert offset_from_pixels([np.zeros((4, 4), np.uint16)]) == 0


def test_reflectance_of_known_dn():
    dn10 = np.full((2, 4, 4, 4), 3000, np.uint16)
    dn20 = np.full((2, 6, 2, 2), 1500, np.uint16)
    out = to_reflectance(dn10, dn20, np.array([1000, 0]))
    assert out.shape == (2, 10, 4, 4) and out.dtype == torch.float32
    np.testing.assert_allclose(out[0, :4], 0.2, rtol=1e-6)
    np.testing.assert_allclose(out[1, :4], 0.3, rtol=1e-6)
    np.testing.assert_allclose(out[0, 4:], 0.05, rtol=1e-6)
    np.testing.assert_allclose(out[1, 4:], 0.15, rtol=1e-6)


def test_nodata_and_overshoot_become_zero():
    dn = np.array([0, 950, 1000, 1001], np.uint16).reshape(1, 1, 2, 2).repeat(10, 1)
    np.testing.assert_allclose(to_reflectance(dn, None, 1000)[0, 0].flatten(), [0, 0, 0, 1e-4], atol=1e-9)


def test_20m_bands_are_aligned_with_10m_bands():
    """A linear ramp in 20 m pixels stays on the same line in 10 m pixels, away from the edge."""
    centre20 = np.arange(8) * 20.0 + 10
    ramp20 = np.broadcast_to(1000 + 10 * centre20, (1, 6, 8, 8)).astype(np.uint16)
    out = to_reflectance(np.ones((1, 4, 16, 16), np.uint16), ramp20, 0)
    centre10 = np.arange(16) * 10.0 + 5
    np.testing.assert_allclose(out[0, 4, 3, 1:-1], (1000 + 10 * centre10[1:-1]) / 1e4, rtol=1e-5)


def test_tensors_and_arrays_agree():
    rng = np.random.default_rng(0)
    dn10 = rng.integers(0, 9000, (3, 4, 8, 8), dtype=np.uint16)
    dn20 = rng.integers(0, 9000, (3, 6, 4, 4), dtype=np.uint16)
    offset = np.array([0, 1000, 1000])
    from_tensors = to_reflectance(torch.from_numpy(dn10), torch.from_numpy(dn20), torch.from_numpy(offset))
    assert torch.equal(to_reflectance(dn10, dn20, offset), from_tensors)


@pytest.mark.parametrize(
    ("shape10", "shape20"), [((1, 4, 8, 8), None), ((1, 4, 8, 8), (1, 6, 8, 8)), ((1, 3, 8, 8), (1, 6, 4, 4))]
)
def test_wrong_shapes_are_refused(shape10, shape20):
    dn20 = None if shape20 is None else np.ones(shape20, np.uint16)
    with pytest.raises(GeoladderError, match=r"\(1, "):
        to_reflectance(np.ones(shape10, np.uint16), dn20, 0)


def test_bands_are_in_the_order_of_the_bench():
    """PhilEO Bench and the weights of others rely on it, so it is written out here once more."""
    assert BANDS_10M == ("B02", "B03", "B04", "B08")
    assert BANDS_20M == ("B05", "B06", "B07", "B8A", "B11", "B12")
    assert BANDS == ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")
