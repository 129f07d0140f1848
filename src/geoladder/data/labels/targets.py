"""Places and dates as PhilEO stores them, decoded, and distances between places."""

import numpy as np
from numpy.typing import ArrayLike

EARTH_RADIUS_KM = 6371.0088
CLIMATE_CLASSES = 31
"""Beck's Köppen-Geiger codes 1..30, and 0 for sea."""
OFF_CIRCLE = 0.1
"""By which a stored sine and cosine, means over a patch, may be off the unit circle."""
DAYS_PER_YEAR = 365
"""Of the date encoding, as in PhilEO: day 366 of a leap year is day 1."""


def decode_date(encoding: np.ndarray) -> np.ndarray:
    """Nearest day, (N,) int64 in 1..365, to (N, 2) sine and cosine of its angle on a year of 365 days."""
    sine, cosine = np.moveaxis(np.asarray(encoding, float), -1, 0)
    days = np.rint(np.arctan2(sine, cosine) / (2 * np.pi) * DAYS_PER_YEAR).astype(np.int64) % DAYS_PER_YEAR
    return np.where(days == 0, DAYS_PER_YEAR, days)


def on_circle(turn: np.ndarray) -> np.ndarray:
    """Whether pairs (N, 2) are sine and cosine of an angle, (N,) bool."""
    return np.asarray(abs(np.hypot(turn[..., 0], turn[..., 1]) - 1) <= OFF_CIRCLE)


def decode_phileo_place(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places from PhilEO's own labels, ((90 - lat) / 180, (sin lon + 1) / 2, (cos lon + 1) / 2).

    Latitude is stored upside down: 0 is the north pole. The authors call that an accident, and kept it. An array
    (N, 3) becomes lat_deg (N,), and lon_deg (N,) in [-180, 180]; not numbers where the three are none of a place, as
    degrees would be.
    """
    down, sine, cosine = np.moveaxis(np.asarray(stored, float), -1, 0)
    turn = np.stack([2 * sine - 1, 2 * cosine - 1], axis=-1)
    on_earth = (down >= 0) & (down <= 1) & on_circle(turn)
    lat_deg, lon_deg = 90 - 180 * down, np.degrees(np.arctan2(turn[..., 0], turn[..., 1]))
    return np.where(on_earth, lat_deg, np.nan), np.where(on_earth, lon_deg, np.nan)


def encode_phileo_place(lat_deg: np.ndarray, lon_deg: np.ndarray) -> np.ndarray:
    """The inverse of `decode_phileo_place`: places (N,) as (N, 3)."""
    turn = np.radians(lon_deg)
    return np.stack([(90 - lat_deg) / 180, (np.sin(turn) + 1) / 2, (np.cos(turn) + 1) / 2], axis=-1)


def great_circle_km(
    lat_deg: ArrayLike, lon_deg: ArrayLike, other_lat_deg: ArrayLike, other_lon_deg: ArrayLike
) -> np.ndarray:
    """Distance on the sphere in km (haversine, mean Earth radius); arguments in degrees, broadcast together."""
    lat, lon, other_lat, other_lon = (
        np.radians(np.asarray(angle, float)) for angle in (lat_deg, lon_deg, other_lat_deg, other_lon_deg)
    )
    chord = (
        np.sin((other_lat - lat) / 2) ** 2
        + np.cos(lat) * np.cos(other_lat) * np.sin((other_lon - lon) / 2) ** 2
    )
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(chord, 0, 1))))
