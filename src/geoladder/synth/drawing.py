"""Draws roads and buildings at 2.5 m and averages them to 10 m, with the shadows of a day's sun.

One canvas holds one code per drawing pixel, so the shares of all materials add up to at most one.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

from geoladder.synth.atmosphere import Day
from geoladder.synth.settlement import TRACK, Plan

SCALE = 4  # drawing pixels of 2.5 m per image pixel
YARD, ROOF = TRACK + 1, TRACK + 2  # ROOF, ROOF + 1, ROOF + 2: the three roof materials
CODES = range(1, ROOF + 3)


class Built:
    """A plan drawn under the sun of a day: shares of each pixel, float32 0..1."""

    def __init__(self, plan: Plan, water: np.ndarray, day: Day) -> None:
        """Draw a plan; `water` is (H, W) bool, and only main roads cross it."""
        corners, roofs, heights_m = (np.concatenate(group) for group in zip(*plan.buildings, strict=True))
        # Main road, street, track, yard, three roofs: (7, H, W).
        self.shares = np.zeros((len(CODES), *water.shape), np.float32)
        self.shadow = np.zeros(water.shape, np.float32)  # of buildings, on ground that is no roof, (H, W)
        if plan.lines or len(corners):
            self.shares = _shares(plan, corners, roofs, len(water))
            self.shares[1:] *= ~water
            self.shadow = _shadow(corners, heights_m, day, len(water)) * (1 - self.shares[4:].sum(0))
        self.roads = self.shares[:3].sum(0)  # (H, W)
        self.buildings = self.shares[4:].sum(0)  # (H, W)


def _shares(plan: Plan, corners: np.ndarray, roofs: np.ndarray, side: int) -> np.ndarray:
    canvas = Image.new("L", (side * SCALE, side * SCALE))
    pen = ImageDraw.Draw(canvas)
    for yard in plan.yards:
        pen.polygon((yard * SCALE).ravel().tolist(), fill=YARD)
    for code, points, width in sorted(plan.lines, key=lambda line: -line[0]):
        across = max(2, round(width * SCALE))
        pen.line((points * SCALE).ravel().tolist(), fill=code, width=across, joint="curve")
    for polygon, roof in zip((corners * SCALE).reshape(-1, 8).tolist(), roofs.tolist(), strict=True):
        pen.polygon(polygon, fill=ROOF + roof)
    return np.stack(
        [_averaged(canvas.point([255 if value == code else 0 for value in range(256)])) for code in CODES]
    )


def _shadow(corners: np.ndarray, heights_m: np.ndarray, day: Day, side: int) -> np.ndarray:
    canvas = Image.new("L", (side * SCALE, side * SCALE))
    pen = ImageDraw.Draw(canvas)
    reach = heights_m / 10 / math.tan(math.radians(max(day.sun_elevation_deg, 12)))
    azimuth = math.radians(day.sun_azimuth_deg)
    away = np.array([-math.sin(azimuth), math.cos(azimuth)])  # x right, y down
    for part in (0.5, 1.0):
        shifted = (corners + (part * reach[:, None] * away)[:, None]) * SCALE
        for polygon in shifted.reshape(-1, 8).tolist():
            pen.polygon(polygon, fill=255)
    return _averaged(canvas)


def _averaged(canvas: Image.Image) -> np.ndarray:
    """Mean over 4 x 4 drawing pixels of 0 or 255, as 0..1 float32."""
    return np.asarray(canvas.reduce(SCALE), np.float32) / np.float32(255)
