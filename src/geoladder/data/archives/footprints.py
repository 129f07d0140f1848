"""Footprints of tiles as boxes of latitude and longitude, and which of them overlap."""

from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components

M_PER_DEG = 111_319.5
"""Of latitude, and of longitude at the equator."""
COLUMNS = ("south_deg", "west_deg", "north_deg", "east_deg")


class Boxes(NamedTuple):
    """N footprints, by their sides in degrees, each (N,); not a number where a place is unknown.

    A box may cross the date line: then east is above 180.
    """

    south: np.ndarray
    west: np.ndarray
    north: np.ndarray
    east: np.ndarray

    @classmethod
    def of(cls, table: pd.DataFrame) -> Self:
        """From the `COLUMNS` of a table, such as a bench's index."""
        return cls(*(table[column].to_numpy(float) for column in COLUMNS))

    @classmethod
    def around(cls, lat_deg: np.ndarray, lon_deg: np.ndarray, side_m: float) -> Self:
        """Squares of a side around their middles; in longitude as wide as their edge nearest to the pole needs."""
        half_deg = side_m / 2 / M_PER_DEG
        nearest_deg = np.minimum(np.abs(lat_deg) + half_deg, 89.9)
        wide_deg = half_deg / np.cos(np.radians(nearest_deg))
        return cls(lat_deg - half_deg, lon_deg - wide_deg, lat_deg + half_deg, lon_deg + wide_deg)

    def overlaps(self, other: Self) -> np.ndarray:
        """Which of these N overlap any of others, (N,) bool; touching is none, nor is an unknown place."""
        order = np.argsort(self.south)
        boxes = type(self)(*(side[order] for side in self))
        tallest_deg = np.nanmax(self.north - self.south, initial=0.0)
        touched = np.zeros(len(order), bool)
        for box in zip(*other, strict=True):
            near = slice(*np.searchsorted(boxes.south, (box[0] - tallest_deg, box[2])))
            touched[order[near]] |= type(self)(*(side[near] for side in boxes))._overlap(*box)
        return touched

    def connected(self) -> np.ndarray:
        """Number of the group of overlapping boxes that each belongs to, (N,) from 0; an unknown place is alone."""
        touch = np.array([self._overlap(*box) for box in zip(*self, strict=True)])
        return np.asarray(connected_components(touch, directed=False)[1])

    def _overlap(self, south: float, west: float, north: float, east: float) -> np.ndarray:
        middle, wide = (self.west + self.east) / 2, self.east - self.west
        apart = np.abs((middle - (west + east) / 2 + 180) % 360 - 180)
        return np.asarray((self.south < north) & (south < self.north) & (2 * apart < wide + east - west))
