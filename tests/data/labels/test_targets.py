import numpy as np
import pytest

from geoladder.data.labels.targets import (
    EARTH_RADIUS_KM,
    decode_date,
    great_circle_km,
)


def test_known_distances():
    paris_london = great_circle_km(48.8566, 2.3522, 51.5074, -0.1278)
    assert paris_london == pytest.approx(343.6, abs=0.5)
    assert great_circle_km(0, 179.5, 0, -179.5) == pytest.approx(111.195, abs=0.01)
    assert great_circle_km(90, 0, -90, 77) == pytest.approx(np.pi * EARTH_RADIUS_KM)


def test_days_decode_from_their_angle_on_a_year_of_365_days():
    days = np.arange(1, 367)
    angle = 2 * np.pi * days / 365
    encoding = np.stack([np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)
    np.testing.assert_array_equal(decode_date(encoding), [*range(1, 366), 1])
