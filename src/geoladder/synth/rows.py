"""Which rows a synthetic MajorTOM archive has: cells, dates, products and the faults of real archives.

Unusual: the faults ("warts") are wanted. Real archives repeat cells, hold empty and half-empty tiles, misspell
coordinate systems, and once name another cell in the metadata than in the image row; cleaning must meet all of it.
"""

import datetime
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from geoladder.data.archives import grid
from geoladder.errors import GeoladderError
from geoladder.study.corpora import Earth
from geoladder.synth.earth import stream
from geoladder.synth.place import Place, place_of
from geoladder.synth.seasons import OVERPASS_HOUR, sun_position

Like = Literal["majortom", "fasttom", "globe"]
Wart = Literal["", "empty", "swath edge"]
FIRST_DAY, LAST_DAY = datetime.date(2016, 1, 1), datetime.date(2022, 1, 24)
OFFSET_FROM = datetime.date(2022, 1, 25)  # products made from this day on have baseline 04.00 or later
OLD_BASELINES = ("0205", "0208", "0211", "0214", "0301")
NEW_BASELINES = ("0500", "0510")  # reprocessed: any acquisition date
MIN_SUN_DEG = 14.0
GLOBE_MONTHS = (1, 4, 7, 10)
GLOBE_MAX_LAT_DEG = 58.0
FASTTOM_TRIES = 12
DUPLICATE_SHARE, EMPTY_SHARE, EDGE_SHARE, TYPO_SHARE = 0.03, 0.01, 0.05, 0.03
ROWS_NORTH_SOUTH = (-888, 924)  # grid rows 79.8 S to 83 N


@dataclass(frozen=True)
class Row:
    """One archive row before it is rendered.

    Attributes:
        cells: candidate cells; FastTOM takes the first that passes its quadrant rule, the others have one.
        dates: ISO date for each candidate.
        baseline: processing baseline, four digits.
        wart: fault of the pixels.
        crs_typo: whether the metadata say `EPSG:EPSG:...`.
        wrong_cell: whether the metadata name a neighbouring cell.
        quadrant: whether the FastTOM quadrant is cut out.
    """

    cells: tuple[str, ...]
    dates: tuple[str, ...]
    baseline: str
    wart: Wart
    crs_typo: bool
    wrong_cell: bool
    quadrant: bool


def _cell(rng: np.random.Generator) -> str:
    """A grid cell, uniform by area between 79.8 S and 83 N."""
    south, north = (math.sin(math.radians(row * grid.ROW_DEG)) for row in ROWS_NORTH_SOUTH)
    lat = math.degrees(math.asin(rng.uniform(south, north)))
    return grid.cell_of(lat, rng.uniform(-180, 180))


def _cell_where(
    rng: np.random.Generator, earth: Earth, kind: Literal["ocean", "any land", "land", "globe"]
) -> str:
    """A cell of open ocean, one with some land, one with mostly land, or one where the sun is up in every season."""
    while True:
        cell = _cell(rng)
        place = place_of(earth, cell)
        mostly_land = place.koppen != 0 and place.sea_share < 0.5
        if {
            "ocean": place.koppen == 0,
            "any land": place.koppen != 0,
            "land": mostly_land,
            "globe": mostly_land and abs(place.lat_deg) < GLOBE_MAX_LAT_DEG,
        }[kind]:
            return cell


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


def plan_rows(earth: Earth, like: Like, tiles: int, seed: int) -> list[Row]:
    """Draw the rows of an archive, from south to north as in the real one.

    Raises:
        GeoladderError: fewer than four tiles of a globe.
    """
    if like == "globe" and tiles < len(GLOBE_MONTHS):
        raise GeoladderError(f"an archive like globe needs at least {len(GLOBE_MONTHS)} tiles, got {tiles}")
    rng = stream(earth.seed, "archive", like, seed)
    draw = {"majortom": _majortom_rows, "fasttom": _fasttom_rows, "globe": _globe_rows}[like]
    products = draw(rng, earth, tiles)
    rows = [_with_warts(rng, like, *product) for product in products]
    rows.sort(key=lambda row: (grid.row_column(row.cells[0]), row.dates[0]))
    if like == "majortom" and tiles >= 16:
        rows = _guarantee_warts(rng, rows)
    return rows


Product = tuple[tuple[str, ...], tuple[str, ...], str]


def _majortom_rows(rng: np.random.Generator, earth: Earth, tiles: int) -> list[Product]:
    """All Earth, one date a cell, a few cells twice."""
    products: list[Product] = []
    repeats = math.ceil(DUPLICATE_SHARE * tiles) if tiles >= 16 else 0
    for index in range(tiles):
        if index >= tiles - repeats:
            cell = products[int(rng.integers(tiles - repeats))][0][0]
        else:
            cell = _cell_where(rng, earth, "ocean" if rng.random() < earth.ocean_share else "any land")
        lat = grid.centre_of(cell)[0]
        products.append(((cell,), (draw_date(rng, lat),), draw_baseline(rng, earth)))
    return products


def _fasttom_rows(rng: np.random.Generator, earth: Earth, tiles: int) -> list[Product]:
    """Land, one date a cell; each row has spare candidates should the quadrant rule reject it."""
    products: list[Product] = []
    for _ in range(tiles):
        cells = tuple(_cell_where(rng, earth, "land") for _ in range(FASTTOM_TRIES))
        dates = tuple(draw_date(rng, grid.centre_of(cell)[0]) for cell in cells)
        products.append((cells, dates, draw_baseline(rng, earth)))
    return products


def _globe_rows(rng: np.random.Generator, earth: Earth, tiles: int) -> list[Product]:
    """Few land cells, four seasons of 2022; the baseline follows from the date there, as nothing was reprocessed."""
    products: list[Product] = []
    for _ in range(math.ceil(tiles / len(GLOBE_MONTHS))):
        cell = _cell_where(rng, earth, "globe")
        for month in GLOBE_MONTHS:
            date = datetime.date(2022, month, int(rng.integers(1, 29)))
            products.append(((cell,), (date.isoformat(),), "0400" if date >= OFFSET_FROM else "0301"))
    return products[:tiles]


def _with_warts(
    rng: np.random.Generator, like: Like, cells: tuple[str, ...], dates: tuple[str, ...], baseline: str
) -> Row:
    fate = rng.random()
    empty = like == "majortom" and fate < EMPTY_SHARE
    edge = not empty and fate < EMPTY_SHARE + EDGE_SHARE
    wart: Wart = "empty" if empty else "swath edge" if edge else ""
    return Row(cells, dates, baseline, wart, bool(rng.random() < TYPO_SHARE), False, like == "fasttom")


def _guarantee_warts(rng: np.random.Generator, rows: list[Row]) -> list[Row]:
    """Make sure that each fault occurs at least once; exactly one row names a wrong cell in the metadata."""
    once: list[dict[str, Any]] = [
        {"wart": "empty"},
        {"wart": "swath edge"},
        {"crs_typo": True},
        {"wrong_cell": True},
    ]
    for index, change in zip(rng.choice(len(rows), len(once), replace=False), once, strict=True):
        rows[index] = replace(rows[index], **change)
    return rows


def acquisition(place: Place, date: str, cell: str) -> datetime.datetime:
    """UTC time of the overpass, seconds scattered by cell."""
    seconds = int(stream(cell, date, "seconds").integers(3600))
    hours = (OVERPASS_HOUR - place.lon_deg / 15) % 24
    midnight = datetime.datetime.fromisoformat(date)
    return midnight + datetime.timedelta(seconds=int(hours * 3600) % 82_800 + seconds)


def mgrs_tile(epsg: int, x_m: float, y_m: float, lat_deg: float) -> str:
    """100 km square of the military grid that holds a UTM point: `T18HYB`."""
    zone = epsg % 100
    band = "CDEFGHJKLMNPQRSTUVWXX"[int((lat_deg + 80) // 8)]
    column = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")[(zone - 1) % 3][int(x_m // 100_000) - 1]
    letters = "ABCDEFGHJKLMNPQRSTUV"
    row = letters[(int(y_m // 100_000) + (5 if zone % 2 == 0 else 0)) % 20]
    return f"T{zone:02d}{band}{column}{row}"


def product_id(place: Place, time: datetime.datetime, baseline: str, tile: str) -> str:
    """Name of the product in ESA's format; platform and orbit are made up from the cell."""
    rng = stream(place.cell, "orbit")
    platform = rng.choice(["S2A", "S2B"]) if time.year >= 2018 else "S2A"
    orbit = int(rng.integers(1, 144))
    stamp = time.strftime("%Y%m%dT%H%M%S")
    made = (
        (time + datetime.timedelta(hours=5))
        if baseline not in NEW_BASELINES
        else datetime.datetime(2023, 6, 1, 12)
    )
    return f"{platform}_MSIL2A_{stamp}_N{baseline}_R{orbit:03d}_{tile}_{made:%Y%m%dT%H%M%S}"
