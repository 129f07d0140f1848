"""What things are made of: band reflectance of soils, leaves, roofs, roads, water and snow.

No spectrum is invented. Soils (with their true places), canopies and built materials are measured or
PROSAIL spectra of earthlib, averaged over the ten bands (`tools/derive_tables.py`). Water and snow are in no small
library, so they follow from published formulas: water by the quasi-single-scattering reflectance of Gordon et al.
(1988) with the above-surface step of Lee et al. (2002) and pure-water absorption of Pope and Fry (1997); snow by
Kokhanovsky and Zege (2004) with the absorption of ice of Warren and Brandt (2008), both read at the band centres
and rounded.
"""

import math

import numpy as np

from geoladder.synth.earth import table

WAVELENGTH_NM = np.array([490, 560, 665, 842, 705, 740, 783, 865, 1610, 2190], float)
FIELD_SCALE = 0.55
"""Soil and rock in the field, rough and shaded, against the same dried and sieved in the laboratory."""
WATER_ABSORPTION = np.array([0.015, 0.062, 0.43, 3.9, 0.70, 2.6, 2.3, 4.6, 700.0, 2600.0])  # 1/m
# Imaginary part of the refractive index.
ICE_ABSORPTION = np.array([5e-10, 2.5e-9, 1.7e-8, 1.9e-7, 2.9e-8, 6e-8, 1.3e-7, 2.4e-7, 2.6e-4, 2.9e-4])

LIBRARY = {
    str(material): rows.iloc[:, 1:].to_numpy(np.float32)
    for material, rows in table("spectra").groupby("material")
}
"""Spectra by material (`canopy`, `npv`, `asphalt`, `tile_roof`, ...), (n, 10) float32 reflectance each."""
_SOIL_LAT, _SOIL_LON = np.radians(table("soils")[["lat_deg", "lon_deg"]].to_numpy()).T
_SOILS = table("soils").iloc[:, 2:].to_numpy(np.float32)


def soils_near(lat_deg: float, lon_deg: float) -> np.ndarray:
    """Field reflectance of the twelve nearest sampled soils, (12, 10) float32, nearest first."""
    lat, lon = math.radians(lat_deg), math.radians(lon_deg)
    cosine = np.sin(lat) * np.sin(_SOIL_LAT) + np.cos(lat) * np.cos(_SOIL_LAT) * np.cos(_SOIL_LON - lon)
    return FIELD_SCALE * _SOILS[np.argsort(-cosine, kind="stable")[:12]]


def water(sediment: float, chlorophyll: float, dissolved: float) -> np.ndarray:
    """Reflectance of deep water, (10,) float32.

    Args:
        sediment: backscattering of particles at 550 nm, 1/m: 0.002 (ocean) .. 1 (muddy river).
        chlorophyll: mg per m3, 0.05 (ocean) .. 60 (pond).
        dissolved: absorption of dissolved organic matter at 440 nm, 1/m: 0.01 .. 3.
    """
    nm = WAVELENGTH_NM
    pigment = 0.03 * chlorophyll**0.65 * np.exp(-(((nm - 440) / 90) ** 2))
    pigment = pigment + 0.015 * chlorophyll**0.65 * np.exp(-(((nm - 672) / 14) ** 2))
    absorption = WATER_ABSORPTION + pigment + dissolved * np.exp(-0.015 * (nm - 440))
    scattering = 0.0009 * (550 / nm) ** 4.3 + sediment * (550 / nm) ** 0.6
    u = scattering / (absorption + scattering)
    below = (0.0949 + 0.0794 * u) * u
    return (np.pi * 0.52 * below / (1 - 1.7 * below)).astype(np.float32)


def snow(grain_mm: float) -> np.ndarray:
    """Reflectance of deep clean snow, (10,) float32; grain diameter 0.1 mm (fresh) .. 2 mm (old, firn)."""
    gamma = 4 * np.pi * ICE_ABSORPTION / (WAVELENGTH_NM * 1e-9)
    return np.exp(-np.sqrt(13 * gamma * grain_mm * 1e-3)).astype(np.float32)
