"""One tile of the synthetic Earth, seen on one date.

A scene is a pure function of (earth, grid cell, date, size). The ground (terrain, parcels, towns) depends on the cell
alone, so revisits show the same place; season, sun, weather and clouds depend on the date too.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from geoladder.study.corpora import Earth
from geoladder.synth import landscape as ground_
from geoladder.synth.atmosphere import add_clouds, add_haze
from geoladder.synth.drawing import Built, draw
from geoladder.synth.earth import stream
from geoladder.synth.fields import smooth
from geoladder.synth.landscape import Landscape, landscape_of
from geoladder.synth.materials import Settlement, settlement, style_here, surfaces_here, vegetation
from geoladder.synth.place import Place, place_of
from geoladder.synth.settlement import plan_of
from geoladder.synth.surface import bare_surface, build_over, day_of, relief_shade, snowfall

BUILT_UP = 50
BUILT_SHARE = 0.5  # of a pixel under roofs and paving, from which it is labelled built-up


@dataclass(frozen=True)
class Scene:
    """A tile with its truth.

    Attributes:
        place: where it is.
        date: ISO date.
        reflectance: (10, H, W) float32 surface reflectance at 10 m, bands in PhilEO order.
        landcover: (H, W) uint8 WorldCover codes 10..100.
        roads: (H, W) float32, share of the pixel under roads, 0..1.
        buildings: (H, W) float32, share of the pixel under roofs, 0..1.
        cloud_mask: (H, W) uint8, 0 clear, 1 thick cloud, 2 thin cloud, 3 shadow.
    """

    place: Place
    date: str
    reflectance: np.ndarray
    landcover: np.ndarray
    roads: np.ndarray
    buildings: np.ndarray
    cloud_mask: np.ndarray


def render(earth: Earth, cell: str, date: str, tile_px: int) -> Scene:
    """Make the tile of a grid cell on a date.

    Args:
        earth: settings.
        cell: official grid cell, `433D_629L`.
        date: ISO date, `2020-04-08`; the sun should be up (`seasons.sun_position`).
        tile_px: side in pixels of 10 m; the tile lies in the middle of the cell's footprint.
    """
    place = place_of(earth, cell)
    day = day_of(earth, place, date)
    plants = vegetation(earth, style_here(earth, "vegetation", place.region, cell))
    town = settlement(earth, style_here(earth, "settlement", place.region, cell))
    ground = landscape_of(earth, place, plants, tile_px)
    plan = plan_of(earth, place, town, ground)
    built = draw(plan, ground.cover == ground_.WATER, day.sun_elevation_deg, day.sun_azimuth_deg)
    cover = _gardens(earth, place, town, ground, built)
    reflectance = bare_surface(earth, place, plants, ground, cover, day)
    build_over(reflectance, built, surfaces_here(earth, town, place), stream(earth.seed, cell, "uneven"))
    snowfall(reflectance, cover, ground, built, day, stream(earth.seed, cell, date, "snow"))
    reflectance *= relief_shade(ground.height, day) * np.float32(day.weather.brightness)
    air = stream(earth.seed, cell, date, "air")
    add_haze(reflectance, day.weather, day.sun_elevation_deg, air)
    cloud_mask = add_clouds(reflectance, day.weather, day.sun_elevation_deg, day.sun_azimuth_deg, air)
    reflectance += np.float32(earth.noise_reflectance) * air.standard_normal(reflectance.shape, np.float32)
    paved = built.roads - built.shares[2] + built.shares[3] + built.buildings
    dry = cover != ground_.WATER
    labels = ground_.WORLDCOVER[cover]
    labels[(paved > BUILT_SHARE) & dry] = BUILT_UP
    return Scene(
        place, date, reflectance, labels, built.roads.clip(0, 1), built.buildings.clip(0, 1), cloud_mask
    )


def _gardens(earth: Earth, place: Place, town: Settlement, ground: Landscape, built: Built) -> np.ndarray:
    """Cover with the ground between houses turned into trees, lawns or (in dry land) trodden soil."""
    dense = built.shares[1] + built.buildings
    if not dense.any():
        return ground.cover
    blurred = np.asarray(
        Image.fromarray((dense.clip(0, 1) * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(3))
    )
    side = len(dense)
    lawn = ground_.BARE if place.climate.startswith("B") else ground_.GRASS
    trees = smooth(stream(earth.seed, place.cell, "gardens"), side, 5) < 1.6 * (town.trees - 0.5)
    inside = (blurred > 0.09 * 255) & (ground.cover != ground_.WATER) & (ground.cover != ground_.SNOW)
    cover = ground.cover.copy()
    cover[inside] = np.where(trees, ground_.TREE, lawn)[inside]
    return cover
