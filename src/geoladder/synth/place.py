"""What kind of place a grid cell is: climate, coast, relief, people.

Climate and coast come from the real Köppen map, so latitude, longitude and climate can truly be told from pixels.
Relief and population are invented: there is no small map of them, so they are seeded noise over the globe, scaled by
climate.
"""

import math

import numpy as np

from geoladder.data.archives.grid import centre_of
from geoladder.data.labels.climate import CLASSES, koppen
from geoladder.study.corpora import Earth
from geoladder.synth.earth import globe_uniform, stream, table, uniform

COAST_DEG = 0.1  # how far the coast is looked for
DIRECTIONS = 12
CLIMATES = table("climates").set_index("climate").to_dict("index")
"""Numbers invented for each climate, by its Köppen name and by column of climates.csv."""


class Place:
    """A grid cell as the world's other parts see it: a pure function of (earth, cell), under a millisecond."""

    def __init__(self, earth: Earth, cell: str) -> None:
        self.earth = earth
        self.cell = cell
        lat, lon = centre_of(cell)
        lon = (lon + 180) % 360 - 180
        self.lat_deg, self.lon_deg = lat, lon
        self.koppen, self.sea_share, self.sea_bearing = _coast(lat, lon)
        self.climate = CLASSES[self.koppen]  # Köppen name, `Cfb`; `sea` for code 0
        rugged = self.globe_uniform("relief", 7.5) * self.globe_uniform("relief", 2.5)
        dense, chance = self.globe_uniform("people", 3.0), uniform(earth.seed, "people", cell)
        people = CLIMATES[self.climate]["settled"] * (0.25 + 1.1 * dense) * (0.15 + 1.1 * chance**1.5)
        people *= 1 - 0.6 * min(rugged, 1.0)
        self.population = float(np.clip(people * earth.settlement, 0, 1))  # 0 (nobody) .. 1 (city)
        self.relief_m = 20 + 1800 * rugged**1.5  # height difference within the cell
        self.elevation_m = 3000 * rugged**1.3  # mean height above the sea
        # Number of the 15-degree block, which has its own styles.
        self.region = 24 * int((lat + 90) // 15) + int((lon + 180) // 15)

    def stream(self, *names: str) -> np.random.Generator:
        """Random stream of this cell with a name."""
        return stream(self.earth.seed, self.cell, *names)

    def globe_uniform(self, what: str, step_deg: float) -> float:
        """Value here, 0..1, of smooth noise over the globe."""
        return globe_uniform(self.earth.seed, what, self.lat_deg, self.lon_deg, step_deg)


def _coast(lat: float, lon: float) -> tuple[int, float, tuple[float, float]]:
    """Climate and coast around a point, from the map.

    Returns:
        Beck code of the land, 1..30, or 0 where all around is sea; share of the surroundings that is sea, 0..1;
        direction of the sea (rows down, columns right), unit length, or (0, 0) without a coast.
    """
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
