"""FastTOM's quadrant rule, against its wording."""

import numpy as np
import pytest

from geoladder.data.fasttom import best_quadrant
from geoladder.errors import GeoladderError

DRY = np.zeros((8, 8), bool)


def test_clearest_quadrant() -> None:
    mask = np.full((8, 8), 1, np.uint8)
    mask[0:4, 4:8] = 0
    mask[4:8, 0:4] = 2
    assert best_quadrant(mask, 4, DRY) == (0, 4)


def test_ties_go_to_the_last() -> None:
    assert best_quadrant(np.zeros((8, 8), np.uint8), 4, DRY) == (4, 4)


def test_a_third_must_be_clear() -> None:
    mask = np.full((8, 8), 3, np.uint8)
    mask[0, 0:4] = 0  # 4 of 16 pixels: 25 %
    assert best_quadrant(mask, 4, DRY) is None
    mask[1, 0:2] = 0  # 6 of 16: 37.5 %
    assert best_quadrant(mask, 4, DRY) == (0, 0)


def test_half_water_is_allowed_more_is_not() -> None:
    mask, water = np.zeros((8, 8), np.uint8), np.zeros((8, 8), bool)
    water[4:8, 4:6] = True
    assert best_quadrant(mask, 4, water) == (4, 4)
    water[4, 6] = True
    assert best_quadrant(mask, 4, water) is None  # the rule does not go on to the next quadrant


def test_sizes_must_fit() -> None:
    with pytest.raises(GeoladderError, match="do not fit"):
        best_quadrant(np.zeros((8, 8), np.uint8), 5, DRY)
