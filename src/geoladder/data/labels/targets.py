"""What the heads learn: a place as four numbers, and a date as two.

Unusual: latitude is encoded by sine and cosine at the full period of 360 degrees, which tells any two latitudes
apart. The authors' released code uses a period of 180 degrees, which puts both poles on one point.
"""

import numpy as np

EARTH_RADIUS_KM = 6371.0088
CLIMATE_CLASSES = 31
"""Beck's Köppen-Geiger codes 1..30, and 0 for sea."""
DAYS_PER_YEAR = 365
"""Of the date encoding, as in PhilEO: day 366 of a leap year is day 1."""


def geo_encoding(lat_deg: np.ndarray, lon_deg: np.ndarray) -> np.ndarray:
    """Encode places as (sin lon, cos lon, sin lat, cos lat).

    Args:
        lat_deg: (N,) degrees north, -90..90.
        lon_deg: (N,) degrees east, any turn.

    Returns:
        (N, 4) float32 in [-1, 1]; different places differ (but for the longitude of a pole).
    """
    lat, lon = np.radians(np.asarray(lat_deg, float)), np.radians(np.asarray(lon_deg, float))
    return np.stack([np.sin(lon), np.cos(lon), np.sin(lat), np.cos(lat)], axis=-1).astype(np.float32)


def decode_geo(encoding: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest place to an encoding, which may be a prediction off the unit circles.

    Args:
        encoding: (N, 4), as from `geo_encoding`.

    Returns:
        lat_deg (N,) in [-90, 90] and lon_deg (N,) in [-180, 180]. A negative cosine of latitude counts as 0.
    """
    sin_lon, cos_lon, sin_lat, cos_lat = np.moveaxis(np.asarray(encoding, float), -1, 0)
    lat = np.arctan2(sin_lat, np.maximum(cos_lat, 0.0))
    return np.degrees(lat), np.degrees(np.arctan2(sin_lon, cos_lon))


def date_encoding(day_of_year: np.ndarray) -> np.ndarray:
    """Encode days of the year as (sin, cos) of their angle on a year of 365 days.

    Args:
        day_of_year: (N,) 1..366.

    Returns:
        (N, 2) float32 in [-1, 1]; the last day lies beside the first.
    """
    angle = 2 * np.pi * np.asarray(day_of_year, float) / DAYS_PER_YEAR
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)


def decode_date(encoding: np.ndarray) -> np.ndarray:
    """Nearest day to an encoding (N, 2), as from `date_encoding`: (N,) int64 in 1..365."""
    sine, cosine = np.moveaxis(np.asarray(encoding, float), -1, 0)
    days = np.rint(np.arctan2(sine, cosine) / (2 * np.pi) * DAYS_PER_YEAR).astype(np.int64) % DAYS_PER_YEAR
    return np.where(days == 0, DAYS_PER_YEAR, days)


def decode_phileo_place(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places from PhilEO's own labels, ((90 - lat) / 180, (sin lon + 1) / 2, (cos lon + 1) / 2).

    Latitude is stored upside down: 0 is the north pole. The authors call that an accident, and kept it.

    Args:
        stored: (N, 3).

    Returns:
        lat_deg (N,) and lon_deg (N,) in [-180, 180].
    """
    down, sine, cosine = np.moveaxis(np.asarray(stored, float), -1, 0)
    return 90 - 180 * down, np.degrees(np.arctan2(2 * sine - 1, 2 * cosine - 1))


def great_circle_km(
    lat_deg: np.ndarray | float,
    lon_deg: np.ndarray | float,
    other_lat_deg: np.ndarray | float,
    other_lon_deg: np.ndarray | float,
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
