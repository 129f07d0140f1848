"""Reflectance of the ground of a cell on a date: plants, soils, water, roads and roofs, snow, slopes.

The ground is mixed per pixel from green canopy, dead plants and two soils; how much of each follows the cover's
texture and season. Covers share spectra and differ in texture: crowns are rough, shrubs stand in clumps, grass is
smooth, crops are even within a parcel and faintly striped.
"""

import numpy as np

from geoladder.synth.atmosphere import Day
from geoladder.synth.drawing import Built
from geoladder.synth.fields import fractal, grain, smooth
from geoladder.synth.landscape import COVERS, CROP, MANGROVE, SNOW, TREE, WATER, WETLAND, Landscape
from geoladder.synth.materials import snow, soils_near, water
from geoladder.synth.place import Place
from geoladder.synth.seasons import greenness, leaf_cover, northern_day
from geoladder.synth.styles import Vegetation

_CANOPY = COVERS["canopy"].to_numpy()
_GREEN, _DEAD, _SNOW = COVERS[["green", "dead", "snow"]].to_numpy(np.float32).T
_SEASON = COVERS[["always", "with_grass", "with_leaves"]].to_numpy()
_TEXTURE = COVERS[["smooth", "medium", "clump", "crown", "stripe", "tone"]].to_numpy(np.float32).T
TREE_OTHER = 1  # canopy


def bare_surface(place: Place, plants: Vegetation, ground: Landscape, day: Day) -> np.ndarray:
    """Reflectance of ground and water, (10, H, W) float32."""
    cover, side = ground.cover, len(ground.cover)
    rng = place.stream("surface")
    wide, medium = smooth(rng, side, 26), fractal(rng, side, 9, 2)
    clump, crowns = fractal(rng, side, 3.5, 2, 0.7), grain(rng, side)
    stripes = np.sin(ground.parcels.across * np.float32(2 * np.pi / plants.row_px))
    strength = np.float32(place.earth.texture * plants.roughness)
    of_wide, of_medium, of_clump, of_crowns, of_stripes, tone = np.take(_TEXTURE * strength, cover, axis=1)

    crop = cover == CROP
    parcel = ground.parcels.number[crop]
    mean = (_GREEN * _green_share(place, plants, day))[cover]
    if crop.any():
        mean[crop] = _crop_growth(place, plants, ground, day)[parcel]
    green = mean + (of_wide * wide + of_medium * medium + of_clump * clump) * (0.25 + 0.75 * mean)
    green += 0.8 * of_stripes * stripes * mean
    green = green.clip(0, 1)
    dead = (1 - green) * _DEAD[cover]
    canopy = _CANOPY[cover]
    canopy[(cover == TREE) & (medium + wide > 0.3)] = TREE_OTHER
    canopy[crop] += ground.crop[parcel]

    soils = soils_near(place.lat_deg, place.lon_deg)[rng.choice(12, 2, replace=False)]
    soils *= np.float32(day.wetness)
    blend = (0.5 + 0.35 * fractal(rng, side, 60, 3)).clip(0, 1) * (1 - green - dead)
    reflectance = np.take(plants.canopies.T, canopy, axis=1)
    reflectance *= green
    for spectrum, share in ((plants.litter, dead), (soils[0], blend), (soils[1], 1 - green - dead - blend)):
        reflectance += spectrum[:, None, None] * share
    bright = 1 + of_crowns * crowns + of_stripes * stripes + tone * wide
    if crop.any():
        bright[crop] *= place.stream("tone").normal(1, 0.06, len(ground.crop)).astype(np.float32)[parcel]
    reflectance *= bright.clip(0.25, 2.0)
    _flood(reflectance, place, ground, medium, wide, rng)
    return reflectance


def _green_share(place: Place, plants: Vegetation, day: Day) -> np.ndarray:
    """Share of each cover's plants that are green on the day, (11,) float32."""
    grass = greenness(place.climate, place.lat_deg, day.growth_day) * plants.vigour
    leaves = leaf_cover(place.climate, place.lat_deg, day.growth_day)
    always, with_grass, with_leaves = _SEASON.T
    return (always + with_grass * grass + with_leaves * leaves).astype(np.float32)


def _crop_growth(place: Place, plants: Vegetation, ground: Landscape, day: Day) -> np.ndarray:
    """Green cover of the crop of each parcel, (parcels,) float32; some lie fallow."""
    rng = place.stream("sowing")
    sown = plants.sowing[ground.crop] + rng.normal(0, 12, len(ground.crop))
    age = (northern_day(place.lat_deg, day.growth_day) - sown) % 365
    growth = np.exp(-(((age - 75) / 38) ** 2)) * 0.97
    return np.where(rng.random(len(ground.crop)) < 0.12, 0.05, growth).astype(np.float32)


def _flood(
    reflectance: np.ndarray,
    place: Place,
    ground: Landscape,
    medium: np.ndarray,
    wide: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Put water on (10, H, W) reflectance in place: all of lakes and sea, part of wetlands and mangroves."""
    wet = (ground.cover == WATER).astype(np.float32)
    wet += (ground.cover == WETLAND) * (0.3 + 0.3 * medium).clip(0, 0.9)
    wet += (ground.cover == MANGROVE) * np.float32(0.1)
    if not wet.any():
        return
    fresh = water(10 ** rng.uniform(-2, -0.2), 10 ** rng.uniform(0, 1.6), 10 ** rng.uniform(-1, 0.4))
    murkiest = -2.2 if place.sea_share > 0.9 else -1
    sea = water(10 ** rng.uniform(-2.8, murkiest), 10 ** rng.uniform(-1.2, 0.6), 10 ** rng.uniform(-2, -1))
    body = np.where(ground.sea, sea[:, None, None], fresh[:, None, None])
    body = body * (1 + np.float32(0.12) * wide) + np.float32(rng.exponential(0.006))
    reflectance += wet * (body - reflectance)


def build_over(reflectance: np.ndarray, built: Built, surfaces: np.ndarray, rng: np.random.Generator) -> None:
    """Lay roads, yards, roofs and building shadow over (10, H, W) reflectance in place."""
    if not built.shares.any():
        return
    reflectance *= 1 - built.shares.sum(0)
    uneven = 1 + np.float32(0.1) * grain(rng, reflectance.shape[-1])
    for share, spectrum in zip(built.shares, surfaces, strict=True):
        if share.any():
            reflectance += spectrum[:, None, None] * (share * uneven)
    reflectance *= 1 - np.float32(0.75) * built.shadow


def snowfall(
    reflectance: np.ndarray, ground: Landscape, roads: np.ndarray, day: Day, rng: np.random.Generator
) -> None:
    """Cover (10, H, W) reflectance with snow in place: permanent snow always, the rest where it is cold enough."""
    permanent = ground.cover == SNOW
    cold = -1.5 - (day.temperature_c - np.float32(0.0065) * ground.height)
    if not permanent.any() and cold.max() < -3:
        return
    lying = (0.5 + cold / 3 + 0.25 * smooth(rng, len(permanent), 14)).clip(0, 1)
    lying = lying * _SNOW[ground.cover] * (1 - 0.6 * roads)
    lying = np.where(permanent, np.float32(0.97), lying)
    fall = snow(10 ** rng.uniform(-1, 0.2))
    reflectance += lying * (fall[:, None, None] * np.float32(0.95) - reflectance)


def relief_shade(height: np.ndarray, day: Day) -> np.ndarray:
    """Brightness of slopes towards and away from the sun, (H, W), about 1; half of it is corrected away in L2A."""
    down, right = np.gradient(height, np.float32(10.0))
    azimuth, elevation = np.radians(day.sun_azimuth_deg), np.radians(max(day.sun_elevation_deg, 15))
    towards = -right * np.float32(np.sin(azimuth)) + down * np.float32(np.cos(azimuth))
    return (1 + np.float32(0.5 / np.tan(elevation)) * towards).clip(0.35, 1.5)
