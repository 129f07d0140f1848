"""Writes synthetic PhilEO Bench files: `<region>_<tile>_{train,val,test}_s2.npy` and their labels.

Unusual: names, holes and oddities of the real files are kept, since readers must meet them: `isreal-1`, no road
labels in six countries, validation patches from the end of each training image, several dates of one tile in one file
with the label repeated, some labels in square metres (0-100) and with NaN, land cover with a few nodata pixels,
digital numbers with and without the +1000 offset (`metadata/tiles_metadata.json` says which).

Tiles are the most settled of some cells near each region's true place, as the real ones were picked for their labels.
`metadata/tiles_metadata.json` comes last: a bench without it is unfinished.
"""

import csv
import datetime
import hashlib
import json
import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoladder.data.archives.grid import centre_of
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path
from geoladder.study.corpora import Earth
from geoladder.study.downstream import Bench
from geoladder.synth.earth import stream
from geoladder.synth.encode import offset_dn, quantise
from geoladder.synth.pool import run_all
from geoladder.synth.regions import REGIONS, Tile, plan_tiles
from geoladder.synth.scene import Scene, render

log = logging.getLogger(__name__)
LARGEST_TILE_PX = 1068
MAX_CLOUD_SHARE = 0.1  # of a patch, as in the bench
VALIDATION_SHARE = 0.1  # of the patches of a training image
NODATA_LABEL_SHARE = 0.002


@dataclass(frozen=True)
class _Task:
    earth: Earth
    tile: Tile
    roads: bool
    patch_px: int
    side: int
    folder: Path


def write_bench(out_dir: Path, earth: Earth, bench: Bench, processes: int) -> None:
    """Write a synthetic PhilEO Bench.

    Args:
        out_dir: folder for all files.
        earth: the synthetic Earth.
        bench: patches and tiles: `train_tiles` per unit of a region's weight (`REGIONS`; 34 units in all),
            `test_tiles` likewise in regions that are tested, patches per tile and date rounded up to a square number.
        processes: tiles made at the same time.

    Raises:
        GeoladderError: a tile would be larger than 1068 px.
    """
    side = math.ceil(math.sqrt(bench.patches_per_tile))
    if (side_px := side * bench.patch_px) > LARGEST_TILE_PX:
        raise GeoladderError(
            f"{bench.patches_per_tile} patches of {bench.patch_px} px need {side_px} px; "
            f"a tile has {LARGEST_TILE_PX}"
        )
    (out_dir / "metadata").mkdir(parents=True, exist_ok=True)
    done = out_dir / "metadata" / "tiles_metadata.json"
    done.unlink(missing_ok=True)
    tasks = [
        _Task(earth, tile, region.roads, bench.patch_px, side, out_dir)
        for region in REGIONS
        for tile in plan_tiles(earth, region, bench)
    ]
    cache = out_dir / ".tiles"
    cache.mkdir(exist_ok=True)
    missing = [task for task in tasks if not _record(task).exists()]
    log.info("%s: %d tiles, %d to render", out_dir, len(tasks), len(missing))
    run_all(make_tile, missing, processes, "bench tiles")
    records = [json.loads(_record(task).read_text()) for task in tasks]
    _write_counts(out_dir, records)
    with atomic_path(done) as temporary:
        temporary.write_text(json.dumps({f"{r['region']}_{r['tile']}": r for r in records}, indent=1))
    shutil.rmtree(cache)


def _record(task: _Task) -> Path:
    """File that marks a finished tile and holds its metadata; named by all that shaped the tile."""
    digest = hashlib.sha256(repr((task.earth, task.tile, task.patch_px, task.side)).encode()).hexdigest()
    return task.folder / ".tiles" / f"{task.tile.region}_{task.tile.number}-{digest[:16]}.json"


def _patches(image: np.ndarray, patch_px: int) -> np.ndarray:
    """(H, W, ...) to (N, patch_px, patch_px, ...), in reading order."""
    count = image.shape[0] // patch_px
    blocks = image.reshape(count, patch_px, count, patch_px, *image.shape[2:])
    return blocks.swapaxes(1, 2).reshape(count * count, patch_px, patch_px, *image.shape[2:])


def make_tile(task: _Task) -> None:
    """Render all dates of a tile, cut patches, write its npy files and its record."""
    tile = task.tile
    parts: dict[str, list[dict[str, np.ndarray]]] = {"train": [], "val": [], "test": []}
    for date, baseline in zip(tile.dates, tile.baselines, strict=True):
        scene = render(task.earth, tile.cell, date, task.side * task.patch_px)
        arrays = _arrays(task, scene, offset_dn(baseline))
        clear = (_patches(scene.cloud_mask, task.patch_px) != 0).mean((1, 2)) < MAX_CLOUD_SHARE
        arrays = {name: array[clear] for name, array in arrays.items()}
        count = int(clear.sum())
        cut = count if tile.test else count - math.ceil(VALIDATION_SHARE * count)
        parts["test" if tile.test else "train"].append({name: array[:cut] for name, array in arrays.items()})
        parts["val"].append({name: array[cut:] for name, array in arrays.items()})
    counts = {}
    for split, pieces in parts.items():
        if not pieces or (split == "val" and tile.test):
            continue
        counts[split] = [len(piece["s2"]) for piece in pieces]
        for name in pieces[0]:
            label = name if name == "s2" else f"label_{name}"
            path = task.folder / f"{tile.region}_{tile.number}_{split}_{label}.npy"
            with atomic_path(path) as temporary:
                np.save(temporary, np.concatenate([piece[name] for piece in pieces]))
    lat, lon = centre_of(tile.cell)
    record = {
        "region": tile.region, "tile": tile.number, "split": "test" if tile.test else "train", "grid_cell": tile.cell,
        "lat_deg": lat, "lon_deg": lon, "dates": tile.dates, "baselines": tile.baselines,
        "offset_dn": [offset_dn(b) for b in tile.baselines],
        "patches": counts, "label_scale": 100 if tile.square_metres else 1,
    }  # fmt: skip
    with atomic_path(_record(task)) as temporary:
        temporary.write_text(json.dumps(record))


def _arrays(task: _Task, scene: Scene, offset: int) -> dict[str, np.ndarray]:
    """Images and labels of one date as patches, (N, P, P, C)."""
    tile = task.tile
    rng = stream(tile.cell, "labels")
    side = len(scene.landcover)
    cover = np.where(rng.random((side, side)) < NODATA_LABEL_SHARE, 0, scene.landcover).astype(np.uint8)
    scale = np.float32(100 if tile.square_metres else 1)
    building = scene.buildings * scale
    if tile.nan:
        building = np.where(rng.random((side, side)) < NODATA_LABEL_SHARE, np.float32(np.nan), building)
    images: dict[str, np.ndarray] = {
        "building": building,
        "lc": cover,
        "kg": np.full((side, side), scene.place.koppen, np.uint8),
    }
    if task.roads:
        images["roads"] = scene.roads * scale
    arrays = {name: _patches(image, task.patch_px)[..., None] for name, image in images.items()}
    arrays["s2"] = _patches(quantise(scene.reflectance, offset).transpose(1, 2, 0), task.patch_px)
    lat, lon = scene.place.lat_deg, scene.place.lon_deg
    turn = math.radians(lon)
    coords = [(90 - lat) / 180, (math.sin(turn) + 1) / 2, (math.cos(turn) + 1) / 2]
    arrays["coords"] = np.tile(np.array(coords, np.float32), (len(arrays["s2"]), 1))
    return arrays


def _write_counts(folder: Path, records: list[dict]) -> None:
    """`<ddmmyyyy>_npy_file_info.csv`: patches of each image file; the date is that of the newest scene."""
    newest = max(datetime.date.fromisoformat(date) for record in records for date in record["dates"])
    with (
        atomic_path(folder / f"{newest:%d%m%Y}_npy_file_info.csv") as temporary,
        temporary.open("w", newline="") as handle,
    ):
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["", "samples"])
        for record in records:
            for split, counts in record["patches"].items():
                writer.writerow([f"{record['region']}_{record['tile']}_{split}_s2.npy", sum(counts)])
