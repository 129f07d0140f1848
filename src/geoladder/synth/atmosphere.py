"""What lies between the ground and the sensor: residual haze, clouds and their shadows.

Surface reflectance products (L2A) are already corrected, so haze here is what correction leaves behind: a little blue
veil, smooth in space, different on every date. It is one of the nuisances that few labels cannot cover.
"""

import math
from dataclasses import dataclass

import numpy as np

from geoladder.study.corpora import Earth
from geoladder.synth.earth import stream
from geoladder.synth.fields import fractal, smooth
from geoladder.synth.materials import WAVELENGTH_NM

CLEAR, THICK, THIN, SHADOW = 0, 1, 2, 3
OVERCORRECTION = (
    0.014  # the correction takes away more than the air added: clear scenes come out dark in the blue
)
CLEAR_DAYS = 0.6  # share of acquisitions without any cloud over a tile
# Cloud tops reflect less in the short-wave infrared; bands in PhilEO order.
_CLOUD = np.array([1.0, 0.98, 0.98, 1.0, 0.99, 1.0, 1.0, 1.0, 0.78, 0.6], np.float32)


@dataclass(frozen=True)
class Weather:
    """The air over a cell on a date.

    Attributes:
        haze: reflectance of the veil at 490 nm; negative where the correction took away too much.
        haze_slope: how fast the veil fades with wavelength (exponent).
        cloud: share of sky under cloud, 0..1.
        brightness: gain left by the illumination correction, about 1.
        wetness: brightness of bare soil, 0.65 (after rain) .. 1.1.
        warmth_c: the day's departure from the season's temperature.
        growth_days: how late (positive) or early the year's vegetation is.
    """

    haze: float
    haze_slope: float
    cloud: float
    brightness: float
    wetness: float
    warmth_c: float
    growth_days: float


def weather_of(earth: Earth, cell: str, date: str) -> Weather:
    """Weather of a cell on a date (ISO, `2020-04-08`). Pure and cheap."""
    rng = stream(earth.seed, cell, date, "weather")
    cloudy = rng.random() > CLEAR_DAYS
    return Weather(
        haze=float(earth.haze * min(0.08, rng.exponential(0.018) - OVERCORRECTION)),
        haze_slope=rng.uniform(0.6, 2.2),
        cloud=float(rng.beta(0.7, 1.1)) if cloudy else 0.0,
        brightness=rng.uniform(0.85, 1.13),
        wetness=rng.uniform(0.65, 1.1),
        warmth_c=rng.normal(0, 4),
        growth_days=rng.normal(0, 12),
    )


def add_haze(
    reflectance: np.ndarray, weather: Weather, sun_elevation_deg: float, rng: np.random.Generator
) -> None:
    """Veil (10, H, W) reflectance in place: brighter in the blue, and a little less contrast."""
    side = reflectance.shape[-1]
    depth = weather.haze / math.sin(math.radians(max(sun_elevation_deg, 15))) ** 0.5
    if depth == 0:
        return
    patch = np.float32(depth) * (1 + np.float32(0.35) * smooth(rng, side, 90)).clip(0.2, 2)
    slope = ((WAVELENGTH_NM / 490) ** -weather.haze_slope).astype(np.float32)
    reflectance *= 1 - np.float32(1.2) * patch
    reflectance += slope[:, None, None] * patch


def add_clouds(
    reflectance: np.ndarray,
    weather: Weather,
    sun_elevation_deg: float,
    sun_azimuth_deg: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Put clouds and their shadows on (10, H, W) reflectance in place.

    Returns:
        (H, W) uint8 cloud mask: 0 clear, 1 thick cloud, 2 thin cloud, 3 shadow.
    """
    side = reflectance.shape[-1]
    mask = np.zeros((side, side), np.uint8)
    if weather.cloud <= 0.01:
        return mask
    form = fractal(rng, side, rng.uniform(30, 140), 6, 0.55)
    level = np.quantile(form[::2, ::2], 1 - weather.cloud)
    softness = np.float32(rng.uniform(0.12, 0.5))
    opacity = (1 / (1 + np.exp(-(form - level) / softness * 2.2))).astype(np.float32) * np.float32(
        rng.uniform(0.4, 1)
    )
    reach_px = rng.uniform(60, 250) / math.tan(math.radians(max(sun_elevation_deg, 20)))
    azimuth = math.radians(sun_azimuth_deg)
    shift = (round(reach_px * math.cos(azimuth)), round(-reach_px * math.sin(azimuth)))
    shade = np.roll(opacity, shift, (0, 1))
    reflectance *= 1 - np.float32(0.6) * shade * (1 - opacity)
    top = rng.uniform(0.45, 0.95) * (0.85 + 0.1 * form).clip(0.5, 1.2)
    reflectance *= 1 - opacity
    reflectance += _CLOUD[:, None, None] * (opacity * top)
    mask[shade > 0.4] = SHADOW
    mask[opacity > 0.12] = THIN
    mask[opacity > 0.5] = THICK
    return mask
