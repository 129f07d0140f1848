"""Scenes: pure functions with labels that fit their pixels and spectra that fit real ones."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rasterio.io import MemoryFile

from geoladder.data.archives.grid import cell_of
from geoladder.data.labels.climate import CLASSES
from geoladder.study.corpora import Earth
from geoladder.synth.landscape import COVERS, ORCHARD
from geoladder.synth.materials import LIBRARY, snow, soils_near, water
from geoladder.synth.place import CLIMATES, Place
from geoladder.synth.scene import Scene, render
from geoladder.synth.seasons import greenness, leaf_cover, sun_position, temperature_c
from geoladder.synth.styles import style_of

EARTH = Earth()
TOKYO, BERLIN, OCEAN, ICE, LAGOS = (
    cell_of(*place) for place in ((35.7, 139.6), (52.5, 13.4), (0, -30), (-75, 40), (6.42, 3.4))
)
SAMPLE = Path(__file__).parents[2].parent / "shared" / "samples" / "majortom"
CODES = {10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100}


@pytest.fixture(scope="module")
def tokyo() -> Scene:
    return render(EARTH, TOKYO, "2020-05-01", 96)


def _digest(scene: Scene) -> tuple[float, int, float, float]:
    return (
        float(scene.reflectance.sum(dtype=np.float64)), int(scene.landcover.sum()), float(scene.roads.sum()),
        float(scene.buildings.sum()),
    )  # fmt: skip


def test_shapes_types_and_ranges(tokyo: Scene) -> None:
    assert tokyo.reflectance.shape == (10, 96, 96)
    assert tokyo.reflectance.dtype == np.float32
    assert np.isfinite(tokyo.reflectance).all()
    assert -0.1 < tokyo.reflectance.min() and tokyo.reflectance.max() < 2.5
    assert set(np.unique(tokyo.landcover)) <= CODES
    for label in (tokyo.roads, tokyo.buildings):
        assert label.dtype == np.float32
        assert 0 <= label.min() and label.max() <= 1
    assert set(np.unique(tokyo.cloud_mask)) <= {0, 1, 2, 3}


def test_same_in_another_process(tokyo: Scene) -> None:
    code = (
        "from geoladder.synth.scene import render; from geoladder.study.corpora import Earth;"
        "import numpy;"
        f"s = render(Earth(), '{TOKYO}', '2020-05-01', 96);"
        "print(repr((float(s.reflectance.sum(dtype=numpy.float64)), int(s.landcover.sum()), float(s.roads.sum()),"
        "float(s.buildings.sum()))))"
    )
    render(EARTH, BERLIN, "2020-05-01", 48)  # what was made before must not matter
    assert _digest(render(EARTH, TOKYO, "2020-05-01", 96)) == _digest(tokyo)
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.strip() == repr(_digest(tokyo))


def test_revisits_keep_the_ground_and_change_the_pixels(tokyo: Scene) -> None:
    later = render(EARTH, TOKYO, "2020-11-01", 96)
    np.testing.assert_array_equal(later.landcover, tokyo.landcover)
    np.testing.assert_array_equal(later.buildings, tokyo.buildings)
    assert np.abs(later.reflectance - tokyo.reflectance).mean() > 0.01


def test_another_seed_is_another_earth(tokyo: Scene) -> None:
    other = render(Earth(seed=1), TOKYO, "2020-05-01", 96)
    assert (other.landcover != tokyo.landcover).mean() > 0.2


def test_sea_and_ice() -> None:
    sea = render(EARTH, OCEAN, "2020-05-01", 48)
    assert (sea.landcover == 80).all()
    assert sea.roads.max() == 0
    ice = render(EARTH, ICE, "2020-12-20", 48)
    assert (ice.landcover == 70).mean() > 0.6


def test_settled_places_have_roads_and_buildings() -> None:
    scenes = [render(EARTH, cell_of(35.7 + 0.1 * step, 139.6), "2020-05-01", 192) for step in range(6)]
    roads, buildings = (
        np.stack([getattr(scene, name) for scene in scenes]) for name in ("roads", "buildings")
    )
    assert 0.01 < roads.mean() < 0.2
    assert 0.005 < buildings.mean() < 0.2
    assert (roads > 0.5).mean() > 0.3 * (roads > 0.05).mean()  # wide enough to fill pixels
    cover = np.stack([scene.landcover for scene in scenes])
    assert (roads + buildings)[cover == 50].mean() > 0.4
    assert (roads + buildings)[cover == 40].mean() < 0.1


def test_water_is_dark_in_the_infrared_and_leaves_are_bright() -> None:
    clear = Earth(haze=0)
    scenes = [render(clear, cell_of(48 + step, 9), "2020-07-01", 96) for step in range(4)]
    near, red = (np.concatenate([scene.reflectance[band].ravel() for scene in scenes]) for band in (3, 2))
    cover = np.concatenate([scene.landcover.ravel() for scene in scenes])
    cloudless = np.concatenate([scene.cloud_mask.ravel() for scene in scenes]) == 0
    trees, lakes = cloudless & (cover == 10), cloudless & (cover == 80)
    assert np.median(near[trees] / red[trees].clip(0.005)) > 3
    assert np.median(near[lakes]) < 0.06


def test_seasons_follow_hemisphere_and_climate() -> None:
    assert greenness("Cfb", 50, 170) > greenness("Cfb", 50, 350)
    assert greenness("Cfb", -40, 170) < greenness("Cfb", -40, 350)
    assert greenness("Csa", 38, 90) > greenness("Csa", 38, 240)
    assert leaf_cover("Af", 0, 10) == 1
    assert temperature_c("Dfb", 55, 15) < 0 < temperature_c("Dfb", 55, 200)
    assert sun_position(50, 172)[0] > sun_position(50, 355)[0] > 0
    elevation, azimuth = sun_position(50, 172)
    assert 55 < elevation < 63 and 120 < azimuth < 160


def test_physical_spectra() -> None:
    clear, muddy = water(0.002, 0.1, 0.02), water(0.5, 5, 0.3)
    assert clear[0] > clear[1] > clear[2] > clear[3] >= 0  # blue sea
    assert muddy[2] > 4 * clear[2]
    assert max(clear[8:]) < 1e-4  # the short-wave infrared is black
    fresh, old = snow(0.1), snow(2.0)
    assert fresh[0] > 0.97 and fresh[8] < 0.2  # white, but dark in the short-wave infrared
    assert (old <= fresh).all()


def test_soils_come_from_near_by_and_styles_from_the_region() -> None:
    assert soils_near(0, 37).shape == (12, 10)
    assert not np.array_equal(soils_near(0, 37), soils_near(50, 10))
    assert 0.02 < LIBRARY["road"].mean() < 0.3
    block = [(30 + step // 20, 136 + 0.4 * (step % 20)) for step in range(300)]
    shares = _style_shares(EARTH, block)
    assert shares[:4].sum() > 0.5  # the region's own styles prevail


def test_styles_have_a_long_tail() -> None:
    grid = [(lat, lon) for lat in range(-60, 61, 5) for lon in range(-180, 180, 5)]
    shares = _style_shares(Earth(regional_share=0), grid)
    assert 0.2 < shares[0] < 0.3  # 1 / sum of r^-1.1 over 64 ranks
    assert shares[0] > 10 * shares[30]


def _style_shares(earth: Earth, places: list[tuple[float, float]]) -> np.ndarray:
    """Shares of the styles of settlement over places, most frequent first."""
    styles = [style_of(Place(earth, cell_of(*place)), "settlement") for place in places]
    return np.sort(np.bincount(styles, minlength=earth.styles))[::-1] / len(styles)


def test_every_climate_of_the_map_has_its_numbers() -> None:
    assert list(CLIMATES) == list(CLASSES)
    assert len(COVERS) == ORCHARD + 1


def test_coast_and_climate_are_the_real_ones() -> None:
    assert Place(EARTH, OCEAN).koppen == 0
    assert Place(EARTH, BERLIN).climate in {"Cfb", "Dfb"}
    assert Place(EARTH, BERLIN).sea_share == 0
    assert 0 < Place(EARTH, LAGOS).sea_share < 1


@pytest.mark.skipif(not SAMPLE.exists(), reason="real MajorTOM sample not at hand")
def test_spectra_lie_near_real_ones() -> None:
    """The medians of two real crops lie within what is synthetic land there and then, band by band."""
    images = pq.ParquetFile(SAMPLE / "images" / "part_00001.parquet")
    names = ["B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12"]
    for row, offset, around, date in (
        (0, 1000, (-38.8, -72.5), "2020-04-08"),
        (1, 0, (57.2, 9.8), "2017-05-27"),
    ):
        table = images.read_row_group(row)
        real = []
        for name in names:
            with MemoryFile(table[name][0].as_py()) as memory, memory.open() as tif:
                pixels = tif.read(1)
            real.append((np.median(pixels[pixels > 0]) - offset) / 10_000)
        made = []
        for step in range(24):  # as many weathers
            cell = cell_of(around[0] + 0.1 * (step % 6), around[1] + 0.2 * (step // 6))
            scene = render(EARTH, cell, date, 48)
            keep = (scene.cloud_mask == 0) & (scene.landcover != 80)
            made.append(scene.reflectance[:, keep])
        low, high = np.percentile(np.concatenate(made, 1), (2, 98), axis=1)
        assert (low < real).all() and (real < high).all(), (low.round(3), np.round(real, 3), high.round(3))
        assert (high < 0.75).all()  # not by being anything at all
