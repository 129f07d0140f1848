"""Terrain, water, natural cover and farmland of a cell: what does not change from one date to the next.

Classes differ by where and how they lie, not by a spectrum of their own. Farmland comes in parcels with straight
edges, orchards are trees in parcels, mangrove is trees by a warm shore, wetland is grass beside low-lying water, and
natural cover is the highest of several noise fields, one per class, weighted by climate.
"""

import math
from dataclasses import dataclass

import numpy as np

from geoladder.study.corpora import Earth
from geoladder.synth.earth import globe_uniform, stream
from geoladder.synth.fields import coordinates, fractal, smooth
from geoladder.synth.materials import Vegetation
from geoladder.synth.place import Place, by_prefix
from geoladder.synth.seasons import temperature_c

TREE, SHRUB, GRASS, CROP, BARE, SNOW, WATER, WETLAND, MANGROVE, MOSS, ORCHARD = range(11)
WORLDCOVER = np.array([10, 20, 30, 40, 60, 70, 80, 90, 95, 100, 10], np.uint8)
"""WorldCover code of each cover; orchards are tree cover there. Built-up (50) comes from the settlement."""
NATURAL = (TREE, SHRUB, GRASS, BARE, WETLAND, MOSS)
# Shares of NATURAL by climate; the longest matching key counts.
_SHARES = {
    "Af": (70, 8, 12, 1, 6, 0), "Am": (62, 12, 16, 2, 5, 0), "Aw": (30, 28, 34, 4, 3, 0), "BW": (1, 14, 12, 72, 1, 0),
    "BS": (6, 34, 38, 20, 1, 0), "Cs": (30, 34, 26, 8, 1, 0), "Cw": (42, 20, 32, 4, 2, 0),
    "Cf": (46, 10, 36, 3, 4, 0), "Cfc": (25, 18, 40, 8, 6, 2), "D": (50, 8, 34, 3, 5, 0),
    "Dfc": (58, 10, 14, 3, 12, 4), "Dfd": (60, 12, 10, 5, 8, 6),
    "Dwc": (55, 10, 18, 5, 8, 4), "ET": (2, 14, 24, 22, 8, 36), "EF": (0, 0, 0, 12, 0, 2),
}  # fmt: skip
_ARABLE = {"Af": 0.3, "Am": 0.4, "Aw": 0.6, "BW": 0.12, "BS": 0.6, "Cs": 0.6, "Cw": 0.8, "Cf": 0.75, "Cfc": 0.1,
           "D": 0.65, "Dfc": 0.08, "Dwc": 0.08, "Dfd": 0.0, "ET": 0.0, "EF": 0.0}  # fmt: skip
_LAKES = {"Af": 0.06, "A": 0.04, "BW": 0.005, "BS": 0.02, "C": 0.03, "D": 0.08, "Dfc": 0.14, "ET": 0.1}
_MANGROVE_CLIMATES = ("Af", "Am", "Aw", "BWh", "BSh", "Cfa", "Cwa")
MAX_ALONG = 512  # parcels along one strip, for numbering


@dataclass(frozen=True)
class Parcels:
    """A tiling of the cell by fields.

    Attributes:
        number: (H, W) int32, parcel of each pixel.
        count: numbers lie in 0..count-1.
        edge_px: (H, W) float32, distance to the long edge of the parcel.
        across: (H, W) float32, coordinate across the crop rows, pixels.
        round_edge: (H, W) float32, 1 on the ellipse inscribed in the parcel, less inside it.
        angle: direction of the long edges, radians.
    """

    number: np.ndarray
    count: int
    edge_px: np.ndarray
    across: np.ndarray
    round_edge: np.ndarray
    angle: float


@dataclass(frozen=True)
class Landscape:
    """Static ground of a cell.

    Attributes:
        cover: (H, W) uint8, TREE .. ORCHARD.
        height: (H, W) float32, metres above the sea.
        parcels: the fields, over the whole tile.
        farm: (H, W) bool, farmland (crop, orchard, pasture).
        crop: (parcels.count,) int, crop 0..2 of each parcel.
        sea: (H, W) bool, water that belongs to the sea.
    """

    cover: np.ndarray
    height: np.ndarray
    parcels: Parcels
    farm: np.ndarray
    crop: np.ndarray
    sea: np.ndarray


def _parcels(rng: np.random.Generator, style: Vegetation, side: int) -> Parcels:
    """Cut the tile into strips of random width, and each strip into parcels of random length."""
    angle = rng.uniform(0, math.pi)
    along, across = coordinates(side, angle)
    if rng.random() < 0.5:
        across = across + rng.uniform(1, 3) * smooth(rng, side, 70)
    reach = side * 0.75 + 12
    width, length = (max(3.0, size / 10) for size in style.field_m)
    strips = int(2 * reach / width * 1.7) + 2
    edges = -reach + np.cumsum(width * rng.uniform(0.6, 1.4, strips)).astype(np.float32)
    strip = np.searchsorted(edges, across.ravel()).reshape(side, side).clip(1, strips - 1)
    lengths = (length * rng.uniform(0.6, 1.4, strips)).astype(np.float32)
    offset = (length * rng.random(strips)).astype(np.float32)
    step = (along + np.float32(reach) + offset[strip]) / lengths[strip]
    index = step.astype(np.int32)
    left, right = edges[strip - 1], edges[strip]
    middle_across = 2 * (across - left) / (right - left) - 1
    middle_along = 2 * (step - index) - 1
    return Parcels(
        number=strip.astype(np.int32) * MAX_ALONG + index.clip(0, MAX_ALONG - 1),
        count=strips * MAX_ALONG,
        edge_px=np.minimum(across - left, right - across),
        across=across,
        round_edge=middle_across**2 + middle_along**2,
        angle=angle,
    )


def _sea(rng: np.random.Generator, place: Place, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Sea mask and nearness to the shore (0 at the shore, positive inland, about 1 per tile)."""
    if place.sea_share <= 0 or place.sea_share >= 0.97 or place.koppen == 0:
        everywhere = place.sea_share > 0.5
        return np.full((side, side), everywhere), np.full(
            (side, side), -9.0 if everywhere else 9.0, np.float32
        )
    axis = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    down, right = place.sea_bearing
    seaward = axis[:, None] * np.float32(down) + axis[None, :] * np.float32(right)
    seaward = seaward + 0.14 * fractal(rng, side, 90, 5)
    shore = np.quantile(seaward[::2, ::2], 1 - place.sea_share)
    return seaward > shore, shore - seaward


def _natural(rng: np.random.Generator, place: Place, side: int, lowness: np.ndarray) -> np.ndarray:
    """Natural cover by the highest weighted noise field."""
    climate = place.climate
    shares = _SHARES[max((k for k in _SHARES if climate.startswith(k)), key=len)]
    best = np.full((side, side), -np.inf, np.float32)
    cover = np.full((side, side), BARE, np.uint8)
    for code, share in zip(NATURAL, shares, strict=True):
        if share == 0:
            continue
        # The same climate looks different from cell to cell: shares are scattered by a factor of about two.
        score = math.log(share) + 0.6 * rng.standard_normal() + 1.5 * fractal(rng, side, 44, 4, 0.6)
        if code == WETLAND:
            score = score + 1.5 * lowness
        better = score > best
        best[better] = score[better]
        cover[better] = code
    return cover


def _water(rng: np.random.Generator, place: Place, height: np.ndarray) -> np.ndarray:
    """Lakes in the lowest ground and rivers along the zero line of a smooth field."""
    side = len(height)
    share = min(0.6, by_prefix(_LAKES, place.climate) * rng.exponential(1.0))
    lakes = height < np.quantile(height[::2, ::2], share) if share > 0.004 else np.zeros(height.shape, bool)
    dry = place.climate.startswith("B") or place.climate == "EF"
    if rng.random() < (0.1 if dry else 0.4):
        course = smooth(rng, side, 110) + 0.12 * smooth(rng, side, 18)
        lakes = lakes | (np.abs(course) < 0.012 * rng.uniform(1.0, 5.0))
    return lakes


def _farms(
    rng: np.random.Generator, earth: Earth, place: Place, style: Vegetation, parcels: Parcels
) -> tuple[np.ndarray, np.ndarray]:
    """Which parcels are farmed and how: (count,) uint8 cover (255: not farmed) and crop 0..2."""
    side = len(parcels.number)
    fertile = globe_uniform(earth.seed, "fertile", place.lat_deg, place.lon_deg, 4.0)
    share = by_prefix(_ARABLE, place.climate) * (0.35 + 0.9 * math.sqrt(place.population)) * (0.3 + fertile)
    kind = np.full(parcels.count, 255, np.uint8)
    crop = rng.integers(0, 3, parcels.count)
    if share < 0.03:
        return kind, crop
    score = fractal(rng, side, 80, 3)
    flat = parcels.number.ravel()
    size = np.bincount(flat, minlength=parcels.count)
    mean = np.bincount(flat, score.ravel(), minlength=parcels.count) / np.maximum(size, 1)
    farmed = (size > 0) & (mean > np.quantile(score[::2, ::2], max(0.0, 1 - share)))
    draw = rng.random(parcels.count)
    use = np.where(draw < style.orchard, ORCHARD, np.where(draw < style.orchard + style.pasture, GRASS, CROP))
    kind[farmed] = use[farmed]
    favourite = rng.integers(0, 3)
    crop[rng.random(parcels.count) < 0.4] = favourite
    return kind, crop


def landscape_of(earth: Earth, place: Place, style: Vegetation, side: int) -> Landscape:
    """Build the static ground of a cell.

    Args:
        earth: the Earth.
        place: the cell.
        style: its vegetation.
        side: pixels of 10 m.
    """
    rng = stream(earth.seed, place.cell, "landscape")
    sea, inland = _sea(rng, place, side)
    form = fractal(rng, side, 100, 5, 0.45)
    height = place.elevation_m + place.relief_m * 0.3 * form * (side / 1068) ** 0.5
    parcels = _parcels(stream(earth.seed, place.cell, "parcels"), style, side)
    if place.koppen == 0:
        nothing = np.zeros((side, side), bool)
        return Landscape(
            np.full((side, side), WATER, np.uint8), height, parcels, nothing, np.zeros(1, int), sea
        )
    cover = _natural(rng, place, side, -form)
    kind, crop = _farms(stream(earth.seed, place.cell, "farms"), earth, place, style, parcels)
    farm_cover = kind[parcels.number]
    farm = farm_cover != 255
    if place.climate.startswith("B") and style.field_m[0] > 150:
        farm &= parcels.round_edge < 1  # centre-pivot irrigation
    cover[farm] = farm_cover[farm]
    if style.hedges:
        hedged = stream(earth.seed, place.cell, "hedges").random(parcels.count) < style.hedges
        cover[farm & (parcels.edge_px < 0.7) & hedged[parcels.number]] = TREE
    water = _water(rng, place, height) | sea
    summer = temperature_c(place.climate, place.lat_deg, 206 if place.lat_deg >= 0 else 24)
    snow_line = max(0.0, (summer + 1) / 6.5 * 1000)
    icy = height > (snow_line + 250 * smooth(rng, side, 30))
    if place.climate == "EF":
        icy |= form > -1.6
    cover[icy] = SNOW
    cover[_mangroves(rng, place, inland, side)] = MANGROVE
    cover[water & (~icy | sea)] = WATER
    return Landscape(cover, height, parcels, farm & (cover != WATER), crop, sea)


def _mangroves(rng: np.random.Generator, place: Place, inland: np.ndarray, side: int) -> np.ndarray:
    """A belt of trees along warm shores, with gaps."""
    if place.sea_share <= 0 or abs(place.lat_deg) > 30 or place.climate not in _MANGROVE_CLIMATES:
        return np.zeros((side, side), bool)
    width = rng.uniform(0.02, 0.2)
    return (inland > 0) & (inland < width * (0.6 + 0.5 * smooth(rng, side, 25)))
