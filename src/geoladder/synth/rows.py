"""Which rows a synthetic MajorTOM archive has: cells, dates, products and the faults of real archives.

Unusual: the faults ("warts") are wanted. Real archives repeat cells, hold empty and half-empty tiles, misspell
coordinate systems, and once name another cell in the metadata than in the image row; cleaning must meet all of it.
"""

import datetime
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from geoladder.data.archives import grid
from geoladder.errors import GeoladderError
from geoladder.study.corpora import Earth
from geoladder.synth.earth import stream
from geoladder.synth.place import Place
from geoladder.synth.seasons import OVERPASS_HOUR, sun_position

FIRST_DAY, LAST_DAY = datetime.date(2016, 1, 1), datetime.date(2022, 1, 24)
OFFSET_FROM = datetime.date(2022, 1, 25)  # products made from this day on have baseline 04.00 or later
OLD_BASELINES = ("0205", "0208", "0211", "0214", "0301")
NEW_BASELINES = ("0500", "0510")  # reprocessed: any acquisition date
REPROCESSED = datetime.datetime(2023, 6, 1, 12)
MIN_SUN_DEG = 14.0
GLOBE_MONTHS = (1, 4, 7, 10)
GLOBE_MAX_LAT_DEG = 58.0  # the sun is up in every season
FASTTOM_TRIES = 12
DUPLICATE_SHARE, EMPTY_SHARE, EDGE_SHARE, TYPO_SHARE = 0.03, 0.01, 0.05, 0.03
ROWS_NORTH_SOUTH = (-888, 924)  # grid rows 79.8 S to 83 N

Candidate = tuple[str, str]
"""Cell and ISO date."""
Product = tuple[list[Candidate], str]
"""Candidates and processing baseline, four digits."""


class Row(NamedTuple):
    """One archive row before it is rendered."""

    candidates: list[Candidate]  # FastTOM takes the first that passes its quadrant rule, the others have one
    baseline: str
    wart: str  # fault of the pixels: "", "empty" or "swath edge"
    crs_typo: bool  # whether the metadata say `EPSG:EPSG:...`
    wrong_cell: bool = False  # whether the metadata name a neighbouring cell


def _places(rng: np.random.Generator, earth: Earth) -> Iterator[Place]:
    """Endless cells, uniform by area between 79.8 S and 83 N."""
    south, north = (math.sin(math.radians(row * grid.ROW_DEG)) for row in ROWS_NORTH_SOUTH)
    while True:
        lat_deg = math.degrees(math.asin(rng.uniform(south, north)))
        yield Place(earth, grid.cell_of(lat_deg, rng.uniform(-180, 180)))


def _land(rng: np.random.Generator, earth: Earth, max_lat_deg: float = 90.0) -> Place:
    """A cell that is mostly land."""
    return next(
        place
        for place in _places(rng, earth)
        if place.koppen != 0 and place.sea_share < 0.5 and abs(place.lat_deg) < max_lat_deg
    )


def draw_date(rng: np.random.Generator, lat_deg: float) -> str:
    """A day between 2016 and January 2022 with the sun at least 14 degrees up at the overpass."""
    days = (LAST_DAY - FIRST_DAY).days
    while True:
        date = FIRST_DAY + datetime.timedelta(days=int(rng.integers(days + 1)))
        if sun_position(lat_deg, date.timetuple().tm_yday)[0] >= MIN_SUN_DEG:
            return date.isoformat()


def draw_baseline(rng: np.random.Generator, earth: Earth) -> str:
    """Processing baseline; `earth.offset_share` of them are 04.00 or later."""
    return str(rng.choice(NEW_BASELINES if rng.random() < earth.offset_share else OLD_BASELINES))


def plan_rows(earth: Earth, like: str, tiles: int, seed: int) -> list[Row]:
    """Draw the rows of an archive like `majortom`, `fasttom` or `globe`, from south to north as in the real one.

    Raises:
        GeoladderError: fewer than four tiles of a globe.
    """
    if like == "globe" and tiles < len(GLOBE_MONTHS):
        raise GeoladderError(f"an archive like globe needs at least {len(GLOBE_MONTHS)} tiles, got {tiles}")
    rng = stream(earth.seed, "archive", like, seed)
    draw = {"majortom": _majortom_rows, "fasttom": _fasttom_rows, "globe": _globe_rows}[like]
    rows = []
    for candidates, baseline in list(draw(rng, earth, tiles))[:tiles]:
        fate, wart = rng.random(), ""
        if like == "majortom" and fate < EMPTY_SHARE:
            wart = "empty"
        elif fate < EMPTY_SHARE + EDGE_SHARE:
            wart = "swath edge"
        rows.append(Row(candidates, baseline, wart, crs_typo=rng.random() < TYPO_SHARE))
    rows.sort(key=lambda row: (grid.row_column(row.candidates[0][0]), row.candidates[0][1]))
    if like == "majortom" and tiles >= 16:  # each fault at least once, and exactly one wrong cell
        empty, edge, typo, wrong = rng.choice(len(rows), 4, replace=False)
        rows[empty] = rows[empty]._replace(wart="empty")
        rows[edge] = rows[edge]._replace(wart="swath edge")
        rows[typo] = rows[typo]._replace(crs_typo=True)
        rows[wrong] = rows[wrong]._replace(wrong_cell=True)
    return rows


def _majortom_rows(rng: np.random.Generator, earth: Earth, tiles: int) -> Iterator[Product]:
    """All Earth, one date a cell, a few cells twice."""
    places: list[Place] = []
    distinct = tiles - math.ceil(DUPLICATE_SHARE * tiles) if tiles >= 16 else tiles
    for index in range(tiles):
        if index < distinct:
            ocean = rng.random() < earth.ocean_share
            place = next(place for place in _places(rng, earth) if (place.koppen == 0) == ocean)
            places.append(place)
        else:
            place = places[rng.integers(distinct)]
        yield [(place.cell, draw_date(rng, place.lat_deg))], draw_baseline(rng, earth)


def _fasttom_rows(rng: np.random.Generator, earth: Earth, tiles: int) -> Iterator[Product]:
    """Land, one date a cell; each row has spare candidates should the quadrant rule reject it."""
    for _ in range(tiles):
        places = [_land(rng, earth) for _ in range(FASTTOM_TRIES)]
        candidates = [(place.cell, draw_date(rng, place.lat_deg)) for place in places]
        yield candidates, draw_baseline(rng, earth)


def _globe_rows(rng: np.random.Generator, earth: Earth, tiles: int) -> Iterator[Product]:
    """Few land cells, four seasons of 2022; the baseline follows from the date there, as nothing was reprocessed."""
    for _ in range(math.ceil(tiles / len(GLOBE_MONTHS))):
        cell = _land(rng, earth, GLOBE_MAX_LAT_DEG).cell
        for month in GLOBE_MONTHS:
            date = datetime.date(2022, month, int(rng.integers(1, 29)))
            yield [(cell, date.isoformat())], "0400" if date >= OFFSET_FROM else "0301"


def acquisition(place: Place, date: str) -> datetime.datetime:
    """UTC time of the overpass, seconds scattered by cell."""
    seconds = int(stream(place.cell, date, "seconds").integers(3600))
    hours = (OVERPASS_HOUR - place.lon_deg / 15) % 24
    midnight = datetime.datetime.fromisoformat(date)
    return midnight + datetime.timedelta(seconds=int(hours * 3600) % 82_800 + seconds)


def mgrs_tile(epsg: int, x_m: float, y_m: float, lat_deg: float) -> str:
    """100 km square of the military grid that holds a UTM point: `T18HYB`."""
    zone = epsg % 100
    band = "CDEFGHJKLMNPQRSTUVWXX"[int((lat_deg + 80) // 8)]
    column = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")[(zone - 1) % 3][int(x_m // 100_000) - 1]
    row = "ABCDEFGHJKLMNPQRSTUV"[(int(y_m // 100_000) + (5 if zone % 2 == 0 else 0)) % 20]
    return f"T{zone:02d}{band}{column}{row}"


def product_id(place: Place, time: datetime.datetime, baseline: str, tile: str) -> str:
    """Name of the product in ESA's format; platform and orbit are made up from the cell."""
    rng = stream(place.cell, "orbit")
    platform = rng.choice(["S2A", "S2B"]) if time.year >= 2018 else "S2A"
    orbit = int(rng.integers(1, 144))
    made = REPROCESSED if baseline in NEW_BASELINES else time + datetime.timedelta(hours=5)
    return f"{platform}_MSIL2A_{time:%Y%m%dT%H%M%S}_N{baseline}_R{orbit:03d}_{tile}_{made:%Y%m%dT%H%M%S}"
