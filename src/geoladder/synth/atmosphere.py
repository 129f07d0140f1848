"""What lies between the ground and the sensor on a date: sun, residual haze, clouds and their shadows.

Surface reflectance products (L2A) are already corrected, so haze here is what correction leaves behind: a little blue
veil, smooth in space, different on every date. It is one of the nuisances that few labels cannot cover.
"""

import datetime
import math

import numpy as np

from geoladder.synth.fields import fractal, smooth
from geoladder.synth.materials import WAVELENGTH_NM
from geoladder.synth.place import Place
from geoladder.synth.seasons import sun_position, temperature_c

THICK, THIN, SHADOW = 1, 2, 3
# The correction takes away more than the air added: clear scenes come out dark in the blue.
OVERCORRECTION = 0.014
CLEAR_DAYS = 0.6  # share of acquisitions without any cloud over a tile
# Cloud tops reflect less in the short-wave infrared; bands in PhilEO order.
_CLOUD = np.array([1.0, 0.98, 0.98, 1.0, 0.99, 1.0, 1.0, 1.0, 0.78, 0.6], np.float32)


class Day:
    """Sun and weather over a place on an ISO date, `2020-04-08`; cheap."""

    def __init__(self, place: Place, date: str) -> None:
        rng = place.stream(date, "weather")
        cloudy = rng.random() > CLEAR_DAYS
        of_year = datetime.date.fromisoformat(date).timetuple().tm_yday
        self.sun_elevation_deg, self.sun_azimuth_deg = sun_position(place.lat_deg, of_year)
        # Reflectance of the veil at 490 nm; negative where the correction took away too much.
        self.haze = float(place.earth.haze * min(0.08, rng.exponential(0.018) - OVERCORRECTION))
        self.haze_slope = rng.uniform(0.6, 2.2)  # how fast the veil fades with wavelength (exponent)
        self.cloud = float(rng.beta(0.7, 1.1)) if cloudy else 0.0  # share of the sky
        self.brightness = rng.uniform(0.85, 1.13)  # gain left by the illumination correction
        self.wetness = rng.uniform(0.65, 1.1)  # brightness of bare soil; 0.65: after rain
        self.temperature_c = temperature_c(place.climate, place.lat_deg, of_year) + rng.normal(0, 4)
        # Day of the year by the state of the vegetation, which is early or late.
        self.growth_day = of_year - rng.normal(0, 12)


def add_haze(reflectance: np.ndarray, day: Day, rng: np.random.Generator) -> None:
    """Veil (10, H, W) reflectance in place: brighter in the blue, and a little less contrast."""
    depth = day.haze / math.sin(math.radians(max(day.sun_elevation_deg, 15))) ** 0.5
    if depth == 0:
        return
    patch = np.float32(depth) * (1 + np.float32(0.35) * smooth(rng, reflectance.shape[-1], 90)).clip(0.2, 2)
    slope = ((WAVELENGTH_NM / 490) ** -day.haze_slope).astype(np.float32)
    reflectance *= 1 - np.float32(1.2) * patch
    reflectance += slope[:, None, None] * patch


def add_clouds(reflectance: np.ndarray, day: Day, rng: np.random.Generator) -> np.ndarray:
    """Put clouds and their shadows on (10, H, W) reflectance in place.

    Returns:
        (H, W) uint8 cloud mask: 0 clear, 1 thick cloud, 2 thin cloud, 3 shadow.
    """
    side = reflectance.shape[-1]
    mask = np.zeros((side, side), np.uint8)
    if day.cloud <= 0.01:
        return mask
    form = fractal(rng, side, rng.uniform(30, 140), 6, 0.55)
    level = np.quantile(form[::2, ::2], 1 - day.cloud)
    softness = np.float32(rng.uniform(0.12, 0.5))
    opacity = (1 / (1 + np.exp(-(form - level) / softness * 2.2))).astype(np.float32)
    opacity *= np.float32(rng.uniform(0.4, 1))
    reach_px = rng.uniform(60, 250) / math.tan(math.radians(max(day.sun_elevation_deg, 20)))
    azimuth = math.radians(day.sun_azimuth_deg)
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
