import numpy as np
import pytest

from geoladder.data.labels.bands import (
    BANDS,
    BANDS_10M,
    BANDS_20M,
    baseline,
    boa_offset_dn,
    offset_from_pixels,
)


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


def test_bands_are_in_the_order_of_the_bench():
    """PhilEO Bench and the weights of others rely on it, so it is written out here once more."""
    assert BANDS_10M == ("B02", "B03", "B04", "B08")
    assert BANDS_20M == ("B05", "B06", "B07", "B8A", "B11", "B12")
    assert BANDS == ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")
