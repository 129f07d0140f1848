"""What things are made of: band reflectance of soils, leaves, roofs, roads, water and snow.

No spectrum is invented. Soils (with their true places), canopies and built materials are measured or
PROSAIL spectra of earthlib, averaged over the ten bands (`tools/derive_tables.py`). Water and snow are in no small
library, so they follow from published formulas: water by the quasi-single-scattering reflectance of Gordon et al.
(1988) with the above-surface step of Lee et al. (2002) and pure-water absorption of Pope and Fry (1997); snow by
Kokhanovsky and Zege (2004) with the absorption of ice of Warren and Brandt (2008), both read at the band centres
and rounded.
"""

import math
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import pandas as pd

from geoladder.study.corpora import Earth
from geoladder.synth.earth import stream, zipf_shares
from geoladder.synth.place import Place

WAVELENGTH_NM = np.array([490, 560, 665, 842, 705, 740, 783, 865, 1610, 2190], float)
FIELD_SCALE = 0.55
"""Soil and rock in the field, rough and shaded, against the same dried and sieved in the laboratory."""
WEATHERED_GROUND, WEATHERED_ROOF = (0.75, 1.2), (0.85, 1.6)
"""Ranges of the brightness of roads and yards, and of roofs, in a cell, against the library sample."""
ALIKE = 40  # canopies of the library to either side that count as alike
WATER_ABSORPTION = np.array([0.015, 0.062, 0.43, 3.9, 0.70, 2.6, 2.3, 4.6, 700.0, 2600.0])  # 1/m
ICE_ABSORPTION = np.array(
    [5e-10, 2.5e-9, 1.7e-8, 1.9e-7, 2.9e-8, 6e-8, 1.3e-7, 2.4e-7, 2.6e-4, 2.9e-4]
)  # imaginary index

_GREY = ("road", "asphalt", "concrete", "gravel", "shingle_roof")
_ROOFS = (*_GREY, "tile_roof", "metal_roof", "soil", "npv")  # earth and thatch last


@cache
def _table(name: str) -> pd.DataFrame:
    with resources.files("geoladder.data").joinpath(f"tables/{name}.csv").open("rb") as handle:
        return pd.read_csv(handle)


@cache
def library(material: str) -> np.ndarray:
    """Spectra of a material (`canopy`, `npv`, `asphalt`, `tile_roof`, ...), (n, 10) float32 reflectance."""
    table = _table("spectra")
    return table[table.material == material].iloc[:, 1:].to_numpy(np.float32)


@cache
def _soils() -> tuple[np.ndarray, np.ndarray]:
    table = _table("soils")
    return np.radians(table[["lat_deg", "lon_deg"]].to_numpy()), table.iloc[:, 2:].to_numpy(np.float32)


def soils_near(lat_deg: float, lon_deg: float, count: int = 12) -> np.ndarray:
    """Field reflectance of the nearest sampled soils, (count, 10) float32, nearest first."""
    places, spectra = _soils()
    lat, lon = math.radians(lat_deg), math.radians(lon_deg)
    cosine = np.sin(lat) * np.sin(places[:, 0]) + np.cos(lat) * np.cos(places[:, 0]) * np.cos(
        places[:, 1] - lon
    )
    return FIELD_SCALE * spectra[np.argsort(-cosine, kind="stable")[:count]]


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


@dataclass(frozen=True)
class Vegetation:
    """One vegetation style: the plants of a landscape and how they stand.

    Attributes:
        canopies: (7,) rows of `library("canopy")`: tree, other tree, shrub, grass, three crops.
        vigour: multiplies green cover, about 1.
        roughness: multiplies texture, about 1.
        field_m: (width, length) of a typical parcel.
        hedges: share of parcel edges with a tree line.
        orchard: share of parcels that are orchards.
        pasture: share of parcels that are grass.
        sowing: day of the northern year of each crop, (3,).
        row_px: spacing of crop rows and tramlines in pixels.
    """

    canopies: np.ndarray
    vigour: float
    roughness: float
    field_m: tuple[float, float]
    hedges: float
    orchard: float
    pasture: float
    sowing: np.ndarray
    row_px: float


@dataclass(frozen=True)
class Settlement:
    """One settlement style: materials and plan of towns.

    Attributes:
        major: material of main roads, as in `library`.
        street: material of streets; `soil` is the local soil.
        roofs: three roof materials.
        yard: material of yards and car parks, or `soil`.
        bend: 0 straight streets .. 1 winding.
        block_m: (length, depth) of a street block.
        house_m: (frontage, depth) of a house.
        gap: share of building plots left empty.
        mix: shares of block types: houses, apartment slabs, works with yards, car park or square, park.
        street_m: width of streets.
        trees: share of gardens under trees.
        storey_m: typical height of houses.
    """

    major: str
    street: str
    roofs: tuple[str, str, str]
    yard: str
    bend: float
    block_m: tuple[float, float]
    house_m: tuple[float, float]
    gap: float
    mix: np.ndarray
    street_m: float
    trees: float
    storey_m: float


def _pick(rng: np.random.Generator, material: str) -> np.ndarray:
    spectra = library(material)
    return spectra[rng.integers(len(spectra))]


def canopies_here(earth: Earth, style: Vegetation, cell: str) -> tuple[np.ndarray, np.ndarray]:
    """Plants of a cell: its style's canopies or ones alike, (7, 10), and its dead plants, (10,); float32."""
    rng = stream(earth.seed, cell, "plants")
    canopies = library("canopy")  # sorted by near-infrared reflectance, so neighbours are alike
    rows = (style.canopies + rng.integers(-ALIKE, ALIKE + 1, len(style.canopies))).clip(0, len(canopies) - 1)
    return canopies[rows], np.float32(0.75) * _pick(rng, "npv")


def surfaces_here(earth: Earth, style: Settlement, place: Place) -> np.ndarray:
    """Surfaces of a cell's main roads, streets, tracks, yards and three roofs: (7, 10) float32.

    The style says which material; the cell, which sample of it and how weathered.
    """
    rng = stream(earth.seed, place.cell, "surfaces")
    soil = soils_near(place.lat_deg, place.lon_deg, 1)[0]
    kinds = (style.major, style.street, "soil", style.yard, *style.roofs)
    rows = [soil if kind == "soil" else _pick(rng, kind) for kind in kinds]
    tone = [rng.uniform(*WEATHERED_GROUND, 4), rng.uniform(*WEATHERED_ROOF, 3)]
    return np.stack(rows) * np.concatenate(tone)[:, None].astype(np.float32)


@cache
def vegetation(earth: Earth, style: int) -> Vegetation:
    """Vegetation style number `style` (0 most frequent) of an Earth."""
    rng = stream(earth.seed, "vegetation style", style)
    count = len(library("canopy"))
    # Trees and shrubs lean a little to the dark side; the classes overlap on purpose.
    rows = [rng.integers(int(count * 0.85)) for _ in range(3)] + [rng.integers(count) for _ in range(4)]
    width = math.exp(rng.uniform(math.log(50), math.log(420)))
    return Vegetation(
        canopies=np.array(rows),
        vigour=rng.uniform(0.8, 1.12),
        roughness=rng.uniform(0.7, 1.35),
        field_m=(width, width * rng.uniform(1.0, 3.5)),
        hedges=rng.choice([0.0, 0.0, 0.3, 0.7]),
        orchard=rng.choice([0.0, 0.06, 0.2]),
        pasture=rng.uniform(0.05, 0.35),
        sowing=np.array([rng.uniform(60, 110), rng.uniform(110, 160), rng.uniform(230, 300)]),
        row_px=rng.uniform(2.2, 4.5),
    )


@cache
def settlement(earth: Earth, style: int) -> Settlement:
    """Settlement style number `style` (0 most frequent) of an Earth."""
    rng = stream(earth.seed, "settlement style", style)
    # Roofs, yards and roads draw from the same grey materials: shape, size and shadow tell a roof.
    first, second, third = (str(rng.choice(_ROOFS)) for _ in range(3))
    paved, dirt = rng.random(2)
    mix = rng.dirichlet([4.5, 2, 3, 2.0, 1])
    block = rng.uniform(80, 190)
    return Settlement(
        major=str(rng.choice(_GREY)),
        street="soil" if dirt < 0.35 else str(rng.choice(_GREY)),
        roofs=(first, second, third),
        yard="soil" if paved < 0.3 else str(rng.choice(_GREY)),
        bend=rng.choice([0.0, 0.0, 0.5, 1.0]),
        block_m=(block * rng.uniform(1.0, 1.8), block),
        house_m=(rng.uniform(13, 30), rng.uniform(12, 20)),
        gap=rng.uniform(0.05, 0.4),
        mix=mix,
        street_m=rng.uniform(9, 18),
        trees=rng.uniform(0.05, 0.6),
        storey_m=rng.uniform(4, 11),
    )


def style_here(earth: Earth, family: str, region: int, cell: str) -> int:
    """Style number of a cell: a Zipf draw over the whole Earth, or one of the four of its region.

    Args:
        earth: the Earth.
        family: `vegetation` or `settlement`.
        region: `Place.region`.
        cell: grid cell.
    """
    shares = zipf_shares(earth.styles, earth.zipf_exponent)
    here = stream(earth.seed, family, cell)
    if here.random() < earth.regional_share:
        regional = stream(earth.seed, family, "region", region).choice(earth.styles, size=4, p=shares)
        return int(regional[here.integers(4)])
    return int(here.choice(earth.styles, p=shares))
