"""Plans roads and buildings in metres; `drawing` turns the plan into pixels.

A settlement is a set of street blocks, and a block is houses in rows, slabs, works with a paved yard, a square or a
park. Yards and squares share their surface with streets, and soil roads share theirs with fields, so neither task can
be read from one pixel; buildings throw shadows away from the sun. Roads are 6 to 25 m wide.
"""

import math

import numpy as np

from geoladder.study.corpora import Earth
from geoladder.synth.drawing import MAJOR, STREET, TRACK, Plan
from geoladder.synth.earth import stream
from geoladder.synth.landscape import SNOW, WATER, Landscape
from geoladder.synth.materials import Settlement
from geoladder.synth.place import Place

HOUSES, SLABS, WORKS, SQUARE, PARK = range(5)
MIN_POPULATION = 0.02


class _Buildings:
    """Collects rectangles."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []

    def add(
        self, centres: np.ndarray, size_m: tuple[float, float], angle: np.ndarray | float, height_m: float
    ) -> None:
        """Add rectangles at (n, 2) pixel centres, sizes scattered about (length, depth)."""
        count = len(centres)
        if count == 0:
            return
        half = 0.05 * np.array(size_m) * self.rng.uniform(0.75, 1.3, (count, 2))
        signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        corners = half[:, None] * signs
        turn = np.broadcast_to(np.asarray(angle, float), (count,))[:, None]
        cos, sin = np.cos(turn), np.sin(turn)
        x, y = corners[..., 0], corners[..., 1]
        turned = np.stack([x * cos - y * sin, x * sin + y * cos], -1) + centres[:, None]
        main = self.rng.integers(3)
        roofs = np.where(self.rng.random(count) < 0.6, main, self.rng.integers(0, 3, count))
        self.parts.append((turned, roofs, np.full(count, height_m), centres))

    def put(self, plan: Plan, ground: Landscape) -> None:
        """Move what stands on dry ground inside the tile into the plan."""
        if not self.parts:
            return
        corners, roofs, heights, centres = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        side = len(ground.cover)
        inside = ((centres >= 0) & (centres < side)).all(1)
        pixel = centres.clip(0, side - 1).astype(int)
        cover = ground.cover[pixel[:, 1], pixel[:, 0]]
        keep = inside & (cover != WATER) & (cover != SNOW)
        plan.buildings, plan.roofs, plan.heights_m = corners[keep], roofs[keep], heights[keep]


def _bend(points: np.ndarray, style: Settlement, phase: float) -> np.ndarray:
    """Wind a street plan: a smooth shift of up to 25 m over about 200 m."""
    shift = 2.5 * style.bend * np.sin(points[..., ::-1] / 6.5 + phase)
    return points + shift


def _town(
    rng: np.random.Generator,
    style: Settlement,
    centre: np.ndarray,
    radius: float,
    plan: Plan,
    houses: _Buildings,
) -> None:
    """Lay out the blocks of one town about `centre`, radius in pixels."""
    angle, phase = rng.uniform(0, math.pi), rng.uniform(0, 6)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    a, b = style.block_m[0] / 10, style.block_m[1] / 10
    reach_a, reach_b = math.ceil(radius / a), math.ceil(radius / b)
    lattice = np.stack(
        np.meshgrid(np.arange(-reach_a, reach_a + 1), np.arange(-reach_b, reach_b + 1)), -1
    ).reshape(-1, 2)
    middles = lattice * (a, b)
    ragged = radius * rng.uniform(0.75, 1.15, len(middles))
    middles = middles[np.hypot(*middles.T) < ragged]
    kinds = rng.choice(5, len(middles), p=style.mix)

    def world(points: np.ndarray) -> np.ndarray:
        return _bend(points, style, phase) @ turn + centre

    ring = np.array([[-1, -1], [0, -1], [1, -1], [1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1]]) * (
        a / 2,
        b / 2,
    )
    for middle in middles:
        plan.lines.append((STREET, world(middle + ring), style.street_m / 10))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (a * 0.4, b * 0.4)
    for middle in middles[(kinds == WORKS) | (kinds == SQUARE)]:
        plan.yards.append(world(middle + corners))

    def rows(
        kind: int, size: tuple[float, float], pitch: float, offsets: list[float], gap: float, height: float
    ) -> None:
        blocks = middles[kinds == kind]
        count = max(1, int((a - style.street_m / 10 - 0.6) / pitch))
        along = (np.arange(count) - (count - 1) / 2) * pitch
        plots = np.stack(np.meshgrid(along, offsets), -1).reshape(-1, 2)
        spots = (blocks[:, None] + plots + rng.normal(0, 0.12, (len(blocks), len(plots), 2))).reshape(-1, 2)
        houses.add(world(spots[rng.random(len(spots)) > gap]), size, angle, height)

    front, depth = style.house_m
    setback = b / 2 - style.street_m / 20 - depth / 20 - 0.5
    offsets = [-setback, setback] + ([-0.35 * setback, 0.35 * setback] if setback > 4.2 else [])
    rows(HOUSES, (front, depth), front * 0.13, offsets, style.gap, style.storey_m)
    rows(SLABS, (58, 18), 7.0, [-0.5 * setback, 0.5 * setback], 0.15, 22)
    rows(WORKS, (75, 45), 8.5, [0.0] if b < 11 else [-b / 5, b / 5], 0.25, 12)


def _major_road(rng: np.random.Generator, through: np.ndarray, side: int) -> np.ndarray:
    """A gently curved road across the whole tile, (n, 2)."""
    angle, swing = rng.uniform(0, math.pi), rng.uniform(0, 0.06)
    along = np.linspace(-1.2 * side, 1.2 * side, 40)
    aside = swing * 60 * np.sin(along / 40 + rng.uniform(0, 6))
    aside = aside - np.interp(0, along, aside)
    direction = np.array([math.cos(angle), math.sin(angle)])
    return through + along[:, None] * direction + aside[:, None] * direction[::-1] * (-1, 1)


def _ribbon(
    rng: np.random.Generator, road: np.ndarray, style: Settlement, population: float, houses: _Buildings
) -> None:
    """Houses along a road outside towns."""
    steps = np.diff(road, axis=0)
    length = np.hypot(*steps.T)
    count = int(length.sum() * population * 0.18)
    segment = rng.integers(len(steps), size=count)
    t = rng.random(count)[:, None]
    normal = np.stack([-steps[:, 1], steps[:, 0]], 1) / length[:, None]
    aside = rng.choice([-1, 1], count) * rng.uniform(2.4, 4.5, count)
    spots = road[segment] + t * steps[segment] + aside[:, None] * normal[segment]
    houses.add(spots, style.house_m, np.arctan2(steps[segment, 1], steps[segment, 0]), style.storey_m)


def _tracks(rng: np.random.Generator, ground: Landscape, plan: Plan) -> None:
    """Farm tracks along field edges: straight, unpaved, 6 to 10 m."""
    side = len(ground.cover)
    direction = np.array([math.cos(ground.parcels.angle), math.sin(ground.parcels.angle)])
    rows, columns = np.nonzero(ground.farm & (ground.parcels.edge_px < 0.7))
    if len(rows) == 0:
        return
    for pick in rng.integers(len(rows), size=max(1, int(rng.poisson(6.0 * (side / 192) ** 2)))):
        start = np.array([columns[pick], rows[pick]], float)
        if rng.random() < 0.35:
            direction = direction[::-1] * (-1, 1)
        reach = rng.uniform(15, 110)
        plan.lines.append((TRACK, start + np.array([[-reach], [reach]]) * direction, rng.uniform(0.6, 1.0)))


def plan_of(earth: Earth, place: Place, style: Settlement, ground: Landscape) -> Plan:
    """Plan the roads and buildings of a cell; empty where nobody lives."""
    rng = stream(earth.seed, place.cell, "settlement")
    plan, side = Plan(), len(ground.cover)
    if place.population < MIN_POPULATION or (ground.cover == WATER).mean() > 0.95:
        return plan
    houses = _Buildings(rng)
    area = (side / 192) ** 2
    dry = np.argwhere((ground.cover != WATER) & (ground.cover != SNOW))[:, ::-1]
    _tracks(rng, ground, plan)
    for _ in range(rng.poisson(area * (0.4 + 4.5 * place.population))):
        centre = dry[rng.integers(len(dry))].astype(float)
        radius = 9 + 80 * place.population * rng.beta(1.5, 2.5)
        _town(rng, style, centre, radius, plan, houses)
        plan.towns.append((float(centre[0]), float(centre[1]), radius))
    farmsteads = dry[rng.integers(len(dry), size=rng.poisson(area * 14 * place.population))].astype(float)
    for spot in farmsteads:
        count = rng.integers(1, 5)
        houses.add(spot + rng.normal(0, 2.2, (count, 2)), (24, 13), rng.uniform(0, math.pi), style.storey_m)
    for index in range(rng.poisson(0.5 + 1.5 * place.population * area**0.5)):
        anchor = plan.towns[index][:2] if index < len(plan.towns) else dry[rng.integers(len(dry))]
        road = _major_road(rng, np.array(anchor, float), side)
        plan.lines.append((MAJOR, road, rng.uniform(1.2, 2.5)))
        _ribbon(rng, road, style, place.population, houses)
    houses.put(plan, ground)
    return plan
