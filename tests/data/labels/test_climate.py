"""The packaged Köppen map against well-known places."""

import numpy as np
import pytest
import rasterio
from layouts import write_tif

from geoladder.data.labels.climate import CLASSES, koppen, koppen_map, land_share
from geoladder.data.labels.rasters import sample
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


@pytest.fixture
def beck(tmp_path):
    """A map of 1/4 degree in Beck's manner: class k % 31 at column k, row parity shifted, no data as 255."""
    codes = (np.arange(1440)[None] + 7 * np.arange(720)[:, None]) % 31
    codes[0, :] = 255
    path = tmp_path / "beck.tif"
    write_tif(path, codes[None].astype(np.uint8), 4326, -180.0, 90.0, 0.25)
    with rasterio.open(path, "r+") as raster:
        raster.nodata = 255
    return path, codes


def test_a_raster_of_ones_own_is_sampled_at_each_place(beck) -> None:
    path, codes = beck
    rng = np.random.default_rng(4)
    rows, columns = rng.integers(1, 720, 50), rng.integers(0, 1440, 50)
    lat, lon = 90 - (rows + rng.random(50)) * 0.25, -180 + (columns + rng.random(50)) * 0.25
    sampled = koppen(lat, lon, path)
    np.testing.assert_array_equal(sampled, codes[rows, columns])
    assert sampled.dtype == np.uint8
    assert koppen(lat.reshape(5, 10), lon.reshape(5, 10), path).shape == (5, 10)
    assert koppen(89.9, 0.0, path) == 0  # no data is sea
    assert koppen(np.array([]), np.array([]), path).shape == (0,)


def test_crops_next_to_each_other_may_differ(beck) -> None:
    path, _ = beck
    west, east = koppen([50.1, 50.1], [10.249, 10.251], path)
    assert west != east


def test_a_raster_in_metres_and_places_beyond_it(tmp_path) -> None:
    path = tmp_path / "utm.tif"
    write_tif(path, np.arange(1, 5, dtype=np.uint8).reshape(1, 2, 2), 32633, 500_000.0, 5_500_000.0, 1000.0)
    assert int(sample(path, 49.648, 15.003, outside=-1)) == 1
    assert sample(path, np.array([49.648, 0.0]), np.array([15.0165, 0.0]), outside=-1).tolist() == [2, -1]


def test_rasters_that_are_no_climate_map(tmp_path) -> None:
    with pytest.raises(GeoladderError, match=r"absent.tif is no readable raster"):
        koppen(0, 0, tmp_path / "absent.tif")
    write_tif(tmp_path / "codes.tif", np.full((1, 4, 4), 77, np.uint8), 4326, -1, 1, 0.5)
    with pytest.raises(GeoladderError, match=r"codes.tif says 77 at latitude 0.* 0 \(sea\) to 30"):
        koppen(0.1, 0.1, tmp_path / "codes.tif")
    write_tif(tmp_path / "float.tif", np.ones((1, 4, 4), np.float32), 4326, -1, 1, 0.5)
    with pytest.raises(GeoladderError, match=r"float.tif has 1 band.* of float32"):
        koppen(0.1, 0.1, tmp_path / "float.tif")
    write_tif(tmp_path / "two.tif", np.ones((2, 4, 4), np.uint8), 4326, -1, 1, 0.5)
    with pytest.raises(GeoladderError, match=r"two.tif has 2 band"):
        koppen(0.1, 0.1, tmp_path / "two.tif")


def test_land_share_of_land_sea_coast_and_the_edges_of_the_map() -> None:
    share = land_share([52.5, 0.0, 90.0, -89.99, np.nan, 0.0], [13.4, -30.0, 0.0, 180.0, 1.0, np.nan])
    assert share[0] == 1 and share[1] == 0 and share[3] == 1 and share[4] == share[5] == 0
    coast = land_share(np.full(40, 43.5), np.linspace(6.5, 8.0, 40))  # the Cote d'Azur
    assert ((coast > 0) & (coast < 1)).any() and (coast == 0).any() and (coast == 1).any()
