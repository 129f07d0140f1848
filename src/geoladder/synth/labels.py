"""Writes what the synthetic Earth knows of the chips of one of its archives: the labels of every pixel.

Only the generator knows them, so only a synthetic study can have an oracle: a model that learns from the very tiles
of pretraining, but their labels. Unusual: no archive is opened. The ground of a cell is the same on every date, and
chips are found on it by the coordinates of their centres, so labels fit chips whatever cleaning and cutting left out.

On disk, for chips of P pixels: `<label>.npy`, (chips, P, P) in the numbers and order of the chips' manifest, numbers
as in the bench's label files; and `labels.json`, which names the spec. It comes last: labels without it are
unfinished.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rasterio.warp import transform

from geoladder.data.batches.chip_store import ChipStore
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.runs.atomic import atomic_path, write_json
from geoladder.study.corpora import Earth
from geoladder.study.specs import LabelsSpec
from geoladder.synth.archive import PIXEL_M, upper_left_m
from geoladder.synth.pool import make_tiles
from geoladder.synth.scene import Scene, render

ANY_DATE = "2020-03-20"
"""The sun is up everywhere; labels are the same on every date."""
OFF_GRID_PX = 0.01
"""Rounding of coordinates that have been to degrees and back."""


def write_labels(spec: LabelsSpec, chips: Path, out: Path, processes: int) -> None:
    """Write the labels of all chips of a folder; a killed run goes on where it stopped.

    Args:
        spec: the Earth, and the tasks whose labels are wanted.
        chips: folder with a manifest.
        out: folder of the labels.
        processes: cells made at the same time.

    Raises:
        GeoladderError: the Earth has no such label, there are no chips, or they were not cut from tiles of it.
    """
    names = [TASKS[task].label for task in spec.tasks]
    store = ChipStore(chips, spec.chips)
    manifest = pd.read_parquet(store.manifest, columns=["chip", "grid_cell", "lat_deg", "lon_deg"])
    cells = manifest.groupby("grid_cell", sort=False)
    tasks = [
        (spec.earth, cell, store.chip_px, rows.lat_deg.tolist(), rows.lon_deg.tolist(), names)
        for cell, rows in cells
    ]
    (out / "labels.json").unlink(missing_ok=True)
    paths = make_tiles(label_cell, out / ".cells", tasks, processes, "cells of labels")
    order = np.concatenate([rows.chip.to_numpy() for _, rows in cells])
    for name in names:
        of_cells = np.concatenate([np.load(path)[name] for path in paths])
        in_order = np.empty_like(of_cells)
        in_order[order] = of_cells
        with atomic_path(out / f"{name}.npy") as temporary:
            np.save(temporary, in_order)
    write_json(out / "labels.json", {"fingerprint": spec.fingerprint, "spec": spec.model_dump(mode="json")})
    shutil.rmtree(out / ".cells")


def label_cell(
    path: Path,
    earth: Earth,
    cell: str,
    chip_px: int,
    lat_deg: list[float],
    lon_deg: list[float],
    names: list[str],
) -> None:
    """Write the labels of the chips of one cell, whose centres are given, to an npz: (K, P, P) by name."""
    drawn = labels_of(render(earth, cell, ANY_DATE, earth.tile_px))
    if missing := sorted(set(names) - set(drawn)):
        raise GeoladderError(
            f"the synthetic Earth draws {', '.join(drawn)}, but no {', '.join(missing)}; leave out of oracle.tasks "
            "the tasks that need it"
        )
    corners = _corners_px(cell, earth.tile_px, chip_px, lat_deg, lon_deg)
    chips: dict[str, Any] = {
        name: np.stack([drawn[name][y : y + chip_px, x : x + chip_px] for y, x in corners]) for name in names
    }
    with atomic_path(path, sealed=False) as temporary, temporary.open("wb") as file:
        np.savez(file, **chips)


def labels_of(scene: Scene) -> dict[str, np.ndarray]:
    """Labels (H, W) of a scene by the end of their files' names in the bench."""
    return {"building": scene.buildings, "lc": scene.landcover, "roads": scene.roads}


def _corners_px(
    cell: str, tile_px: int, chip_px: int, lat_deg: list[float], lon_deg: list[float]
) -> list[tuple[int, int]]:
    """Upper left pixels (down, right) in a tile of chips with these centres."""
    epsg, left_m, top_m = upper_left_m(cell, tile_px)
    eastings, northings = transform("EPSG:4326", f"EPSG:{epsg}", lon_deg, lat_deg)
    centres = np.stack([top_m - np.array(northings), np.array(eastings) - left_m], axis=1) / PIXEL_M
    corners = np.rint(centres - chip_px / 2).astype(int)
    off = np.abs(centres - chip_px / 2 - corners).max() > OFF_GRID_PX
    if off or corners.min() < 0 or corners.max() > tile_px - chip_px:
        raise GeoladderError(
            f"chips of {chip_px} px in grid cell {cell} do not lie on the pixels of its synthetic tile of {tile_px} "
            "px; were they cut from an archive of another `earth`? Make the archive and the chips again"
        )
    return [(int(down), int(right)) for down, right in corners]
