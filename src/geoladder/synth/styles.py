"""Styles of vegetation and settlement: what grows and what is built at a place, and of which materials.

An Earth has `earth.styles` of each, drawn by a Zipf law. The style says which material a road or roof is of; the
cell says which sample of the library, and how weathered.
"""

import math

import numpy as np

from geoladder.synth.earth import stream
from geoladder.synth.materials import LIBRARY, soils_near
from geoladder.synth.place import Place

WEATHERED_GROUND, WEATHERED_ROOF = (0.75, 1.2), (0.85, 1.6)
"""Ranges of the brightness of roads and yards, and of roofs, in a cell, against the library sample."""
ALIKE = 40  # canopies of the library to either side that count as alike
GREY = ("road", "asphalt", "concrete", "gravel", "shingle_roof")
ROOFS = (*GREY, "tile_roof", "metal_roof", "soil", "npv")  # earth and thatch last


def style_of(place: Place, family: str) -> int:
    """Number of a cell's style of `vegetation` or `settlement`, 0 the most frequent.

    A Zipf draw over the whole Earth, or one of the four styles of the cell's region.
    """
    earth = place.earth
    weights = np.arange(1, earth.styles + 1, dtype=float) ** -earth.zipf_exponent
    shares = weights / weights.sum()
    here = stream(earth.seed, family, place.cell)
    if here.random() < earth.regional_share:
        regional = stream(earth.seed, family, "region", place.region).choice(earth.styles, size=4, p=shares)
        return int(regional[here.integers(4)])
    return int(here.choice(earth.styles, p=shares))


def _pick(rng: np.random.Generator, material: str) -> np.ndarray:
    return LIBRARY[material][rng.integers(len(LIBRARY[material]))]


class Vegetation:
    """The plants of a cell and how they stand."""

    def __init__(self, place: Place) -> None:
        rng = stream(place.earth.seed, "vegetation style", style_of(place, "vegetation"))
        library = LIBRARY["canopy"]  # sorted by near-infrared reflectance, so neighbours are alike
        # Trees and shrubs lean a little to the dark side; the classes overlap on purpose.
        stops = [int(len(library) * 0.85)] * 3 + [len(library)] * 4
        style = np.array([rng.integers(stop) for stop in stops])
        width = math.exp(rng.uniform(math.log(50), math.log(420)))
        self.vigour = rng.uniform(0.8, 1.12)  # multiplies green cover
        self.roughness = rng.uniform(0.7, 1.35)  # multiplies texture
        self.field_m = (width, width * rng.uniform(1.0, 3.5))  # width and length of a typical parcel
        self.hedges = rng.choice([0.0, 0.0, 0.3, 0.7])  # share of parcel edges with a tree line
        self.orchard = rng.choice([0.0, 0.06, 0.2])  # share of parcels that are orchards
        self.pasture = rng.uniform(0.05, 0.35)  # share of parcels that are grass
        # Day of the northern year on which each of three crops is sown.
        self.sowing = np.array([rng.uniform(60, 110), rng.uniform(110, 160), rng.uniform(230, 300)])
        self.row_px = rng.uniform(2.2, 4.5)  # spacing of crop rows and tramlines

        here = place.stream("plants")
        rows = (style + here.integers(-ALIKE, ALIKE + 1, len(style))).clip(0, len(library) - 1)
        # (7, 10) float32: tree, other tree, shrub, grass, three crops.
        self.canopies = library[rows]
        self.litter = np.float32(0.75) * _pick(here, "npv")  # (10,) float32, dead plants


class Settlement:
    """Materials and plan of the towns of a cell."""

    def __init__(self, place: Place) -> None:
        rng = stream(place.earth.seed, "settlement style", style_of(place, "settlement"))
        # Roofs, yards and roads draw from the same grey materials: shape, size and shadow tell a roof.
        roofs = [str(rng.choice(ROOFS)) for _ in range(3)]
        paved, dirt = rng.random(2)
        # Shares of block types: houses, apartment slabs, works with yards, car park or square, park.
        self.mix = rng.dirichlet([4.5, 2, 3, 2.0, 1])
        depth = rng.uniform(80, 190)
        major = str(rng.choice(GREY))
        street = "soil" if dirt < 0.35 else str(rng.choice(GREY))
        yard = "soil" if paved < 0.3 else str(rng.choice(GREY))
        self.bend = rng.choice([0.0, 0.0, 0.5, 1.0])  # 0 straight streets .. 1 winding
        self.block_m = (depth * rng.uniform(1.0, 1.8), depth)  # length and depth of a street block
        self.house_m = (rng.uniform(13, 30), rng.uniform(12, 20))  # frontage and depth
        self.gap = rng.uniform(0.05, 0.4)  # share of building plots left empty
        self.street_m = rng.uniform(9, 18)  # width
        self.trees = rng.uniform(0.05, 0.6)  # share of gardens under trees
        self.storey_m = rng.uniform(4, 11)  # typical height of houses

        here = place.stream("surfaces")
        soil = soils_near(place.lat_deg, place.lon_deg)[0]
        spectra = [
            soil if material == "soil" else _pick(here, material)
            for material in (major, street, "soil", yard, *roofs)
        ]
        tone = np.concatenate([here.uniform(*WEATHERED_GROUND, 4), here.uniform(*WEATHERED_ROOF, 3)])
        # (7, 10) float32: main roads, streets, tracks, yards, three roofs.
        self.surfaces = np.stack(spectra) * tone[:, None].astype(np.float32)
