"""The synthetic Earth's sources: named random numbers, and the tables in the package.

Unusual: nothing is drawn in sequence. Each random stream is named by what it decides ("parcels" of cell 433D_629L),
so a tile is a pure function of (settings, cell, date, size): the same in any process, in any order, on any day.
"""

import hashlib
import math
from functools import cache
from importlib import resources

import numpy as np
import pandas as pd


@cache
def table(name: str) -> pd.DataFrame:
    """`geoladder/data/tables/<name>.csv`; docs/synthetic_earth.md explains the columns."""
    with resources.files("geoladder.data").joinpath(f"tables/{name}.csv").open("rb") as handle:
        return pd.read_csv(handle)


def _number(names: tuple[str | int, ...], size_bytes: int) -> int:
    digest = hashlib.blake2b("/".join(map(str, names)).encode(), digest_size=size_bytes).digest()
    return int.from_bytes(digest)


def stream(*names: str | int) -> np.random.Generator:
    """Random stream with a name, such as `stream(earth.seed, cell, "parcels")`; equal names, equal numbers."""
    return np.random.Generator(np.random.PCG64(_number(names, 16)))


def uniform(*names: str | int) -> float:
    """One number in [0, 1) with a name; cheap."""
    return (_number(names, 8) >> 11) / 2**53


def globe_uniform(seed: int, what: str, lat_deg: float, lon_deg: float, step_deg: float) -> float:
    """Smooth noise over the globe, 0..1: named numbers at the corners of a lattice, bilinear between them."""
    row, column = lat_deg / step_deg, (lon_deg % 360) / step_deg
    r0, c0 = math.floor(row), math.floor(column)
    fr, fc = row - r0, column - c0
    around = round(360 / step_deg)
    corner = [[uniform(seed, what, r0 + i, (c0 + j) % around) for j in (0, 1)] for i in (0, 1)]
    south, north = (west * (1 - fc) + east * fc for west, east in corner)
    return south * (1 - fr) + north * fr
