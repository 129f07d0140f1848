"""Any scene with polygons of classes as files of PhilEO Bench, so that every mode of fine-tuning runs on it.

The scene is cut into blocks, which are the tiles of the bench: every third is for testing, and validation sets some
of the others aside (`bench.validation: apart`). Blocks lie a patch's side apart, so that no test patch touches a
training patch.

Unusual: polygons are sparse. Pixels in none have no label, and patches without any label are left out. Where polygons
overlap, the smaller one counts.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.warp import transform as reproject
from rasterio.warp import transform_geom
from rasterio.windows import Window

from geoladder.data.archives.scene import Pixels, Scene, open_scene
from geoladder.data.archives.tile import ground_m
from geoladder.data.bench.files import parse
from geoladder.data.labels.targets import encode_phileo_place
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.registry.task import Task
from geoladder.runs.atomic import atomic_path, write_json

log = logging.getLogger(__name__)

TEST_EVERY = 3
"""Of blocks along a diagonal, one so often is for testing."""
NO_LABEL = 0


class Polygons(NamedTuple):
    """Polygons with a class each."""

    shapes: list[dict[str, Any]]
    """GeoJSON geometries in `crs`, larger ones first."""
    classes: list[str]
    crs: CRS


class Block(NamedTuple):
    """A square part of a scene that is for training or testing as a whole."""

    tile: str
    """`<row>-<column>` among the blocks."""
    split: str
    corners: list[tuple[int, int]]
    """Upper left pixel, row and column, of each patch that has a label."""


def bench_from_image(
    images: Sequence[Path],
    polygons: Path,
    out: Path,
    task: str,
    attribute: str = "fclass",
    renamed: Mapping[str, str] | None = None,
    region: str = "europe",
    patch_px: int = 32,
    block_px: int = 256,
    bands: Sequence[str] | None = None,
    offset_dn: int | None = None,
) -> None:
    """Write `<region>_<row>-<column>_<train|test>_s2.npy`, label and coordinate files, and their metadata into `out`.

    `images`, `bands` and `offset_dn` are as of `open_scene`. A polygon's class is what `attribute` says, after
    `renamed`; those that are no class of `task` are left out and counted in the log.

    Raises:
        GeoladderError: the scene cannot be read, the task has no classes, the polygons have no such attribute, none
            has a class of the task, no training or test patch has a label, blocks are smaller than two patches, the
            bench has no such region, or `out` has files of a bench.
    """
    _check_request(out, region, patch_px, block_px)
    categories = {name: code for code, (name, _) in TASKS[task].layer.categories.items()}
    if not categories:
        raise GeoladderError(
            f"task '{task}' is of quantities, but polygons name classes; give a task of classes"
        )
    with open_scene(images, bands, offset_dn) as scene:
        height, width = scene.shape
        codes = _burn(read_polygons(polygons, attribute), categories, renamed or {}, scene, polygons)
        for top in range(0, height, block_px):
            codes[top : top + block_px][~_strip(scene, top, block_px).valid] = NO_LABEL
        blocks = _blocks(codes, patch_px, block_px)
        counts = {
            split: sum(len(block.corners) for block in blocks if block.split == split)
            for split in ("train", "test")
        }
        for split in (split for split, count in counts.items() if not count):
            raise GeoladderError(
                f"no {split} patch of {patch_px} px has a label: {width} x {height} pixels make "
                f"{-(-width // block_px)} x {-(-height // block_px)} blocks of {block_px}; take smaller ones"
            )
        _write_blocks(scene, codes, blocks, TASKS[task], out, region, patch_px, block_px)
    log.info(
        "%s: %s patches of %d px; %.0f %% of pixels have a label",
        out,
        counts,
        patch_px,
        100 * (codes > 0).mean(),
    )


def read_polygons(path: Path, attribute: str) -> Polygons:
    """Polygons of a file that GDAL's vector drivers read, such as GeoPackage or GeoJSON; other shapes are left out.

    Raises:
        GeoladderError: the libraries are not installed, the file cannot be read, or has no such attribute or place.
    """
    try:
        import pyogrio
        import shapely
    except ImportError:
        raise GeoladderError(
            "polygons are read with pyogrio and shapely; pip install 'geoladder[vector]'"
        ) from None
    try:
        fields = list(pyogrio.read_info(path)["fields"])
        meta, _, geometry, values = pyogrio.raw.read(path, columns=[attribute])
    except pyogrio.errors.DataSourceError as problem:
        raise GeoladderError(f"{path} holds no polygons ({problem}); give a GeoPackage or GeoJSON") from None
    if not values:
        raise GeoladderError(f"{path} has no attribute '{attribute}'; it has {', '.join(fields)}")
    if meta["crs"] is None:
        raise GeoladderError(f"{path} has no coordinate system; write it again with one")
    shapes = shapely.from_wkb(geometry)
    order = np.argsort(-shapely.area(shapes), kind="stable")
    areal = [place for place in order if shapely.get_dimensions(shapes[place]) == 2]
    return Polygons(
        [shapely.geometry.mapping(shapes[place]) for place in areal],
        [str(values[0][place]) for place in areal],
        CRS.from_user_input(meta["crs"]),
    )


def _burn(
    polygons: Polygons, categories: Mapping[str, int], renamed: Mapping[str, str], scene: Scene, where: Path
) -> np.ndarray:
    """Code of each pixel of a scene, (H, W) uint8, `NO_LABEL` in no polygon; a pixel counts by its centre."""
    names = [renamed.get(name, name) for name in polygons.classes]
    chosen = [
        (shape, categories[name])
        for shape, name in zip(polygons.shapes, names, strict=True)
        if name in categories
    ]
    others = sorted(set(names) - set(categories))
    log.info(
        "%s: %d polygons; %d of other classes left out %s",
        where,
        len(chosen),
        len(names) - len(chosen),
        others,
    )
    if not chosen:
        raise GeoladderError(
            f"no polygon of {where} has one of the classes {', '.join(categories)}; they are {', '.join(others)}: "
            "name them with --rename theirs=ours,..."
        )
    if polygons.crs != scene.crs:
        chosen = [(transform_geom(polygons.crs, scene.crs, shape), code) for shape, code in chosen]
    codes: np.ndarray = rasterize(chosen, scene.shape, NO_LABEL, transform=scene.transform, dtype="uint8")
    return codes


def _check_request(out: Path, region: str, patch_px: int, block_px: int) -> None:
    """Refuse what would give no bench, or one whose test patches are trained on."""
    if patch_px < 1 or block_px < 2 * patch_px:
        raise GeoladderError(
            f"blocks of {block_px} px do not hold patches of {patch_px} px and as much between blocks, which keeps "
            "test patches away from training patches; take blocks of two patches at least"
        )
    parse(out / f"{region}_0-0_test_s2.npy")
    if any(out.rglob("*_s2.npy")):
        raise GeoladderError(
            f"{out} has files of a bench, and patches of other blocks would mix with these; remove them, or give "
            "another folder"
        )


def _blocks(codes: np.ndarray, patch_px: int, block_px: int) -> list[Block]:
    """The blocks that have a label, with the patches that have one."""
    blocks = []
    inner_px = block_px - patch_px
    for row, top in enumerate(range(0, codes.shape[0], block_px)):
        for column, left in enumerate(range(0, codes.shape[1], block_px)):
            down, right = (
                range(start, min(start + inner_px, side) - patch_px + 1, patch_px)
                for start, side in zip((top, left), codes.shape, strict=True)
            )
            places = product(down, right)
            corners = [(y, x) for y, x in places if codes[y : y + patch_px, x : x + patch_px].any()]
            if corners:
                split = "train" if (row + column) % TEST_EVERY else "test"
                blocks.append(Block(f"{row}-{column}", split, corners))
    return blocks


def _strip(scene: Scene, top: int, block_px: int) -> Pixels:
    """Pixels of one row of blocks, over the scene's whole width: scenes are never read whole."""
    height, width = scene.shape
    return scene.read(Window(0, top, width, min(block_px, height - top)))


def _write_blocks(
    scene: Scene,
    codes: np.ndarray,
    blocks: list[Block],
    task: Task,
    out: Path,
    region: str,
    patch_px: int,
    block_px: int,
) -> None:
    """Write all blocks, row after row of them, and last the metadata."""
    records = {}
    for top, of_row in groupby(blocks, lambda block: block.corners[0][0] // block_px * block_px):
        strip = np.rint(_strip(scene, top, block_px).dn)
        pixels = np.clip(strip, 0, np.iinfo(np.uint16).max).astype(np.uint16)
        layers = {
            "s2": pixels.transpose(1, 2, 0),
            f"label_{task.label}": codes[top : top + block_px, :, None],
        }
        for tile, split, corners in of_row:
            _write_block(scene, layers, top, corners, patch_px, out / f"{region}_{tile}_{split}")
            record = {"offset_dn": [scene.offset_dn], "patches": {split: [len(corners)]}}
            records[f"{region}_{tile}"] = {"region": region, "tile": tile, "split": split} | record
    write_json(out / "metadata" / "tiles_metadata.json", records)


def _write_block(
    scene: Scene,
    layers: dict[str, np.ndarray],
    top: int,
    corners: list[tuple[int, int]],
    patch_px: int,
    stem: Path,
) -> None:
    """Write the patches of one block, from layers (H, W, C) that begin at row `top`; as many as `corners`."""
    spans = [(slice(y - top, y - top + patch_px), slice(x, x + patch_px)) for y, x in corners]
    down, right = np.array(corners, float).T + patch_px / 2
    lon_deg, lat_deg = reproject(scene.crs, "EPSG:4326", *ground_m(scene.transform, right, down))
    places = encode_phileo_place(np.array(lat_deg), np.array(lon_deg)).astype(np.float32)
    patches = {name: np.stack([layer[span] for span in spans]) for name, layer in layers.items()}
    for name, array in (patches | {"label_coords": places}).items():
        with atomic_path(stem.with_name(f"{stem.name}_{name}.npy")) as path:
            np.save(path, array)
