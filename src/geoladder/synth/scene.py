"""One tile of the synthetic Earth, seen on one date.

A scene is a pure function of (earth, grid cell, date, size). The ground (terrain, parcels, towns) depends on the cell
alone, so revisits show the same place; season, sun, weather and clouds depend on the date too.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from geoladder.study.corpora import Earth
from geoladder.synth.atmosphere import Day, add_clouds, add_haze
from geoladder.synth.drawing import Built
from geoladder.synth.fields import smooth
from geoladder.synth.landscape import BARE, COVERS, GRASS, SNOW, TREE, WATER, Landscape
from geoladder.synth.place import Place
from geoladder.synth.settlement import Plan
from geoladder.synth.styles import Settlement, Vegetation
from geoladder.synth.surface import bare_surface, build_over, relief_shade, snowfall

WORLDCOVER = COVERS["worldcover"].to_numpy(np.uint8)
"""WorldCover code of each cover; orchards are tree cover there. Built-up comes from the settlement."""
BUILT_UP = 50
BUILT_SHARE = 0.5  # of a pixel under roofs and paving, from which it is labelled built-up


class Scene(NamedTuple):
    """A tile with its truth."""

    place: Place
    date: str  # ISO
    reflectance: np.ndarray  # (10, H, W) float32 surface reflectance at 10 m, bands in PhilEO order
    landcover: np.ndarray  # (H, W) uint8 WorldCover codes 10..100
    roads: np.ndarray  # (H, W) float32, share of the pixel under roads, 0..1
    buildings: np.ndarray  # (H, W) float32, share of the pixel under roofs, 0..1
    cloud_mask: np.ndarray  # (H, W) uint8, 0 clear, 1 thick cloud, 2 thin cloud, 3 shadow


def render(earth: Earth, cell: str, date: str, tile_px: int) -> Scene:
    """Make the tile of a grid cell on a date.

    Args:
        earth: settings.
        cell: official grid cell, `433D_629L`.
        date: ISO date, `2020-04-08`; the sun should be up (`seasons.sun_position`).
        tile_px: side in pixels of 10 m; the tile lies in the middle of the cell's footprint.
    """
    place = Place(earth, cell)
    day, plants, town = Day(place, date), Vegetation(place), Settlement(place)
    ground = Landscape(place, plants, tile_px)
    built = Built(Plan(place, town, ground), ground.cover == WATER, day)
    _plant_gardens(place, town, ground, built)
    reflectance = bare_surface(place, plants, ground, day)
    build_over(reflectance, built, town.surfaces, place.stream("uneven"))
    snowfall(reflectance, ground, built.roads, day, place.stream(date, "snow"))
    reflectance *= relief_shade(ground.height, day) * np.float32(day.brightness)
    air = place.stream(date, "air")
    add_haze(reflectance, day, air)
    cloud_mask = add_clouds(reflectance, day, air)
    reflectance += np.float32(earth.noise_reflectance) * air.standard_normal(reflectance.shape, np.float32)
    paved = built.roads - built.shares[2] + built.shares[3] + built.buildings
    labels = WORLDCOVER[ground.cover]
    labels[(paved > BUILT_SHARE) & (ground.cover != WATER)] = BUILT_UP
    densities = built.roads.clip(0, 1), built.buildings.clip(0, 1)
    return Scene(place, date, reflectance, labels, *densities, cloud_mask)


def _plant_gardens(place: Place, town: Settlement, ground: Landscape, built: Built) -> None:
    """Turn the ground between houses into trees, lawns or (in dry land) trodden soil."""
    dense = built.shares[1] + built.buildings
    if not dense.any():
        return
    image = Image.fromarray((dense.clip(0, 1) * 255).astype(np.uint8))
    near_houses = np.asarray(image.filter(ImageFilter.BoxBlur(3))) > 0.09 * 255
    lawn = BARE if place.climate.startswith("B") else GRASS
    trees = smooth(place.stream("gardens"), len(dense), 5) < 1.6 * (town.trees - 0.5)
    inside = near_houses & (ground.cover != WATER) & (ground.cover != SNOW)
    ground.cover[inside] = np.where(trees, TREE, lawn)[inside]
