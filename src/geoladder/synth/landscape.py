"""Terrain, water, natural cover and farmland of a cell: what does not change from one date to the next.

Classes differ by where and how they lie, not by a spectrum of their own. Farmland comes in parcels with straight
edges, orchards are trees in parcels, mangrove is trees by a warm shore, wetland is grass beside low-lying water, and
natural cover is the highest of several noise fields, one per class, weighted by climate.
"""

import math

import numpy as np

from geoladder.synth.earth import table
from geoladder.synth.fields import coordinates, fractal, smooth
from geoladder.synth.place import CLIMATES, Place
from geoladder.synth.seasons import temperature_c
from geoladder.synth.styles import Vegetation

TREE, SHRUB, GRASS, CROP, BARE, SNOW, WATER, WETLAND, MANGROVE, MOSS, ORCHARD = range(11)
COVERS = table("covers")
"""One row a cover, TREE .. ORCHARD."""
NATURAL = {"tree": TREE, "shrub": SHRUB, "grass": GRASS, "bare": BARE, "wetland": WETLAND, "moss": MOSS}
"""Covers that a climate has shares of."""
NOT_FARMED = 255
MAX_ALONG = 512  # parcels along one strip, for numbering


class Parcels:
    """A tiling of the cell by fields: strips of random width, each cut into parcels of random length."""

    def __init__(self, rng: np.random.Generator, style: Vegetation, side: int) -> None:
        self.angle = rng.uniform(0, math.pi)  # direction of the long edges, radians
        along, across = coordinates(side, self.angle)
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
        self.count = strips * MAX_ALONG
        # Parcel of each pixel, (H, W) int32, 0 .. count - 1.
        self.number = strip.astype(np.int32) * MAX_ALONG + index.clip(0, MAX_ALONG - 1)
        self.edge_px = np.minimum(across - left, right - across)  # (H, W) float32, from the long edge
        self.across = across  # (H, W) float32, coordinate across the crop rows, pixels
        # (H, W) float32, 1 on the ellipse inscribed in the parcel, less inside it.
        self.round_edge = middle_across**2 + middle_along**2


class Landscape:
    """Static ground of a cell, `side` pixels of 10 m wide: open sea, until land is laid over it."""

    def __init__(self, place: Place, style: Vegetation, side: int) -> None:
        rng = place.stream("landscape")
        self.sea, inland = _sea(rng, place, side)  # (H, W) bool, water that belongs to the sea
        form = fractal(rng, side, 100, 5, 0.45)
        # (H, W) float32, metres above the sea.
        self.height = place.elevation_m + place.relief_m * 0.3 * form * (side / 1068) ** 0.5
        self.parcels = Parcels(place.stream("parcels"), style, side)
        self.cover = np.full((side, side), WATER, np.uint8)  # (H, W), TREE .. ORCHARD
        self.farm = np.zeros((side, side), bool)  # (H, W), farmland: crop, orchard, pasture
        self.crop = np.zeros(1, int)  # crop 0..2 of each parcel
        if place.koppen == 0:
            return
        self.cover = _natural(rng, place, side, -form)
        self._farm(place, style)
        water = _water(rng, place, self.height) | self.sea
        summer = temperature_c(place.climate, place.lat_deg, 206 if place.lat_deg >= 0 else 24)
        snow_line = max(0.0, (summer + 1) / 6.5 * 1000)
        icy = self.height > (snow_line + 250 * smooth(rng, side, 30))
        if place.climate == "EF":
            icy |= form > -1.6
        self.cover[icy] = SNOW
        if place.sea_share > 0 and abs(place.lat_deg) <= 30 and CLIMATES[place.climate]["mangroves"]:
            width = rng.uniform(0.02, 0.2)
            belt = (inland > 0) & (inland < width * (0.6 + 0.5 * smooth(rng, side, 25)))
            self.cover[belt] = MANGROVE
        self.cover[water & (~icy | self.sea)] = WATER
        self.farm &= self.cover != WATER

    def _farm(self, place: Place, style: Vegetation) -> None:
        """Lay crops, orchards, pastures and hedges over the natural cover."""
        parcels = self.parcels
        kind, self.crop = _farms(place, style, parcels)
        cover = kind[parcels.number]
        self.farm = cover != NOT_FARMED
        if place.climate.startswith("B") and style.field_m[0] > 150:
            self.farm &= parcels.round_edge < 1  # centre-pivot irrigation
        self.cover[self.farm] = cover[self.farm]
        if style.hedges:
            hedged = place.stream("hedges").random(parcels.count) < style.hedges
            self.cover[self.farm & (parcels.edge_px < 0.7) & hedged[parcels.number]] = TREE


def _sea(rng: np.random.Generator, place: Place, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Sea mask and nearness to the shore (0 at the shore, positive inland, about 1 per tile)."""
    if place.sea_share <= 0 or place.sea_share >= 0.97 or place.koppen == 0:
        sea = np.full((side, side), place.sea_share > 0.5)
        return sea, np.where(sea, np.float32(-9), np.float32(9))
    axis = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    down, right = place.sea_bearing
    seaward = axis[:, None] * np.float32(down) + axis[None, :] * np.float32(right)
    seaward = seaward + 0.14 * fractal(rng, side, 90, 5)
    shore = np.quantile(seaward[::2, ::2], 1 - place.sea_share)
    return seaward > shore, shore - seaward


def _natural(rng: np.random.Generator, place: Place, side: int, lowness: np.ndarray) -> np.ndarray:
    """Natural cover by the highest weighted noise field."""
    best = np.full((side, side), -np.inf, np.float32)
    cover = np.full((side, side), BARE, np.uint8)
    for name, code in NATURAL.items():
        share = CLIMATES[place.climate][name]
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
    share = min(0.6, CLIMATES[place.climate]["lakes"] * rng.exponential(1.0))
    water = height < np.quantile(height[::2, ::2], share) if share > 0.004 else np.zeros(height.shape, bool)
    dry = place.climate.startswith("B") or place.climate == "EF"
    if rng.random() < (0.1 if dry else 0.4):
        course = smooth(rng, side, 110) + 0.12 * smooth(rng, side, 18)
        water |= np.abs(course) < 0.012 * rng.uniform(1.0, 5.0)
    return water


def _farms(place: Place, style: Vegetation, parcels: Parcels) -> tuple[np.ndarray, np.ndarray]:
    """Which parcels are farmed and how: (count,) uint8 cover or NOT_FARMED, and crop 0..2."""
    rng = place.stream("farms")
    fertile = place.globe_uniform("fertile", 4.0)
    share = CLIMATES[place.climate]["arable"] * (0.35 + 0.9 * math.sqrt(place.population)) * (0.3 + fertile)
    kind = np.full(parcels.count, NOT_FARMED, np.uint8)
    crop = rng.integers(0, 3, parcels.count)
    if share < 0.03:
        return kind, crop
    score = fractal(rng, len(parcels.number), 80, 3)
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
