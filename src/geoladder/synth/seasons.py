"""What season and sun do at a place on a day: temperature, green leaves, sun position.

This is a caricature with few numbers, made so that hemisphere, climate and season can be read from pixels and cannot
be read from one another: southern seasons are shifted by half a year, monsoon and Mediterranean land is green at
other times than temperate land, equatorial land always is.
"""

import math

from geoladder.synth.place import by_prefix

HALF_YEAR = 182.5
OVERPASS_HOUR = 10.5  # local solar time of Sentinel-2
# Yearly mean and half the yearly range of temperature, degrees C at sea level.
_MEAN_C: dict[str, float] = {
    "A": 26, "BWh": 25, "BWk": 11, "BSh": 22, "BSk": 9, "Cs": 15, "Cw": 17, "Cfa": 16, "Cfb": 10, "Cfc": 6,
    "Da": 8, "D": 4, "Dfa": 9, "Dfb": 5, "Dfc": -3, "Dfd": -12, "Dwa": 7, "Dwb": 3, "Dwc": -5, "Dwd": -12,
    "ET": -7, "EF": -30,
}  # fmt: skip
_RANGE_C: dict[str, float] = {
    "A": 2, "BWh": 9, "BWk": 14, "BSh": 7, "BSk": 13, "Cs": 8, "Cw": 7, "Cfa": 11, "Cfb": 7, "Cfc": 5,
    "D": 16, "Dfa": 14, "Dfb": 14, "Dfc": 18, "Dfd": 25, "ET": 13, "EF": 12,
}  # fmt: skip
# Day of the northern year when herbs are greenest, and how green they are at the low point and the peak.
_PEAK_DAY: dict[str, float] = {
    "A": 250, "BWh": 230, "BWk": 150, "BSh": 240, "BSk": 150, "Cs": 90, "Cw": 235, "Cf": 170, "D": 190,
    "ET": 205,
}  # fmt: skip
_LOW = {"Af": 0.85, "Am": 0.6, "Aw": 0.2, "BW": 0.08, "BS": 0.12, "Cs": 0.15, "Cw": 0.25, "Cfa": 0.3, "Cfb": 0.5,
        "Cfc": 0.3, "D": 0.1, "ET": 0.05}  # fmt: skip
_HIGH = {"Af": 0.95, "Am": 0.95, "Aw": 0.9, "BW": 0.2, "BS": 0.6, "Cs": 0.85, "C": 0.95, "D": 0.9, "ET": 0.65}
# Share of trees that keep their leaves.
_EVERGREEN = {"Af": 1.0, "Am": 0.9, "Aw": 0.45, "B": 0.6, "Cs": 0.75, "Cw": 0.6, "Cfa": 0.4, "Cfb": 0.35, "Cfc": 0.6,
              "D": 0.45, "Dfa": 0.2, "Dfc": 0.8, "Dfd": 0.2, "Dwd": 0.2, "ET": 0.8}  # fmt: skip


def northern_day(lat_deg: float, day_of_year: float) -> float:
    """Day of the year as the northern hemisphere counts its seasons."""
    return day_of_year if lat_deg >= 0 else (day_of_year + HALF_YEAR) % 365


def temperature_c(climate: str, lat_deg: float, day_of_year: float) -> float:
    """Rough air temperature at sea level, degrees C; warmest on 25 July (January in the south)."""
    day = northern_day(lat_deg, day_of_year)
    swing = math.cos(2 * math.pi * (day - 206) / 365)
    return by_prefix(_MEAN_C, climate, 10) + by_prefix(_RANGE_C, climate, 5) * swing


def greenness(climate: str, lat_deg: float, day_of_year: float) -> float:
    """Green cover of grassland, 0..1; crops and leaves of deciduous trees follow it in their own way."""
    day = northern_day(lat_deg, day_of_year)
    phase = 0.5 + 0.5 * math.cos(2 * math.pi * (day - by_prefix(_PEAK_DAY, climate, 190)) / 365)
    low, high = by_prefix(_LOW, climate), by_prefix(_HIGH, climate)
    return low + (high - low) * phase**1.3


def leaf_cover(climate: str, lat_deg: float, day_of_year: float) -> float:
    """Share of tree crowns in leaf, 0..1: evergreens always, the others by a sharper season than grass."""
    evergreen = by_prefix(_EVERGREEN, climate, 0.5)
    day = northern_day(lat_deg, day_of_year)
    phase = 0.5 + 0.5 * math.cos(2 * math.pi * (day - by_prefix(_PEAK_DAY, climate, 190) - 10) / 365)
    return evergreen + (1 - evergreen) / (1 + math.exp(-14 * (phase - 0.38)))


def sun_position(lat_deg: float, day_of_year: float) -> tuple[float, float]:
    """Sun at Sentinel-2's overpass.

    Returns:
        (elevation_deg, azimuth_deg), azimuth clockwise from north. Cooper's formula for the declination.
    """
    declination = math.radians(23.45) * math.sin(2 * math.pi * (284 + day_of_year) / 365)
    lat, hour = math.radians(lat_deg), math.radians(15 * (OVERPASS_HOUR - 12))
    sine = math.sin(lat) * math.sin(declination) + math.cos(lat) * math.cos(declination) * math.cos(hour)
    east = -math.cos(declination) * math.sin(hour)
    north = math.cos(lat) * math.sin(declination) - math.sin(lat) * math.cos(declination) * math.cos(hour)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine)))), math.degrees(math.atan2(east, north)) % 360
