"""Places as four numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoladder.data.labels.targets import EARTH_RADIUS_KM, great_circle_km
from geoladder.training.targets.geo import decode_geo, geo_encoding

lats, lons = st.floats(-90, 90), st.floats(-180, 180)


@given(lats, lons)
def test_places_survive_encoding(lat, lon):
    encoding = geo_encoding(np.array([lat]), np.array([lon]))
    assert encoding.shape == (1, 4) and encoding.dtype == np.float32
    assert np.abs(encoding).max() <= 1
    assert great_circle_km(lat, lon, *decode_geo(encoding))[0] < 0.01


@given(lats, lons, lats, lons)
def test_far_places_have_far_codes(lat, lon, other_lat, other_lon):
    """The chord through the Earth is a lower bound of the distance between codes, so the encoding is injective."""
    one, other = geo_encoding(np.array([lat, other_lat]), np.array([lon, other_lon])).astype(float)
    chord = 2 * np.sin(great_circle_km(lat, lon, other_lat, other_lon) / EARTH_RADIUS_KM / 2)
    assert np.linalg.norm(one - other) >= chord - 1e-5


def test_poles_differ():
    south, north = geo_encoding(np.array([-90.0, 90.0]), np.zeros(2))
    assert np.linalg.norm(south - north) == pytest.approx(2)


def test_predictions_off_the_circle_decode_to_real_places():
    lat, lon = decode_geo(np.array([[0.0, 3.0, 0.5, -0.1], [0.0, 0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(lat, [90, 0])
    np.testing.assert_allclose(lon, [0, 0])
