"""The regions of PhilEO Bench and the tiles a synthetic bench has in them.

Tiles are the most settled of some cells near each region's true place, and their dates the clearest of some, as the
real ones were picked for their labels. `weight` evens out that half of the buckets consist of one region.
"""

from dataclasses import dataclass

import numpy as np

from geoladder.data.archives.grid import cell_of, centre_of
from geoladder.errors import GeoladderError
from geoladder.study.corpora import Earth
from geoladder.study.downstream import Bench
from geoladder.synth.atmosphere import weather_of
from geoladder.synth.earth import stream
from geoladder.synth.place import place_of
from geoladder.synth.rows import draw_baseline, draw_date

DATES = 2  # revisits of each tile
CANDIDATES = 12  # cells looked at for each tile
DATE_TRIES = 6
SQUARE_METRES_SHARE, NAN_SHARE = 0.15, 0.1  # of tiles: labels in 0-100, labels with NaN


@dataclass(frozen=True)
class Region:
    """A region of the bench.

    Attributes:
        name: as in the file names.
        lat_deg: middle of the region.
        lon_deg: middle of the region.
        spread_deg: tiles lie at most so far from the middle, in latitude and longitude.
        weight: tiles in units of `train_tiles` and `test_tiles`.
        roads: whether road labels exist.
        tested: whether it has test tiles.
    """

    name: str
    lat_deg: float
    lon_deg: float
    spread_deg: float
    weight: int
    roads: bool
    tested: bool


REGIONS = (
    Region("europe", 48.0, 10.0, 6.0, 2, True, True),
    Region("denmark-1", 56.0, 9.3, 0.6, 1, False, True),
    Region("denmark-2", 55.5, 11.6, 0.6, 1, False, True),
    Region("east-africa", 0.0, 37.0, 2.5, 3, True, True),
    Region("tanzania-1", -3.3, 36.8, 0.8, 1, False, False),
    Region("tanzania-2", -6.4, 38.6, 0.6, 1, False, False),
    Region("tanzania-3", -6.2, 35.7, 0.8, 1, False, True),
    Region("tanzania-4", -8.9, 33.4, 0.8, 1, False, False),
    Region("tanzania-5", -2.6, 32.9, 0.8, 1, False, False),
    Region("uganda-1", 0.6, 32.4, 0.8, 1, False, False),
    Region("eq-guinea", 1.7, 10.2, 0.6, 1, True, True),
    Region("ghana-1", 6.6, -1.5, 1.0, 1, False, True),
    Region("egypt-1", 30.6, 31.1, 0.7, 1, False, True),
    Region("isreal-1", 32.1, 34.95, 0.3, 1, False, False),
    Region("isreal-2", 31.3, 34.7, 0.3, 1, False, False),
    Region("nigeria", 8.0, 6.5, 3.0, 2, True, True),
    Region("senegal", 14.6, -16.2, 0.9, 1, True, True),
    Region("north-america", 40.0, -88.0, 10.0, 4, True, True),
    Region("south-america", -21.0, -49.0, 8.0, 4, True, True),
    Region("japan", 35.8, 138.5, 2.5, 4, True, True),
)


@dataclass(frozen=True)
class Tile:
    """One bench tile: a place and its dates.

    Attributes:
        region: name of its `Region`.
        number: within the region; the file name has it.
        test: whether it is held out.
        cell: grid cell.
        dates: ISO dates.
        baselines: processing baseline of each date.
        square_metres: labels of roads and buildings in 0-100 square metres instead of 0-1.
        nan: whether these labels hold NaN.
    """

    region: str
    number: int
    test: bool
    cell: str
    dates: tuple[str, ...]
    baselines: tuple[str, ...]
    square_metres: bool
    nan: bool


def plan_tiles(earth: Earth, region: Region, bench: Bench) -> list[Tile]:
    """Choose the cells and dates of a region's tiles; no cell twice."""
    rng = stream(earth.seed, "bench", region.name, bench.seed)
    train, test = bench.train_tiles * region.weight, bench.test_tiles * region.weight * region.tested
    tiles: list[Tile] = []
    taken: set[str] = set()
    for number in range(train + test):
        cell = _settled_cell(rng, earth, region, taken)
        taken.add(cell)
        days = sorted(_clear_date(rng, earth, cell) for _ in range(DATES))
        baselines = tuple(draw_baseline(rng, earth) for _ in days)
        odd = rng.random(2)
        tiles.append(
            Tile(
                region.name, number, number >= train, cell, tuple(days), baselines,
                bool(odd[0] < SQUARE_METRES_SHARE), bool(odd[1] < NAN_SHARE),
            )
        )  # fmt: skip
    return tiles


def _settled_cell(rng: np.random.Generator, earth: Earth, region: Region, taken: set[str]) -> str:
    """The most settled of some land cells of a region."""
    best, most = "", -1.0
    for attempt in range(50 * CANDIDATES):
        lat = region.lat_deg + region.spread_deg * rng.uniform(-1, 1)
        cell = cell_of(lat, region.lon_deg + region.spread_deg * rng.uniform(-1, 1))
        place = place_of(earth, cell)
        if place.population > most and place.sea_share < 0.6 and cell not in taken:
            best, most = cell, place.population
        if attempt >= CANDIDATES and best:
            return best
    raise GeoladderError(f"region {region.name} has no land cell left; ask for fewer tiles")


def _clear_date(rng: np.random.Generator, earth: Earth, cell: str) -> str:
    """The least cloudy of a few dates."""
    dates = [draw_date(rng, centre_of(cell)[0]) for _ in range(DATE_TRIES)]
    return min(dates, key=lambda date: weather_of(earth, cell, date).cloud)
