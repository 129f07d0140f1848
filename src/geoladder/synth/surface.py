"""Reflectance of the ground of a cell on a date: plants, soils, water, roads and roofs, snow, slopes.

The ground is mixed per pixel from green canopy, dead plants and two soils; how much of each follows the cover's
texture and season. Covers share spectra and differ in texture: crowns are rough, shrubs stand in clumps, grass is
smooth, crops are even within a parcel and faintly striped.
"""

import datetime
from dataclasses import dataclass

import numpy as np

from geoladder.study.corpora import Earth
from geoladder.synth import landscape as ground_
from geoladder.synth.atmosphere import Weather, weather_of
from geoladder.synth.drawing import Built
from geoladder.synth.earth import stream
from geoladder.synth.fields import fractal, grain, smooth
from geoladder.synth.landscape import Landscape
from geoladder.synth.materials import Vegetation, canopies_here, snow, soils_near, water
from geoladder.synth.place import Place
from geoladder.synth.seasons import greenness, leaf_cover, northern_day, sun_position, temperature_c

# Texture of each cover, TREE .. ORCHARD. Green cover: mean, smooth, medium and clumped variation; share of the rest
# that is dead plants; brightness: crown-scale, stripes and smooth variation.
_TEXTURE = np.array(
    # mean  smooth medium clump  dead  crown stripe smooth
    [[0.90, 0.05, 0.04, 0.05, 0.50, 0.22, 0.00, 0.05],  # tree
     [0.52, 0.06, 0.06, 0.36, 0.40, 0.11, 0.00, 0.05],  # shrub
     [0.88, 0.10, 0.07, 0.00, 0.60, 0.02, 0.00, 0.06],  # grass
     [0.00, 0.02, 0.01, 0.00, 0.45, 0.015, 0.07, 0.02],  # crop: mean comes from its growth
     [0.03, 0.02, 0.02, 0.02, 0.10, 0.03, 0.00, 0.10],  # bare
     [0.00, 0.00, 0.00, 0.00, 0.00, 0.01, 0.00, 0.04],  # snow
     [0.00, 0.00, 0.00, 0.00, 0.00, 0.03, 0.00, 0.04],  # water
     [0.80, 0.10, 0.18, 0.04, 0.60, 0.03, 0.00, 0.05],  # wetland
     [0.92, 0.04, 0.05, 0.02, 0.40, 0.09, 0.00, 0.04],  # mangrove
     [0.40, 0.10, 0.14, 0.08, 0.60, 0.04, 0.00, 0.05],  # moss
     [0.62, 0.04, 0.02, 0.00, 0.40, 0.05, 0.22, 0.03]],  # orchard
    np.float32,
)  # fmt: skip
# Canopy of each cover in Vegetation.canopies; crops add their own number.
_CANOPY = np.array([0, 2, 3, 4, 3, 3, 3, 3, 0, 3, 1])
TREE_OTHER = 1


@dataclass(frozen=True)
class Day:
    """What the date does to a cell."""

    of_year: int
    sun_elevation_deg: float
    sun_azimuth_deg: float
    weather: Weather
    temperature_c: float


def day_of(earth: Earth, place: Place, date: str) -> Day:
    """Sun, weather and temperature over a cell on an ISO date."""
    of_year = datetime.date.fromisoformat(date).timetuple().tm_yday
    elevation, azimuth = sun_position(place.lat_deg, of_year)
    weather = weather_of(earth, place.cell, date)
    warmth = temperature_c(place.climate, place.lat_deg, of_year) + weather.warmth_c
    return Day(of_year, elevation, azimuth, weather, warmth)


def _season(
    earth: Earth, place: Place, plants: Vegetation, ground: Landscape, day: Day
) -> tuple[np.ndarray, np.ndarray]:
    """Green cover by season: (11,) factor of each cover, and (parcels,) green cover of crops."""
    shifted = day.of_year - day.weather.growth_days
    grass = greenness(place.climate, place.lat_deg, shifted) * plants.vigour
    leaves = leaf_cover(place.climate, place.lat_deg, shifted)
    factor = np.array(
        [leaves, 0.45 + 0.55 * grass, grass, 1, 1, 0, 0, 0.3 + 0.7 * grass, 1, 0.4 + 0.6 * grass, leaves],
        np.float32,
    )
    parcels = stream(earth.seed, place.cell, "sowing")
    sown = plants.sowing[ground.crop] + parcels.normal(0, 12, len(ground.crop))
    age = (northern_day(place.lat_deg, shifted) - sown) % 365
    growth = np.exp(-(((age - 75) / 38) ** 2)) * 0.97
    fallow = parcels.random(len(ground.crop)) < 0.12
    return factor, np.where(fallow, 0.05, growth).astype(np.float32)


def bare_surface(
    earth: Earth, place: Place, plants: Vegetation, ground: Landscape, cover: np.ndarray, day: Day
) -> np.ndarray:
    """Reflectance of ground and water, (10, H, W) float32."""
    side = len(cover)
    rng = stream(earth.seed, place.cell, "surface")
    texture = _TEXTURE * np.float32(earth.texture * plants.roughness)
    texture[:, [0, 4]] = _TEXTURE[:, [0, 4]]
    t = texture[cover].transpose(2, 0, 1)
    wide, medium, clump, crowns = (
        smooth(rng, side, 26),
        fractal(rng, side, 9, 2),
        fractal(rng, side, 3.5, 2, 0.7),
        grain(rng, side),
    )
    stripes = np.sin(ground.parcels.across * np.float32(2 * np.pi / plants.row_px))

    factor, growth = _season(earth, place, plants, ground, day)
    crop = cover == ground_.CROP
    mean = t[0] * factor[cover]
    if crop.any():
        mean = np.where(crop, growth[ground.parcels.number], mean)
    green = mean + (t[1] * wide + t[2] * medium + t[3] * clump) * (0.25 + 0.75 * mean)
    green += 0.8 * t[6] * stripes * mean
    green = green.clip(0, 1)
    dead = (1 - green) * t[4]
    canopy = _CANOPY[cover]
    canopy[(cover == ground_.TREE) & (medium + wide > 0.3)] = TREE_OTHER
    if crop.any():
        canopy = np.where(crop, canopy + ground.crop[ground.parcels.number], canopy)

    soils = soils_near(place.lat_deg, place.lon_deg)[rng.choice(12, 2, replace=False)] * np.float32(
        day.weather.wetness
    )
    blend = (0.5 + 0.35 * fractal(rng, side, 60, 3)).clip(0, 1) * (1 - green - dead)
    canopies, litter = canopies_here(earth, plants, place.cell)
    reflectance = np.take(canopies.T, canopy, axis=1)
    reflectance *= green
    for spectrum, share in ((litter, dead), (soils[0], blend), (soils[1], 1 - green - dead - blend)):
        reflectance += spectrum.astype(np.float32)[:, None, None] * share
    bright = 1 + t[5] * crowns + t[6] * stripes + t[7] * wide
    if crop.any():
        tone = stream(earth.seed, place.cell, "tone").normal(1, 0.06, len(growth)).astype(np.float32)
        bright = np.where(crop, bright * tone[ground.parcels.number], bright)
    reflectance *= bright.clip(0.25, 2.0)
    _flood(reflectance, place, ground, cover, medium, wide, rng)
    return reflectance


def _flood(
    reflectance: np.ndarray,
    place: Place,
    ground: Landscape,
    cover: np.ndarray,
    medium: np.ndarray,
    wide: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Put water on (10, H, W) reflectance in place: all of lakes and sea, part of wetlands and mangroves."""
    wet = (cover == ground_.WATER).astype(np.float32)
    wet += (cover == ground_.WETLAND) * (0.3 + 0.3 * medium).clip(0, 0.9) + (
        cover == ground_.MANGROVE
    ) * np.float32(0.1)
    if not wet.any():
        return
    fresh = water(10 ** rng.uniform(-2, -0.2), 10 ** rng.uniform(0, 1.6), 10 ** rng.uniform(-1, 0.4))
    open_sea = place.sea_share > 0.9
    sea = water(
        10 ** rng.uniform(-2.8, -2.2 if open_sea else -1),
        10 ** rng.uniform(-1.2, 0.6),
        10 ** rng.uniform(-2, -1),
    )
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
            reflectance += spectrum.astype(np.float32)[:, None, None] * (share * uneven)
    reflectance *= 1 - np.float32(0.75) * built.shadow


def snowfall(
    reflectance: np.ndarray,
    cover: np.ndarray,
    ground: Landscape,
    built: Built,
    day: Day,
    rng: np.random.Generator,
) -> None:
    """Cover (10, H, W) reflectance with snow in place: permanent snow always, the rest where it is cold enough."""
    permanent = cover == ground_.SNOW
    cold = -1.5 - (day.temperature_c - np.float32(0.0065) * ground.height)
    if not permanent.any() and cold.max() < -3:
        return
    lying = (0.5 + cold / 3 + 0.25 * smooth(rng, len(cover), 14)).clip(0, 1)
    caught = np.full(11, 0.92, np.float32)
    caught[[ground_.TREE, ground_.ORCHARD, ground_.SHRUB, ground_.MANGROVE, ground_.WATER]] = (
        0.35,
        0.6,
        0.7,
        0,
        0.5,
    )
    lying = lying * caught[cover] * (1 - 0.6 * built.roads)
    lying = np.where(permanent, np.float32(0.97), lying)
    fall = snow(10 ** rng.uniform(-1, 0.2))
    reflectance += lying * (fall[:, None, None] * np.float32(0.95) - reflectance)


def relief_shade(height: np.ndarray, day: Day) -> np.ndarray:
    """Brightness of slopes towards and away from the sun, (H, W), about 1; half of it is corrected away in L2A."""
    down, right = np.gradient(height, np.float32(10.0))
    azimuth, elevation = np.radians(day.sun_azimuth_deg), np.radians(max(day.sun_elevation_deg, 15))
    towards = -right * np.float32(np.sin(azimuth)) + down * np.float32(np.cos(azimuth))
    return (1 + np.float32(0.5 / np.tan(elevation)) * towards).clip(0.35, 1.5)
