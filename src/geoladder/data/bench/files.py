"""Files of PhilEO Bench: their names, their labels, and what the index keeps of each.

Unusual: names matter as they are. Regions are matched by prefix, Israel is spelled `isreal`, and a patch's position
in its bucket counts over the sorted files of the bucket's regions in the order of `BUCKETS`, because the published
index files count so. A file may hold several dates with different DN offsets.
"""

import logging
import math
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from geoladder.data.archives.footprints import COLUMNS, Boxes
from geoladder.data.archives.npy import label_path, open_images, open_labels
from geoladder.data.bench.evidence import Harmonise, Labels, Witness, count_labels, stated_scale
from geoladder.data.labels.bands import darkest_dn, offset_of
from geoladder.data.labels.targets import decode_phileo_place
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.registry.task import Task
from geoladder.text import read_json

log = logging.getLogger(__name__)

Split = Literal["train", "val", "test"]
Side = Literal["train", "val"]
"""What a few-shot run uses patches for; the files of a split need not be those of the same side."""
PIXEL_M = 10.0
PROBED_PATCHES = 64
"""Patches of a file, evenly spaced, that tell the share without a label and how dark each date is."""

BUCKETS: dict[str, tuple[str, ...]] = {
    "europe": ("europe", "denmark-1", "denmark-2"),
    "east-africa": ("east-africa", *(f"tanzania-{number}" for number in range(1, 6)), "uganda-1"),
    "northwest-africa": ("eq-guinea", "ghana-1", "egypt-1", "isreal-1", "isreal-2", "nigeria", "senegal"),
    "north-america": ("north-america",),
    "south-america": ("south-america",),
    "japan": ("japan",),
}
"""Bucket to its regions, both in the order of the bench."""

_REGIONS = [(bucket, region) for bucket, regions in BUCKETS.items() for region in regions]
_NAME = re.compile(r"^(?P<region>[^_]+)_(?P<tile>.+)_(?P<split>train|val|test)_s2\.npy$")


class PatchFile(NamedTuple):
    """What the name of an image file says. Sorts as the bench counts."""

    order: int
    """Of the region among those of all buckets."""
    name: str
    path: Path
    bucket: str
    region: str
    tile: str
    split: str


def parse(path: Path) -> PatchFile:
    """Read an image file's name, `<region>_<tile>_<split>_s2.npy`; GeoladderError for others and unknown regions."""
    match = _NAME.match(path.name)
    for order, (bucket, region) in enumerate(_REGIONS):
        if match and match["region"].startswith(region):
            return PatchFile(order, path.name, path, bucket, match["region"], match["tile"], match["split"])
    raise GeoladderError(
        f"{path} is no file of PhilEO Bench: <region>_<tile>_<train|val|test>_s2.npy is expected, with a region "
        f"that begins with one of {', '.join(region for _, region in _REGIONS)} (isreal is the bench's own spelling)"
    )


def describe(
    file: PatchFile, archive: Path, records: dict[str, Any], harmonise: Harmonise = None
) -> tuple[dict[str, Any], Witness]:
    """One row of a bench's index, which `reader.index_bench` describes, and what else the file says.

    `records` are from `tile_records`. GeoladderError where the file or one of its labels is damaged or does not fit.
    """
    images, record = open_images(file.path), records.get(f"{file.region}_{file.tile}")
    lat_deg, lon_deg = _places(label_path(file.path, "coords"), len(images))
    dates, source = _dates(file, images, record, harmonise)
    row: dict[str, Any] = {
        "region": file.region,
        "tile": file.tile,
        "split": file.split,
        "bucket": file.bucket,
        "file": file.path.relative_to(archive).as_posix(),
        "patches": len(images),
        "patch_px": images.shape[1],
        **_location(lat_deg, lon_deg, images.shape[1]),
        "date_patches": [date.patches for date in dates],
        "offset_dn": [date.offset_dn for date in dates],
        "offset_source": source,
    }
    witness: Witness = {
        "darkest_dn": [date.darkest_dn for date in dates],
        "label_scale": stated_scale(record),
    }
    for task in TASKS.values():
        facts, labels = _label_facts(task, label_path(file.path, task.label), images.shape[:3])
        row |= facts
        witness |= {task.name: labels} if labels else {}
    return row, witness


def _label_facts(task: Task, path: Path, shape: tuple[int, ...]) -> tuple[dict[str, Any], Labels | None]:
    """Columns of one task: whether it has labels, their scale, and the share of pixels that have none; and counts."""
    has, scale, unlabelled, counts = path.is_file(), np.nan, np.nan, None
    if has:
        labels = open_labels(path, (*shape, 1))
        try:
            scale = task.scale(labels)
        except GeoladderError as problem:
            raise GeoladderError(f"{path}: {problem}") from None
        probed = labels[:: max(1, len(labels) // PROBED_PATCHES)]
        try:
            counts = count_labels(task, probed, scale)
            unlabelled = 1 - counts["labelled"] / probed.size if probed.size else np.nan
        except GeoladderError as problem:  # studies without this task need not care
            log.warning("%s: %s; what reads such a label stops", path, problem)
    facts = {f"has_{task.name}": has, f"{task.name}_scale": scale, f"{task.name}_unlabelled": unlabelled}
    return facts, counts


def tile_records(archive: Path) -> dict[str, Any]:
    """What metadata/tiles_metadata.json says of each `<region>_<tile>`; nothing where it is absent."""
    path = archive / "metadata" / "tiles_metadata.json"
    if not path.is_file():
        return {}
    try:
        tiles = read_json(path)
    except GeoladderError as problem:
        raise GeoladderError(f"{problem}; unpack or write it again") from None
    return tiles if isinstance(tiles, dict) else {}


class Date(NamedTuple):
    """The patches of one date in a file; dates follow each other along the first axis."""

    patches: int
    offset_dn: int
    darkest_dn: float


def _dates(
    file: PatchFile, images: np.ndarray, record: object, harmonise: Harmonise
) -> tuple[list[Date], Literal["metadata", "pixels"]]:
    """Dates of a file, and where their offsets are from.

    Where the tile's record lacks `offset_dn` (by date) and `patches` (by split and date), one guess from the pixels
    stands for all, and a mixed file counts as without offset.
    """
    if not (isinstance(record, dict) and {"offset_dn", "patches"} <= set(record)):
        darkest = _darkest_dn(images)
        return [Date(len(images), offset_of(darkest), darkest)], "pixels"
    by_split, offsets = record["patches"], record["offset_dn"]
    counts = by_split.get(file.split, []) if isinstance(by_split, dict) else by_split
    numbers = [*counts, *offsets] if isinstance(counts, list) and isinstance(offsets, list) else [None]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise GeoladderError(
            f"metadata/tiles_metadata.json has patches {counts} and offset_dn {offsets} for {file.path}; "
            "each is a list of whole numbers, one for each date; unpack or write it again"
        )
    if len(counts) != len(offsets) or sum(counts) != len(images):
        raise GeoladderError(
            f"{file.path} has {len(images)} patches, but metadata/tiles_metadata.json counts {counts} for the "
            f"{len(offsets)} dates of the tile; unpack or write both again"
        )
    darkest_dn = [_darkest_dn(part) for part in np.split(images, np.cumsum(counts)[:-1])] if counts else []
    if harmonise == "pixels":
        offsets = [offset_of(darkest) for darkest in darkest_dn]
    source: Literal["metadata", "pixels"] = "pixels" if harmonise == "pixels" else "metadata"
    return [Date(*date) for date in zip(counts, offsets, darkest_dn, strict=True)], source


def _darkest_dn(images: np.ndarray) -> float:
    probed = images[:: max(1, len(images) // PROBED_PATCHES), ::4, ::4]  # percentiles do not need every pixel
    return darkest_dn(np.moveaxis(probed, 3, 0))


def _places(path: Path, patches: int) -> tuple[np.ndarray, np.ndarray]:
    """Place of each of a file's patches, lat_deg and lon_deg (patches,); none where no file tells it."""
    if not path.is_file():
        return np.empty(0), np.empty(0)
    lat_deg, lon_deg = decode_phileo_place(open_labels(path, (patches, 3)).astype(float))
    if np.isnan(lat_deg).any():
        log.warning("%s holds numbers of no place, so the file counts as without one", path)
    return lat_deg, lon_deg


def _location(lat_deg: np.ndarray, lon_deg: np.ndarray, patch_px: int) -> dict[str, float]:
    """Middle and footprint of a file: lat_deg, lon_deg and `COLUMNS` of footprints; not numbers without places.

    The footprint holds every patch. Where all patches have one place, it is that of the tile, and the footprint is a
    square of as many patches, as if they were of one date: never too small.
    """
    if not lat_deg.size:
        return dict.fromkeys(("lat_deg", "lon_deg", *COLUMNS), np.nan)
    across = 1 if len(set(zip(lat_deg, lon_deg, strict=True))) > 1 else math.ceil(math.sqrt(lat_deg.size))
    east_of_first_deg = (lon_deg - lon_deg[0] + 180) % 360 - 180  # continuous at the date line
    lon_deg = lon_deg[0] + east_of_first_deg
    boxes = Boxes.around(lat_deg, lon_deg, across * patch_px * PIXEL_M)
    sides = (boxes.south.min(), boxes.west.min(), boxes.north.max(), boxes.east.max())
    middle = {"lat_deg": lat_deg.mean(), "lon_deg": (lon_deg.mean() + 180) % 360 - 180}
    return {
        name: float(number) for name, number in {**middle, **dict(zip(COLUMNS, sides, strict=True))}.items()
    }
