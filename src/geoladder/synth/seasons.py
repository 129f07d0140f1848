"""What season and sun do at a place on a day: temperature, green leaves, sun position.

This is a caricature with few numbers, made so that hemisphere, climate and season can be read from pixels and cannot
be read from one another: southern seasons are shifted by half a year, monsoon and Mediterranean land is green at
other times than temperate land, equatorial land always is.
"""

import math

from geoladder.synth.place import CLIMATES

HALF_YEAR = 182.5
OVERPASS_HOUR = 10.5  # local solar time of Sentinel-2


def northern_day(lat_deg: float, day_of_year: float) -> float:
    """Day of the year as the northern hemisphere counts its seasons."""
    return day_of_year if lat_deg >= 0 else (day_of_year + HALF_YEAR) % 365


def temperature_c(climate: str, lat_deg: float, day_of_year: float) -> float:
    """Rough air temperature at sea level, degrees C; warmest on 25 July (January in the south)."""
    swing = math.cos(2 * math.pi * (northern_day(lat_deg, day_of_year) - 206) / 365)
    return CLIMATES[climate]["mean_c"] + CLIMATES[climate]["range_c"] * swing


def _phase(climate: str, lat_deg: float, day_of_year: float, lag_days: float = 0) -> float:
    """0 at the low point of the season of growth, 1 at its peak."""
    day = northern_day(lat_deg, day_of_year) - CLIMATES[climate]["peak_day"] - lag_days
    return 0.5 + 0.5 * math.cos(2 * math.pi * day / 365)


def greenness(climate: str, lat_deg: float, day_of_year: float) -> float:
    """Green cover of grassland, 0..1; crops and leaves of deciduous trees follow it in their own way."""
    low, high = CLIMATES[climate]["low"], CLIMATES[climate]["high"]
    return low + (high - low) * _phase(climate, lat_deg, day_of_year) ** 1.3


def leaf_cover(climate: str, lat_deg: float, day_of_year: float) -> float:
    """Share of tree crowns in leaf, 0..1: evergreens always, the others by a sharper season than grass."""
    evergreen = CLIMATES[climate]["evergreen"]
    phase = _phase(climate, lat_deg, day_of_year, lag_days=10)
    return evergreen + (1 - evergreen) / (1 + math.exp(-14 * (phase - 0.38)))


def sun_position(lat_deg: float, day_of_year: float) -> tuple[float, float]:
    """Sun at Sentinel-2's overpass: (elevation_deg, azimuth_deg), azimuth clockwise from north.

    The declination follows Cooper's formula.
    """
    declination = math.radians(23.45) * math.sin(2 * math.pi * (284 + day_of_year) / 365)
    lat, hour = math.radians(lat_deg), math.radians(15 * (OVERPASS_HOUR - 12))
    sine = math.sin(lat) * math.sin(declination) + math.cos(lat) * math.cos(declination) * math.cos(hour)
    east = -math.cos(declination) * math.sin(hour)
    north = math.cos(lat) * math.sin(declination) - math.sin(lat) * math.cos(declination) * math.cos(hour)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine)))), math.degrees(math.atan2(east, north)) % 360
