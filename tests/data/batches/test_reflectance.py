"""Stored digital numbers as reflectance at 10 m."""

import numpy as np
import pytest
import torch

from geoladder.data.batches.batch import to_reflectance
from geoladder.errors import GeoladderError


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
