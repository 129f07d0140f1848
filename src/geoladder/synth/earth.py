"""The synthetic Earth's source of randomness.

Unusual: nothing is drawn in sequence. Each random stream is named by what it decides ("parcels" of cell 433D_629L),
so a tile is a pure function of (settings, cell, date, size): the same in any process, in any order, on any day.
"""

import hashlib
import math

import numpy as np


def stream(*names: str | int) -> np.random.Generator:
    """Random stream with a name, such as `stream(earth.seed, cell, "parcels")`; equal names, equal numbers."""
    digest = hashlib.blake2b("/".join(map(str, names)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest)))


def uniform(*names: str | int) -> float:
    """One number in [0, 1) with a name; cheap."""
    digest = hashlib.blake2b("/".join(map(str, names)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def zipf_shares(styles: int, exponent: float) -> np.ndarray:
    """Frequencies of styles by rank, (styles,), sum 1."""
    weights = np.arange(1, styles + 1, dtype=float) ** -exponent
    return weights / weights.sum()


def globe_uniform(seed: int, what: str, lat_deg: float, lon_deg: float, step_deg: float) -> float:
    """Smooth noise over the globe, 0..1: named numbers at the corners of a lattice, bilinear between them."""
    row, column = lat_deg / step_deg, (lon_deg % 360) / step_deg
    r0, c0 = math.floor(row), math.floor(column)
    fr, fc = row - r0, column - c0
    around = round(360 / step_deg)
    corner = [[uniform(seed, what, r0 + i, (c0 + j) % around) for j in (0, 1)] for i in (0, 1)]
    south = corner[0][0] * (1 - fc) + corner[0][1] * fc
    north = corner[1][0] * (1 - fc) + corner[1][1] * fc
    return south * (1 - fr) + north * fr
