"""What kind of place a grid cell is: climate, coast, relief, people.

Climate and coast come from the real Köppen map, so latitude, longitude and climate can truly be told from pixels.
Relief and population are invented: there is no small map of them, so they are seeded noise over the globe, scaled by
climate.
"""

import math
from dataclasses import dataclass

import numpy as np

from geoladder.data.archives.grid import centre_of
from geoladder.data.labels.climate import CLASSES, koppen
from geoladder.study.corpora import Earth
from geoladder.synth.earth import globe_uniform, uniform

COAST_DEG = 0.1  # how far the coast is looked for
DIRECTIONS = 12
# How settled each climate is at most, 0..1, by its first letters; the longest match counts.
_SETTLED = {
    "Af": 0.55, "Am": 0.6, "Aw": 0.65, "BW": 0.3, "BS": 0.6, "Cs": 0.85, "Cw": 0.85, "Cfa": 0.9, "Cfb": 0.9,
    "Cfc": 0.4, "Da": 0.7, "D": 0.7, "Dfc": 0.25, "Dwc": 0.2, "Dsc": 0.2, "Dfd": 0.08, "Dwd": 0.08, "Dsd": 0.08,
    "ET": 0.03, "EF": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A grid cell as the world's other parts see it.

    Attributes:
        cell: grid cell, `433D_629L`.
        lat_deg: latitude of its middle.
        lon_deg: longitude of its middle.
        koppen: Beck code of its land, 1..30; 0 where all around is sea.
        sea_share: share of the surroundings that is sea, 0..1.
        sea_bearing: direction of the sea, (rows down, columns right), unit length; (0, 0) without a coast.
        population: 0 (nobody) .. 1 (city).
        relief_m: height difference within the cell.
        elevation_m: mean height above the sea.
        region: number of the 15-degree block, which has its own styles.
    """

    cell: str
    lat_deg: float
    lon_deg: float
    koppen: int
    sea_share: float
    sea_bearing: tuple[float, float]
    population: float
    relief_m: float
    elevation_m: float
    region: int

    @property
    def climate(self) -> str:
        """Köppen name, `Cfb`; `sea` for code 0."""
        return CLASSES[self.koppen]


def by_prefix(table: dict[str, float], climate: str, default: float = 0.0) -> float:
    """Value of the longest key that starts `climate`."""
    keys = [key for key in table if climate.startswith(key)]
    return table[max(keys, key=len)] if keys else default


def _coast(lat: float, lon: float) -> tuple[int, float, tuple[float, float]]:
    """Land climate, share and bearing of the sea, from the map around a point."""
    turn = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    stretch = 1 / max(math.cos(math.radians(lat)), 0.1)
    lats = np.clip(lat + COAST_DEG * np.sin(turn), -90, 90)
    lons = (lon + COAST_DEG * stretch * np.cos(turn) + 180) % 360 - 180
    ring = koppen(lats, lons)
    centre = int(koppen(lat, lon))
    sea = ring == 0
    share = 0.5 * float(sea.mean()) + 0.5 * (centre == 0)
    land = ring[~sea]
    climate = centre or (int(np.bincount(land).argmax()) if land.size else 0)
    south, east = -(sea * np.sin(turn)).sum(), (sea * np.cos(turn)).sum()
    length = math.hypot(south, east)
    bearing = (float(south / length), float(east / length)) if length > 1e-6 else (0.0, 0.0)
    return climate, share, bearing


def place_of(earth: Earth, cell: str) -> Place:
    """Look up, or invent, what a grid cell is like. Pure; under a millisecond."""
    lat, lon = centre_of(cell)
    lon = (lon + 180) % 360 - 180
    climate, sea_share, bearing = _coast(lat, lon)
    rugged = globe_uniform(earth.seed, "relief", lat, lon, 7.5) * globe_uniform(
        earth.seed, "relief", lat, lon, 2.5
    )
    people = by_prefix(_SETTLED, CLASSES[climate]) if climate else 0.0
    dense = globe_uniform(earth.seed, "people", lat, lon, 3.0)
    chance = uniform(earth.seed, "people", cell)
    population = people * (0.25 + 1.1 * dense) * (0.15 + 1.1 * chance**1.5) * (1 - 0.6 * min(rugged, 1.0))
    return Place(
        cell=cell,
        lat_deg=lat,
        lon_deg=lon,
        koppen=climate,
        sea_share=sea_share,
        sea_bearing=bearing,
        population=float(np.clip(population * earth.settlement, 0, 1)),
        relief_m=20 + 1800 * rugged**1.5,
        elevation_m=3000 * rugged**1.3,
        region=24 * int((lat + 90) // 15) + int((lon + 180) // 15),
    )
