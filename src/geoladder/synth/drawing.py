"""Draws roads and buildings at 2.5 m and averages them to 10 m, with the shadows of a day's sun.

One canvas holds one code per drawing pixel, so the shares of all materials add up to at most one.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

SCALE = 4  # drawing pixels of 2.5 m per image pixel
MAJOR, STREET, TRACK, YARD, ROOF = 1, 2, 3, 4, 5  # ROOF, ROOF + 1, ROOF + 2: the three roof materials


@dataclass
class Plan:
    """Everything built in a cell, in pixels of 10 m: x to the right, y down.

    Attributes:
        lines: (code, points (n, 2), width in pixels) of roads, in drawing order.
        yards: (4, 2) corners of paved ground.
        buildings: (n, 4, 2) corners.
        roofs: (n,) 0..2.
        heights_m: (n,).
        towns: (x, y, radius) of each town.
    """

    lines: list[tuple[int, np.ndarray, float]] = field(default_factory=list)
    yards: list[np.ndarray] = field(default_factory=list)
    buildings: np.ndarray = field(default_factory=lambda: np.zeros((0, 4, 2)))
    roofs: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    heights_m: np.ndarray = field(default_factory=lambda: np.zeros(0))
    towns: list[tuple[float, float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Built:
    """Share of each pixel under roads, yards, roofs and building shadow, float32 0..1.

    Attributes:
        shares: (7, H, W): main road, street, track, yard, three roofs.
        shadow: (H, W), of ground that is no roof.
    """

    shares: np.ndarray
    shadow: np.ndarray

    @property
    def roads(self) -> np.ndarray:
        """Road density, (H, W)."""
        return self.shares[:3].sum(0)

    @property
    def buildings(self) -> np.ndarray:
        """Building density, (H, W)."""
        return self.shares[4:].sum(0)


def _share(canvas: Image.Image, table: list[int]) -> np.ndarray:
    """Average of a look-up table of the canvas codes over 4 x 4 drawing pixels, 0..1 float32."""
    return np.asarray(canvas.point(table).reduce(SCALE), np.float32) / np.float32(255)


def draw(plan: Plan, water: np.ndarray, sun_elevation_deg: float, sun_azimuth_deg: float) -> Built:
    """Draw a plan at 2.5 m and average it to 10 m.

    Args:
        plan: what is built.
        water: (H, W) bool; only main roads cross it.
        sun_elevation_deg: for the shadows.
        sun_azimuth_deg: clockwise from north.
    """
    side = len(water)
    if not (plan.lines or len(plan.buildings)):
        return Built(np.zeros((7, side, side), np.float32), np.zeros((side, side), np.float32))
    canvas = Image.new("L", (side * SCALE, side * SCALE))
    pen = ImageDraw.Draw(canvas)
    for yard in plan.yards:
        pen.polygon((yard * SCALE).ravel().tolist(), fill=YARD)
    for code, points, width in sorted(plan.lines, key=lambda line: -line[0]):
        pen.line(
            (points * SCALE).ravel().tolist(), fill=code, width=max(2, round(width * SCALE)), joint="curve"
        )
    for corners, roof in zip(
        (plan.buildings * SCALE).reshape(-1, 8).tolist(), plan.roofs.tolist(), strict=True
    ):
        pen.polygon(corners, fill=ROOF + roof)
    codes = range(MAJOR, ROOF + 3)
    shares = np.stack([_share(canvas, [255 * (value == code) for value in range(256)]) for code in codes])

    shares[1:] *= ~water

    dark = Image.new("L", canvas.size)
    pen = ImageDraw.Draw(dark)
    reach = plan.heights_m / 10 / math.tan(math.radians(max(sun_elevation_deg, 12)))
    azimuth = math.radians(sun_azimuth_deg)
    away = np.array([-math.sin(azimuth), math.cos(azimuth)])  # x right, y down
    for part in (0.5, 1.0):
        shifted = (plan.buildings + (part * reach[:, None] * away)[:, None]) * SCALE
        for corners in shifted.reshape(-1, 8).tolist():
            pen.polygon(corners, fill=255)
    shadow = _share(dark, list(range(256))) * (1 - shares[4:].sum(0))
    return Built(shares, shadow)
