"""File names of PhilEO Bench, and its label files.

Unusual: names matter as they are. Regions are matched by prefix, Israel is spelled `isreal`, and a patch's position
in its bucket counts over the sorted files of the bucket's regions in the order of `BUCKETS`, because the published
index files count so.
"""

import re
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from geoladder.data.archives.npy import open_npy
from geoladder.errors import GeoladderError

Split = Literal["train", "val", "test"]

BUCKETS: dict[str, tuple[str, ...]] = {
    "europe": ("europe", "denmark-1", "denmark-2"),
    "east-africa": (
        "east-africa",
        "tanzania-1",
        "tanzania-2",
        "tanzania-3",
        "tanzania-4",
        "tanzania-5",
        "uganda-1",
    ),
    "northwest-africa": ("eq-guinea", "ghana-1", "egypt-1", "isreal-1", "isreal-2", "nigeria", "senegal"),
    "north-america": ("north-america",),
    "south-america": ("south-america",),
    "japan": ("japan",),
}
"""Bucket to its regions, both in the order of the bench."""

_NAME = re.compile(r"^(?P<region>[^_]+)_(?P<tile>.+)_(?P<split>train|val|test)_s2\.npy$")


class PatchFile(NamedTuple):
    """What the name of an image file says. Sorts as the bench counts."""

    bucket_order: int
    region_order: int
    name: str
    path: Path
    bucket: str
    region: str
    tile: str
    split: str


def parse(path: Path) -> PatchFile:
    """Read the name of an image file, `<region>_<tile>_<split>_s2.npy`.

    Raises:
        GeoladderError: the name has another form, or the region is of no bucket.
    """
    match = _NAME.match(path.name)
    places = [
        (bucket_order, region_order, bucket)
        for bucket_order, (bucket, regions) in enumerate(BUCKETS.items())
        for region_order, region in enumerate(regions)
        if match and match["region"].startswith(region)
    ]
    if match is None or not places:
        regions = ", ".join(region for group in BUCKETS.values() for region in group)
        raise GeoladderError(
            f"{path} is no file of PhilEO Bench: <region>_<tile>_<train|val|test>_s2.npy is expected, with a region "
            f"that begins with one of {regions} (isreal is the bench's own spelling)"
        )
    bucket_order, region_order, bucket = places[0]
    return PatchFile(
        bucket_order, region_order, path.name, path, bucket, match["region"], match["tile"], match["split"]
    )


def open_labels(path: Path, images: np.ndarray) -> np.ndarray:
    """Memory map a label file: (N, P, P, 1) for N images of P pixels a side.

    Raises:
        GeoladderError: as `open_npy`; or the file does not fit the images.
    """
    labels = open_npy(path)
    if labels.shape != (*images.shape[:3], 1):
        raise GeoladderError(
            f"{path} has shape {labels.shape}, but its images need {(*images.shape[:3], 1)}: labels and images "
            "are of different versions; unpack or fetch both again"
        )
    return labels
