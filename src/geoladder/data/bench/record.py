"""What the index keeps of an image file of the bench: its size, place, DN offsets and the scale of its labels.

Unusual: a file may hold several dates with different DN offsets.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from geoladder.data.archives.npy import label_path, open_images, open_npy
from geoladder.data.bench.files import PatchFile, open_labels
from geoladder.data.labels.bands import offset_from_pixels
from geoladder.data.labels.targets import decode_phileo_place
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS

PROBED_PATCHES = 64
"""Patches of a file, evenly spaced, whose pixels tell the DN offset where no metadata do."""


def describe(file: PatchFile, archive: Path, records: dict[str, Any]) -> dict[str, Any]:
    """One row of the bench's index; `geoladder.data.bench.reader.index_bench` says what is in it.

    Args:
        file: an image file.
        archive: folder of the bench.
        records: from `tile_records`.

    Raises:
        GeoladderError: the file or one of its labels is damaged or does not fit.
    """
    images = open_images(file.path)
    lat_deg, lon_deg = _centre(label_path(file.path, "coords"), len(images))
    date_patches, offset_dn, source = _offsets(file, images, records.get(f"{file.region}_{file.tile}"))
    row: dict[str, Any] = {
        "region": file.region,
        "tile": file.tile,
        "split": file.split,
        "bucket": file.bucket,
        "file": file.path.relative_to(archive).as_posix(),
        "patches": len(images),
        "patch_px": images.shape[1],
        "lat_deg": lat_deg,
        "lon_deg": lon_deg,
        "date_patches": date_patches,
        "offset_dn": offset_dn,
        "offset_source": source,
    }
    for task in TASKS.values():
        path = label_path(file.path, task.label)
        labels = open_labels(path, images) if path.is_file() else None
        row[f"has_{task.name}"] = labels is not None
        row[f"{task.name}_scale"] = np.nan if labels is None else task.scale(labels)
    return row


def tile_records(archive: Path) -> dict[str, Any]:
    """What metadata/tiles_metadata.json says of each `<region>_<tile>`; nothing where it is absent."""
    path = archive / "metadata" / "tiles_metadata.json"
    if not path.is_file():
        return {}
    try:
        tiles = json.loads(path.read_text())
    except ValueError as problem:
        raise GeoladderError(f"{path} is not valid JSON ({problem}); unpack or write it again") from None
    return tiles if isinstance(tiles, dict) else {}


def _offsets(file: PatchFile, images: np.ndarray, record: object) -> tuple[list[int], list[int], str]:
    """Patches and DN offset of each date in a file, and where the offsets are from.

    Dates follow each other along the first axis. Where the tile's record lacks `offset_dn` (by date) and `patches`
    (by split and date), one guess from the pixels stands for all, and a mixed file counts as without offset.
    """
    if isinstance(record, dict) and {"offset_dn", "patches"} <= set(record):
        counts, offsets = record["patches"].get(file.split, []), record["offset_dn"]
        if len(counts) != len(offsets) or sum(counts) != len(images):
            raise GeoladderError(
                f"{file.path} has {len(images)} patches, but metadata/tiles_metadata.json counts {counts} for the "
                f"{len(offsets)} dates of the tile; unpack or write both again"
            )
        return counts, offsets, "metadata"
    probed = images[:: max(1, len(images) // PROBED_PATCHES), ::4, ::4]  # percentiles do not need every pixel
    return [len(images)], [offset_from_pixels(np.moveaxis(probed, 3, 0))], "pixels"


def _centre(path: Path, patches: int) -> tuple[float, float]:
    """Mean place of a file's patches; not a number where no file tells it."""
    if not path.is_file():
        return np.nan, np.nan
    coords = np.asarray(open_npy(path), float)
    if coords.shape != (patches, 3):
        raise GeoladderError(f"{path} has shape {coords.shape}, but its {patches} images need ({patches}, 3)")
    lat_deg, lon_deg = decode_phileo_place(coords.mean(axis=0) if patches else np.full(3, np.nan))
    return float(lat_deg), float(lon_deg)
