"""Writes synthetic PhilEO Bench files: `<region>_<tile>_{train,val,test}_s2.npy` and their labels.

Unusual: names, holes and oddities of the real files are kept, since readers must meet them: `isreal-1`, no road
labels in six countries, validation patches from the end of each training image, several dates of one tile in one file
with the label repeated, some labels in square metres (0-100) and with NaN, land cover with a few nodata pixels,
digital numbers with and without the +1000 offset (`metadata/tiles_metadata.json` says which).

`metadata/tiles_metadata.json` comes last: a bench without it is unfinished.
"""

import datetime
import json
import math
import shutil
from pathlib import Path

import numpy as np

from geoladder.data.archives.footprints import M_PER_DEG
from geoladder.data.archives.grid import centre_of
from geoladder.data.labels.targets import encode_phileo_place
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path
from geoladder.study.corpora import Earth
from geoladder.study.downstream import Bench
from geoladder.synth.earth import stream
from geoladder.synth.encode import offset_dn, quantise
from geoladder.synth.pool import make_tiles
from geoladder.synth.regions import REGIONS, Tile, plan_tiles
from geoladder.synth.scene import Scene, render

LARGEST_TILE_PX = 1068
MAX_CLOUD_SHARE = 0.1  # of a patch, as in the bench
VALIDATION_SHARE = 0.1  # of the patches of a training image
NODATA_LABEL_SHARE = 0.002


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
    side_px = math.ceil(math.sqrt(bench.patches_per_tile)) * bench.patch_px
    if side_px > LARGEST_TILE_PX:
        raise GeoladderError(
            f"{bench.patches_per_tile} patches of {bench.patch_px} px need {side_px} px; "
            f"a tile has {LARGEST_TILE_PX}"
        )
    listed = out_dir / "metadata" / "tiles_metadata.json"
    listed.unlink(missing_ok=True)
    tasks = [
        (earth, tile, bench.patch_px, side_px)
        for region in REGIONS
        for tile in plan_tiles(earth, region, bench)
    ]
    paths = make_tiles(make_tile, out_dir / ".tiles", tasks, processes, "bench tiles")
    finished = [json.loads(path.read_text()) for path in paths]
    records = {f"{record['region']}_{record['tile']}": record for record in finished}
    _write_counts(out_dir, records)
    with atomic_path(listed) as temporary:
        temporary.write_text(json.dumps(records, indent=1))
    shutil.rmtree(out_dir / ".tiles")


def make_tile(path: Path, earth: Earth, tile: Tile, patch_px: int, side_px: int) -> None:
    """Render all dates of a tile, cut patches, and write its record to `path`, its npy files one folder higher."""
    parts: dict[str, list[dict[str, np.ndarray]]] = {}
    for date, baseline in zip(tile.dates, tile.baselines, strict=True):
        scene = render(earth, tile.cell, date, side_px)
        clear = (_patches(scene.cloud_mask, patch_px) != 0).mean((1, 2)) < MAX_CLOUD_SHARE
        arrays = _arrays(tile, scene, patch_px, offset_dn(baseline))
        cut = int(clear.sum()) - math.ceil(VALIDATION_SHARE * clear.sum())
        splits = {"test": slice(None)} if tile.test else {"train": slice(cut), "val": slice(cut, None)}
        for split, kept in splits.items():
            part = {name: array[clear][kept] for name, array in arrays.items()}
            parts.setdefault(split, []).append(part)
    for split, of_dates in parts.items():
        for name in of_dates[0]:
            file = f"{tile.region.name}_{tile.number}_{split}_{name}.npy"
            with atomic_path(path.parents[1] / file) as temporary:
                np.save(temporary, np.concatenate([part[name] for part in of_dates]))
    lat, lon = centre_of(tile.cell)
    record = {
        "region": tile.region.name,
        "tile": tile.number,
        "split": "test" if tile.test else "train",
        "grid_cell": tile.cell,
        "lat_deg": lat,
        "lon_deg": lon,
        "dates": tile.dates,
        "baselines": tile.baselines,
        "offset_dn": [offset_dn(baseline) for baseline in tile.baselines],
        "patches": {split: [len(part["s2"]) for part in of_dates] for split, of_dates in parts.items()},
        "label_scale": 100 if tile.square_metres else 1,
    }
    with atomic_path(path, sealed=False) as temporary:
        temporary.write_text(json.dumps(record))


def _patches(image: np.ndarray, patch_px: int) -> np.ndarray:
    """(H, W, ...) to (N, patch_px, patch_px, ...), in reading order."""
    count = len(image) // patch_px
    blocks = image.reshape(count, patch_px, count, patch_px, *image.shape[2:])
    return blocks.swapaxes(1, 2).reshape(count * count, patch_px, patch_px, *image.shape[2:])


def _arrays(tile: Tile, scene: Scene, patch_px: int, offset: int) -> dict[str, np.ndarray]:
    """Images and labels of one date as patches, (N, P, P, C), by the end of the file's name."""
    rng = stream(tile.cell, "labels")
    unlabelled = rng.random(scene.landcover.shape) < NODATA_LABEL_SHARE
    scale = np.float32(100 if tile.square_metres else 1)
    building = scene.buildings * scale
    if tile.nan:
        building[rng.random(building.shape) < NODATA_LABEL_SHARE] = np.nan
    labels = {
        "building": building,
        "lc": np.where(unlabelled, np.uint8(0), scene.landcover),
        "kg": np.full_like(scene.landcover, scene.place.koppen),
    }
    if tile.region.roads:
        labels["roads"] = scene.roads * scale
    arrays = {f"label_{name}": _patches(image, patch_px)[..., None] for name, image in labels.items()}
    arrays["s2"] = _patches(quantise(scene.reflectance, offset).transpose(1, 2, 0), patch_px)
    arrays["label_coords"] = _coords(scene, patch_px)
    return arrays


def _coords(scene: Scene, patch_px: int) -> np.ndarray:
    """Place of each patch's middle in PhilEO's encoding, (N, 3) float32; north is up."""
    side_px = len(scene.landcover) // patch_px * patch_px
    middle_m = 10.0 * (np.arange(patch_px / 2, side_px, patch_px) - side_px / 2)
    south_m, east_m = (axis.ravel() for axis in np.meshgrid(middle_m, middle_m, indexing="ij"))
    lat_deg = scene.place.lat_deg - south_m / M_PER_DEG
    lon_deg = scene.place.lon_deg + east_m / M_PER_DEG / np.cos(np.radians(lat_deg))
    return encode_phileo_place(lat_deg, lon_deg).astype(np.float32)


def _write_counts(folder: Path, records: dict[str, dict]) -> None:
    """`<ddmmyyyy>_npy_file_info.csv`: patches of each image file; the date is that of the newest scene."""
    newest = datetime.date.fromisoformat(max(date for record in records.values() for date in record["dates"]))
    lines = [",samples"]
    for name, record in records.items():
        lines += [f"{name}_{split}_s2.npy,{sum(counts)}" for split, counts in record["patches"].items()]
    with atomic_path(folder / f"{newest:%d%m%Y}_npy_file_info.csv") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
