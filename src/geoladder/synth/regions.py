"""The regions of PhilEO Bench and the tiles a synthetic bench has in them.

Tiles are the most settled of some cells near each region's true place, and their dates the clearest of some, as the
real ones were picked for their labels. A region's weight evens out that half of the buckets consist of one region.
"""

from typing import NamedTuple

import numpy as np

from geoladder.data.archives.grid import cell_of
from geoladder.errors import GeoladderError
from geoladder.study.corpora import Earth
from geoladder.study.downstream import Bench
from geoladder.synth.atmosphere import Day
from geoladder.synth.earth import stream, table
from geoladder.synth.place import Place
from geoladder.synth.rows import draw_baseline, draw_date

DATES = 2  # revisits of each tile
CANDIDATES = 12  # cells looked at for each tile
DATE_TRIES = 6
SQUARE_METRES_SHARE, NAN_SHARE = 0.15, 0.1  # of tiles: labels in 0-100, labels with NaN


class Region(NamedTuple):
    """A region of the bench, a row of regions.csv."""

    name: str  # as in the file names
    lat_deg: float  # middle
    lon_deg: float
    spread_deg: float  # tiles lie at most so far from the middle, in latitude and longitude
    weight: int  # tiles in units of `train_tiles` and `test_tiles`
    roads: bool  # whether road labels exist
    tested: bool  # whether it has test tiles


REGIONS = [Region(*row) for row in table("regions").itertuples(index=False)]


class Tile(NamedTuple):
    """One bench tile: a place and its dates."""

    region: Region
    number: int  # within the region; the file name has it
    test: bool  # whether it is held out
    cell: str
    dates: list[str]  # ISO
    baselines: list[str]  # processing baseline of each date
    square_metres: bool  # labels of roads and buildings in 0-100 square metres instead of 0-1
    nan: bool  # whether these labels hold NaN


def plan_tiles(earth: Earth, region: Region, bench: Bench) -> list[Tile]:
    """Choose the cells and dates of a region's tiles; no cell twice."""
    rng = stream(earth.seed, "bench", region.name, bench.seed)
    train = bench.train_tiles * region.weight
    test = bench.test_tiles * region.weight if region.tested else 0
    tiles: list[Tile] = []
    for number in range(train + test):
        place = _settled_place(rng, earth, region, {tile.cell for tile in tiles})
        dates = sorted(_clear_date(rng, place) for _ in range(DATES))
        baselines = [draw_baseline(rng, earth) for _ in dates]
        square_metres = rng.random() < SQUARE_METRES_SHARE
        nan = rng.random() < NAN_SHARE
        tiles.append(Tile(region, number, number >= train, place.cell, dates, baselines, square_metres, nan))
    return tiles


def _settled_place(rng: np.random.Generator, earth: Earth, region: Region, taken: set[str]) -> Place:
    """The most settled of some land cells of a region."""
    best: Place | None = None
    for attempt in range(50 * CANDIDATES):
        lat = region.lat_deg + region.spread_deg * rng.uniform(-1, 1)
        place = Place(earth, cell_of(lat, region.lon_deg + region.spread_deg * rng.uniform(-1, 1)))
        usable = place.sea_share < 0.6 and place.cell not in taken
        if usable and (best is None or place.population > best.population):
            best = place
        if attempt >= CANDIDATES and best:
            return best
    raise GeoladderError(f"region {region.name} has no land cell left; ask for fewer tiles")


def _clear_date(rng: np.random.Generator, place: Place) -> str:
    """The least cloudy of a few dates."""
    dates = [draw_date(rng, place.lat_deg) for _ in range(DATE_TRIES)]
    return min(dates, key=lambda date: Day(place, date).cloud)
