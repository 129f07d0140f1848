"""Reader of PhilEO Bench: Sentinel-2 patches with road, building and land cover labels, in npy files.

Unusual: the bench states neither the scale of its density labels (fractions, or 0-100 m2 a pixel) nor the DN
offset of its images, which may differ between the dates of one file. Both are found once and recorded in the index.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from geoladder.atomic import atomic_path
from geoladder.data.bands import offset_from_pixels
from geoladder.data.bench_files import (
    LABELS,
    PatchFile,
    Split,
    Task,
    label_path,
    open_images,
    open_labels,
    open_npy,
    parse,
)
from geoladder.data.targets import landcover_classes
from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)

FRACTION_MAX = 1.5
"""A density label above this is in m2 of a 100 m2 pixel. Fractions may exceed 1 a little."""
PROBED_PATCHES = 64
"""Patches of a file, evenly spaced, whose pixels tell the DN offset where no metadata do."""
CHUNK = 256


def index_bench(archive: Path, out: Path) -> None:
    """List the image files of a bench with what a reader must know about each.

    Args:
        archive: folder with `<region>_<tile>_<split>_s2.npy` and label files, at any depth.
        out: written, parquet, one row per image file in the order of the bench: region, tile, split, bucket, file
            (relative to `archive`), patches, patch_px, lat_deg, lon_deg (centre, NaN where unknown), has_roads,
            has_building, has_lc, roads_scale, building_scale (factor to fractions, NaN without labels),
            date_patches and offset_dn (lists: how many patches each date has, in order, and its DN offset; one entry
            where dates are unknown), offset_source (`metadata` or `pixels`).

    Raises:
        GeoladderError: no file, an unknown name, a damaged file, labels that do not fit, or mixed patch sizes.
    """
    files = sorted(parse(path) for path in Path(archive).rglob("*_s2.npy"))
    if not files:
        raise GeoladderError(
            f"no *_s2.npy in {archive}; PhilEO Bench comes as a multi-part zip: join it with "
            "`zip -s 0 <name>.zip --out whole.zip`, unzip that, and set bench.path to the folder"
        )
    records = _tile_records(Path(archive))
    index = pd.DataFrame([_describe(file, Path(archive), records) for file in files])
    for kind in ("roads", "building"):
        # The files of a tile share a scale, and some have no pixel that would show it.
        shared = index.groupby(["region", "tile"])[f"{kind}_scale"].transform("min")
        index[f"{kind}_scale"] = shared.where(index[f"has_{kind}"])
    sizes = index.groupby("patch_px")["file"].first()
    if len(sizes) > 1:
        raise GeoladderError(
            f"{archive} mixes patch sizes: {', '.join(f'{px} px ({file})' for px, file in sizes.items())}; "
            "point bench.path at the folder of one edition"
        )
    with atomic_path(out) as path:
        index.to_parquet(path, index=False)
    scaled = int((index[["roads_scale", "building_scale"]] < 1).to_numpy().sum())
    counts = ", ".join(f"{count} {split}" for split, count in index.groupby("split")["patches"].sum().items())
    log.info(
        "%s: %d files, patches: %s; %d label files in 0-100; offset of %d files from metadata, of %d from pixels",
        archive,
        len(index),
        counts,
        scaled,
        (index["offset_source"] == "metadata").sum(),
        (index["offset_source"] == "pixels").sum(),
    )


def _describe(file: PatchFile, archive: Path, records: dict[str, Any]) -> dict[str, Any]:
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
    for kind in LABELS.values():
        path = label_path(file.path, kind)
        row[f"has_{kind}"] = path.is_file()
        labels = open_labels(path, images) if path.is_file() else None
        if kind != LABELS["landcover"]:
            row[f"{kind}_scale"] = np.nan if labels is None else _scale(labels)
    return row


def _tile_records(archive: Path) -> dict[str, Any]:
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


def _scale(labels: np.ndarray) -> float:
    """Factor from stored density to fractions; reads only as far as it takes to see a value above 1.5."""
    chunks = (labels[start : start + CHUNK] for start in range(0, len(labels), CHUNK))
    return 0.01 if any(bool((chunk > FRACTION_MAX).any()) for chunk in chunks) else 1.0


def _centre(path: Path, patches: int) -> tuple[float, float]:
    """Mean place of a file's patches, stored as ((90 - lat) / 180, (sin lon + 1) / 2, (cos lon + 1) / 2)."""
    if not path.is_file():
        return np.nan, np.nan
    coords = np.asarray(open_npy(path), float)
    if coords.shape != (patches, 3):
        raise GeoladderError(f"{path} has shape {coords.shape}, but its {patches} images need ({patches}, 3)")
    south, sine, cosine = coords.mean(axis=0) if patches else (np.nan,) * 3
    return float(90 - 180 * south), float(np.degrees(np.arctan2(2 * sine - 1, 2 * cosine - 1)))


class BenchBatch(NamedTuple):
    """Patches with the labels of one task."""

    images: np.ndarray
    """(N, 10, P, P) uint16 DN, bands in `BANDS` order, all at 10 m."""
    offset_dn: np.ndarray
    """(N,) int64, to subtract from the images; 0 without harmonising."""
    labels: np.ndarray
    """(N, P, P): float32 density 0..1 (roads, buildings), or int64 class 0..10 with 255 to ignore (landcover)."""


class Bench:
    """The bench behind an index written by `index_bench`."""

    def __init__(
        self, archive: Path, index: Path, harmonise: Literal["baseline", "none"] = "baseline"
    ) -> None:
        """Open a bench.

        Args:
            archive: folder of the npy files.
            index: the index of that folder.
            harmonise: `none` leaves the +1000 DN offset of later products in, as the original loaders do.

        Raises:
            GeoladderError: the index is missing or is no bench index.
        """
        self.archive = Path(archive)
        self._harmonise = harmonise == "baseline"
        try:
            self.index = pd.read_parquet(index)
            self._paths = [self.archive / file for file in self.index["file"]]
            dates = zip(self.index["offset_dn"], self.index["date_patches"], strict=True)
            self._offset_dn = [np.repeat(offsets, counts) for offsets, counts in dates]
        except (OSError, ValueError, KeyError) as problem:
            raise GeoladderError(
                f"{index} is no bench index ({problem}); write it with `geoladder bench-index`"
            ) from None

    def pool(self, task: Task, split: Split) -> pd.DataFrame:
        """All patches of a split that have the task's labels, bucket after bucket.

        Returns:
            bucket; position (in the bucket's pool, as published index files count); entry (row of `index`) and slot
            (patch in that file), which `read` needs.
        """
        chosen = self.index[(self.index["split"] == split) & self.index[f"has_{LABELS[task]}"]]
        counts = chosen["patches"].to_numpy()
        pool = pd.DataFrame(
            {
                "bucket": np.repeat(chosen["bucket"].to_numpy(object), counts),
                "entry": np.repeat(chosen.index.to_numpy(), counts),
                "slot": np.concatenate([np.arange(count) for count in counts] or [np.empty(0, np.int64)]),
            }
        )
        pool.insert(1, "position", pool.groupby("bucket", sort=False).cumcount())
        return pool

    def read(self, task: Task, rows: pd.DataFrame) -> BenchBatch:
        """Read images and labels of rows of `pool`, in their order; repeats allowed.

        Raises:
            GeoladderError: no rows; or a file is missing, damaged or holds values it must not (names the file).
        """
        images = _gather(rows, self._read_images)
        offset_dn = _gather(rows, lambda entry, slots: self._offset_dn[entry][slots])
        return BenchBatch(images, offset_dn * self._harmonise, self.labels(task, rows))

    def labels(self, task: Task, rows: pd.DataFrame) -> np.ndarray:
        """Labels alone, as in `BenchBatch.labels`."""
        read = self._read_classes if task == "landcover" else self._read_density(LABELS[task])
        return _gather(rows, read)

    def _read_images(self, entry: int, slots: np.ndarray) -> np.ndarray:
        return open_images(self._paths[entry])[slots].transpose(0, 3, 1, 2)

    def _read_classes(self, entry: int, slots: np.ndarray) -> np.ndarray:
        path = label_path(self._paths[entry], LABELS["landcover"])
        try:
            return landcover_classes(np.asarray(open_npy(path)[slots, ..., 0]))
        except GeoladderError as problem:
            raise GeoladderError(f"{path}: {problem}") from None

    def _read_density(self, kind: str) -> Callable[[int, np.ndarray], np.ndarray]:
        def read(entry: int, slots: np.ndarray) -> np.ndarray:
            stored = open_npy(label_path(self._paths[entry], kind))[slots, ..., 0]
            scale = np.float32(self.index[f"{kind}_scale"].to_numpy()[entry])
            return np.clip(np.nan_to_num(stored.astype(np.float32)) * scale, 0.0, 1.0)

        return read


def _gather(rows: pd.DataFrame, read: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    """Patches of `rows` in their order, read file by file and in ascending order within a file."""
    if rows.empty:
        raise GeoladderError("no patches to read: the table of rows is empty")
    entries, slots = rows["entry"].to_numpy(), rows["slot"].to_numpy()
    order = np.lexsort((slots, entries))
    pieces = np.split(order, np.flatnonzero(np.diff(entries[order])) + 1)
    read_in_order = np.concatenate([read(int(entries[piece[0]]), slots[piece]) for piece in pieces])
    gathered = np.empty_like(read_in_order, order="C")
    gathered[order] = read_in_order
    return gathered
