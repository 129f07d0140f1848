"""The settings of the synthetic Earth, and its source of randomness.

Unusual: nothing is drawn in sequence. Each random stream is named by what it decides ("parcels" of cell 433D_629L),
so a tile is a pure function of (settings, cell, date, size): the same in any process, in any order, on any day.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EarthConfig:
    """Settings of the synthetic Earth; the reasons for the defaults are in docs/synthetic_earth.md.

    Attributes:
        seed: names the Earth; another seed is another Earth on the same climate map.
        styles: vegetation and settlement styles each; more make the tail longer.
        zipf_exponent: a style of rank r has frequency proportional to r**-zipf_exponent.
        regional_share: share of draws that follow the region's own few styles, not the whole Earth's.
        noise_reflectance: standard deviation of sensor noise, reflectance units, independent per pixel and band.
        haze: multiplier of residual haze (0: none).
        texture: multiplier of all within-class texture.
        settlement: multiplier of how much of populated land is settled.
        ocean_share: share of open-ocean cells in an all-Earth archive. Sentinel-2 hardly looks at the open ocean.
        offset_share: share of products of processing baseline 04.00 or later, which carry +1000 DN.
    """

    seed: int = 2506
    styles: int = 64
    zipf_exponent: float = 1.1
    regional_share: float = 0.6
    noise_reflectance: float = 0.003
    haze: float = 1.0
    texture: float = 1.0
    settlement: float = 1.0
    ocean_share: float = 0.15
    offset_share: float = 0.4


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
