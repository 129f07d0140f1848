"""Plans roads and buildings in metres; `drawing` turns the plan into pixels.

A settlement is a set of street blocks, and a block is houses in rows, slabs, works with a paved yard, a square or a
park. Yards and squares share their surface with streets, and soil roads share theirs with fields, so neither task can
be read from one pixel; buildings throw shadows away from the sun. Roads are 6 to 25 m wide.
"""

import math

import numpy as np

from geoladder.synth.landscape import SNOW, WATER, Landscape
from geoladder.synth.place import Place
from geoladder.synth.styles import Settlement

MAJOR, STREET, TRACK = 1, 2, 3
HOUSES, SLABS, WORKS, SQUARE, PARK = range(5)
MIN_POPULATION = 0.02
# Round a square of half side 1: corners and middles of the edges, and back to the start.
RING = np.array([[-1, -1], [0, -1], [1, -1], [1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1]])
CORNERS = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])


class Plan:
    """Everything built in a cell, in pixels of 10 m: x to the right, y down. Empty where nobody lives."""

    def __init__(self, place: Place, style: Settlement, ground: Landscape) -> None:
        self._rng = place.stream("settlement")
        self._style, self._ground = style, ground
        self._dry = (ground.cover != WATER) & (ground.cover != SNOW)
        # Roads as (MAJOR, STREET or TRACK, points (n, 2), width).
        self.lines: list[tuple[int, np.ndarray, float]] = []
        self.yards: list[np.ndarray] = []  # (4, 2) corners of paved ground
        # Buildings, in groups: (n, 4, 2) corners, (n,) roof 0..2, (n,) height in metres.
        self.buildings = [(np.zeros((0, 4, 2)), np.zeros(0, int), np.zeros(0))]
        if place.population >= MIN_POPULATION and (ground.cover == WATER).mean() <= 0.95:
            self._settle(place.population)

    def _settle(self, population: float) -> None:
        rng, side = self._rng, len(self._dry)
        area = (side / 192) ** 2
        dry = np.argwhere(self._dry)[:, ::-1]
        self._tracks()
        towns = []
        for _ in range(rng.poisson(area * (0.4 + 4.5 * population))):
            towns.append(dry[rng.integers(len(dry))].astype(float))
            self._town(towns[-1], radius=9 + 80 * population * rng.beta(1.5, 2.5))
        farmsteads = dry[rng.integers(len(dry), size=rng.poisson(area * 14 * population))].astype(float)
        for spot in farmsteads:
            centres = spot + rng.normal(0, 2.2, (rng.integers(1, 5), 2))
            self._build(centres, (24, 13), rng.uniform(0, math.pi), self._style.storey_m)
        for index in range(rng.poisson(0.5 + 1.5 * population * area**0.5)):
            through = towns[index] if index < len(towns) else dry[rng.integers(len(dry))].astype(float)
            road = _major_road(rng, through, side)
            self.lines.append((MAJOR, road, rng.uniform(1.2, 2.5)))
            self._ribbon(road, population)

    def _build(
        self, centres: np.ndarray, size_m: tuple[float, float], angle: np.ndarray | float, height_m: float
    ) -> None:
        """Add rectangles at (n, 2) pixel centres, where they are dry; sizes scatter about (length, depth)."""
        count, side = len(centres), len(self._dry)
        if count == 0:
            return
        corners = (0.05 * np.array(size_m) * self._rng.uniform(0.75, 1.3, (count, 2)))[:, None] * CORNERS
        turn = np.broadcast_to(angle, count)[:, None]
        cos, sin = np.cos(turn), np.sin(turn)
        x, y = corners[..., 0], corners[..., 1]
        turned = np.stack([x * cos - y * sin, x * sin + y * cos], -1) + centres[:, None]
        main = self._rng.integers(3)
        roofs = np.where(self._rng.random(count) < 0.6, main, self._rng.integers(0, 3, count))
        column, row = centres.clip(0, side - 1).astype(int).T
        keep = ((centres >= 0) & (centres < side)).all(1) & self._dry[row, column]
        self.buildings.append((turned[keep], roofs[keep], np.full(keep.sum(), float(height_m))))

    def _town(self, centre: np.ndarray, radius: float) -> None:
        """Lay out the blocks of one town about `centre`, radius in pixels."""
        rng, style = self._rng, self._style
        angle, phase = rng.uniform(0, math.pi), rng.uniform(0, 6)
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        block = np.array(style.block_m) / 10
        length, depth = block
        steps = [np.arange(-reach, reach + 1) for reach in np.ceil(radius / block)]
        middles = np.stack(np.meshgrid(*steps), -1).reshape(-1, 2) * block
        ragged = radius * rng.uniform(0.75, 1.15, len(middles))
        middles = middles[np.hypot(*middles.T) < ragged]
        kinds = rng.choice(5, len(middles), p=style.mix)

        def world(points: np.ndarray) -> np.ndarray:
            """Wind the street plan, by up to 25 m over about 200 m, and turn it."""
            shift = 2.5 * style.bend * np.sin(points[..., ::-1] / 6.5 + phase)
            return (points + shift) @ turn + centre

        for middle in middles:
            self.lines.append((STREET, world(middle + RING * (block / 2)), style.street_m / 10))
        for middle in middles[(kinds == WORKS) | (kinds == SQUARE)]:
            self.yards.append(world(middle + CORNERS * (block * 0.4)))

        front_m, depth_m = style.house_m
        setback = depth / 2 - style.street_m / 20 - depth_m / 20 - 0.5
        lanes = [-setback, setback] + ([-0.35 * setback, 0.35 * setback] if setback > 4.2 else [])
        halls = [0.0] if depth < 11 else [-depth / 5, depth / 5]
        # Kind of block, size in metres, pitch of plots, offsets of their rows, share left empty, height in metres.
        for kind, size_m, pitch, offsets, gap, height_m in (
            (HOUSES, style.house_m, front_m * 0.13, lanes, style.gap, style.storey_m),
            (SLABS, (58, 18), 7.0, [-0.5 * setback, 0.5 * setback], 0.15, 22),
            (WORKS, (75, 45), 8.5, halls, 0.25, 12),
        ):
            blocks = middles[kinds == kind]
            count = max(1, int((length - style.street_m / 10 - 0.6) / pitch))
            along = (np.arange(count) - (count - 1) / 2) * pitch
            plots = np.stack(np.meshgrid(along, offsets), -1).reshape(-1, 2)
            scatter = rng.normal(0, 0.12, (len(blocks), len(plots), 2))
            spots = (blocks[:, None] + plots + scatter).reshape(-1, 2)
            self._build(world(spots[rng.random(len(spots)) > gap]), size_m, angle, height_m)

    def _ribbon(self, road: np.ndarray, population: float) -> None:
        """Houses along a road outside towns."""
        rng, steps = self._rng, np.diff(road, axis=0)
        length = np.hypot(*steps.T)
        count = int(length.sum() * population * 0.18)
        segment = rng.integers(len(steps), size=count)
        t = rng.random(count)[:, None]
        normal = np.stack([-steps[:, 1], steps[:, 0]], 1) / length[:, None]
        aside = rng.choice([-1, 1], count) * rng.uniform(2.4, 4.5, count)
        spots = road[segment] + t * steps[segment] + aside[:, None] * normal[segment]
        angle = np.arctan2(steps[segment, 1], steps[segment, 0])
        self._build(spots, self._style.house_m, angle, self._style.storey_m)

    def _tracks(self) -> None:
        """Farm tracks along field edges: straight, unpaved, 6 to 10 m."""
        rng, parcels = self._rng, self._ground.parcels
        direction = np.array([math.cos(parcels.angle), math.sin(parcels.angle)])
        rows, columns = np.nonzero(self._ground.farm & (parcels.edge_px < 0.7))
        if len(rows) == 0:
            return
        count = max(1, rng.poisson(6.0 * (len(self._dry) / 192) ** 2))
        for pick in rng.integers(len(rows), size=count):
            start = np.array([columns[pick], rows[pick]], float)
            if rng.random() < 0.35:
                direction = direction[::-1] * (-1, 1)
            reach = rng.uniform(15, 110)
            points = start + np.array([[-reach], [reach]]) * direction
            self.lines.append((TRACK, points, rng.uniform(0.6, 1.0)))


def _major_road(rng: np.random.Generator, through: np.ndarray, side: int) -> np.ndarray:
    """A gently curved road across the whole tile, (n, 2)."""
    angle, swing = rng.uniform(0, math.pi), rng.uniform(0, 0.06)
    along = np.linspace(-1.2 * side, 1.2 * side, 40)
    aside = swing * 60 * np.sin(along / 40 + rng.uniform(0, 6))
    aside = aside - np.interp(0, along, aside)
    direction = np.array([math.cos(angle), math.sin(angle)])
    return through + along[:, None] * direction + aside[:, None] * direction[::-1] * (-1, 1)
