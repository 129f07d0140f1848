"""The packaged Köppen map against well-known places."""

import numpy as np
import pytest

from geoladder.data.climate import CLASSES, koppen, koppen_map
from geoladder.errors import GeoladderError


@pytest.mark.parametrize(
    ("place", "name"),
    [((52.5, 13.4), "Cfb"), ((-3.0, -60.5), "Af"), ((25.0, 10.0), "BWh"), ((0.0, -30.0), "sea"),
     ((72.0, -40.0), "EF"),
     ((41.6, -93.6), "Dfa"), ((37.5, -5.8), "Csa"), ((64.0, -110.0), "Dfc"), ((9.0, 8.0), "Aw")],
)  # fmt: skip
def test_known_climates(place: tuple[float, float], name: str) -> None:
    assert CLASSES[int(koppen(*place))] == name


def test_arrays_and_edges() -> None:
    codes = koppen(np.array([[90, -90], [0, 0]]), np.array([[-180, 180], [-180, 180]]))
    assert codes.shape == (2, 2)
    assert codes.dtype == np.uint8
    assert codes[1, 0] == codes[1, 1]  # the date line is one place


def test_map_has_all_classes_and_a_plausible_sea() -> None:
    whole = koppen_map()
    assert set(np.unique(whole)) <= set(range(31))
    assert len(np.unique(whole)) >= 29
    weight = np.cos(np.radians(90 - (np.arange(len(whole)) + 0.5) * 180 / len(whole)))[:, None]
    assert 0.66 < ((whole == 0) * weight).sum() / (weight.sum() * whole.shape[1]) < 0.74


@pytest.mark.parametrize("place", [(91, 0), (0, -181), (float("nan"), 0)])
def test_no_such_place(place: tuple[float, float]) -> None:
    with pytest.raises(GeoladderError, match="no climate"):
        koppen(*place)
