"""Reader of PhilEO Bench: Sentinel-2 patches with road, building and land cover labels, in npy files.

Unusual: the bench states neither the scale of its density labels (fractions, or 0-100 m2 a pixel) nor the DN
offset of its images, which may differ between the dates of one file. The index records both.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from geoladder.data.archives.folders import unpacking, walk
from geoladder.data.archives.npy import label_path, open_images, open_labels
from geoladder.data.bench.evidence import Harmonise, bench_findings
from geoladder.data.bench.files import PatchFile, Split, describe, parse, tile_records
from geoladder.data.index.evidence import Evidence
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.runs.atomic import atomic_path
from geoladder.runs.digest import intact

log = logging.getLogger(__name__)
MANY_UNLABELLED = 0.01
"""Share of a file's pixels without a label that is worth a word."""


def index_bench(archive: Path, out: Path, harmonise: Harmonise = None) -> None:
    """List the image files of a bench with what a reader must know about each.

    Args:
        archive: folder with `<region>_<tile>_<split>_s2.npy` and label files, at any depth.
        out: written, parquet, one row per image file in the order of the bench: region, tile, split, bucket, file
            (relative to `archive`), patches, patch_px, lat_deg, lon_deg (centre), south_deg, west_deg, north_deg,
            east_deg (footprint of the patches; east is above 180 across the date line), all NaN where unknown,
            date_patches and offset_dn (lists: how many patches each date has, in order, and its DN offset; one entry
            where dates are unknown), offset_source (`metadata` or `pixels`), and of each task has_<task>,
            <task>_scale (factor from stored numbers to labels, NaN without) and <task>_unlabelled (share of pixels
            without a label in up to 128 evenly spaced patches, NaN where it is unknown).
        harmonise: whether offsets are those of the metadata, even where pixels contradict (`baseline`), or those of
            the pixels of each date; None: those of the metadata, if pixels agree.

    Beside the index, evidence.json says why scales, offsets and fills were taken as they were (`Evidence`).

    Raises:
        GeoladderError: no file, an unknown name, a damaged file, labels that do not fit or that some files of a tile
            lack, a tile with files of training and of test, mixed patch sizes, or metadata that pixels contradict.
    """
    archive = Path(archive)
    records = tile_records(archive)
    described = [describe(file, archive, records, harmonise) for file in _image_files(archive)]
    index = pd.DataFrame([row for row, _ in described])
    _check_tiles(index, archive)
    for task in TASKS:
        # The files of a tile share a scale, and some have no pixel that would show it.
        shared = index.groupby(["region", "tile"])[f"{task}_scale"].transform("min")
        index[f"{task}_scale"] = shared.where(index[f"has_{task}"])
    sizes = index.groupby("patch_px")["file"].first()
    if len(sizes) > 1:
        raise GeoladderError(
            f"{archive} mixes patch sizes: {', '.join(f'{px} px ({file})' for px, file in sizes.items())}; "
            "point bench.path at the folder of one edition"
        )
    findings = bench_findings(index, [witness for _, witness in described], harmonise)
    evidence = Evidence(str(archive), f"up to 128 patches of each of {len(index)} files", findings)
    evidence.check()
    with atomic_path(out) as path:
        index.to_parquet(path, index=False)
    evidence.write(out)
    _name_unlabelled(index, archive)
    log.info(
        "%s: %d files, patches: %s; offset of %d files from metadata, of the others from pixels",
        archive,
        len(index),
        index.groupby("split")["patches"].sum().to_dict(),
        (index["offset_source"] == "metadata").sum(),
    )


def _image_files(archive: Path) -> list[PatchFile]:
    """Image files at any depth, in the order of the bench; GeoladderError where there is none."""
    names = (
        folder / name for folder, _, names in walk(archive) for name in names if name.endswith("_s2.npy")
    )
    files = sorted(map(parse, names))
    if not files:
        fix = unpacking(archive) or (
            "PhilEO Bench comes as a multi-part zip: join it with `zip -s 0 <name>.zip --out whole.zip`, "
            "unzip that, and set bench.path to the folder"
        )
        raise GeoladderError(f"no *_s2.npy in {archive}; {fix}")
    return files


def _name_unlabelled(index: pd.DataFrame, archive: Path) -> None:
    for task in TASKS:
        if files := int((index[f"{task}_unlabelled"] > MANY_UNLABELLED).sum()):
            log.warning(
                "%s: in %d files more than %.0f %% of the pixels have no label of %s; training and metrics leave "
                "them out",
                *(archive, files, 100 * MANY_UNLABELLED, task),
            )


def _check_tiles(index: pd.DataFrame, archive: Path) -> None:
    """Refuse a tile that would be on both sides, or that has a task's labels in some files only."""
    for (region, tile), files in index.groupby(["region", "tile"], sort=False):
        splits = set(files["split"])
        if "test" in splits and len(splits) > 1:
            raise GeoladderError(
                f"tile {region}_{tile} of {archive} has files of {' and '.join(sorted(splits))}: what is tested "
                f"would be trained on ({', '.join(files['file'])}); remove one side's files, or unpack it again"
            )
        for task in TASKS.values():
            has = files[f"has_{task.name}"]
            if has.any() and not has.all():
                images = archive / files.loc[~has, "file"].iloc[0]
                raise GeoladderError(
                    f"{label_path(images, task.label)} is missing, while other files of tile {region}_{tile} have "
                    f"labels for {task.name}; unpack the bench again, or remove the labels of the whole tile"
                )


class BenchBatch(NamedTuple):
    """Patches with the labels of one task."""

    images: np.ndarray
    """(N, 10, P, P) uint16 DN, bands in `BANDS` order, all at 10 m."""
    offset_dn: np.ndarray
    """(N,) int64, to subtract from the images; 0 without harmonising."""
    labels: np.ndarray
    """(N, P, P), as the task's `read` gives them."""


class Bench:
    """The bench behind an index written by `index_bench`."""

    def __init__(
        self, archive: Path, index: Path, harmonise: Literal["baseline", "none"] = "baseline"
    ) -> None:
        """Open a bench; raises GeoladderError where the index is missing or is no bench index.

        With harmonise `none`, the +1000 DN offset of later products stays in, as in the original loaders.
        """
        self.archive, self._source = Path(archive), Path(index)
        self._harmonise = harmonise == "baseline"
        try:
            self.index = pd.read_parquet(intact(index))
            self._patches = self.index["patches"].to_numpy(int).tolist()
            self._patch_px = int(self.index["patch_px"].iloc[0])
            self._paths = [self.archive / file for file in self.index["file"]]
            dates = zip(self.index["offset_dn"], self.index["date_patches"], strict=True)
            self._offset_dn = [np.repeat(offsets, counts) for offsets, counts in dates]
        except (OSError, ValueError, KeyError) as problem:
            raise GeoladderError(
                f"{index} is no bench index ({problem}); write it with `geoladder bench-index`"
            ) from None

    def pool(self, task: str, split: Split) -> pd.DataFrame:
        """All patches of a split that have the task's labels, bucket after bucket.

        Returns:
            bucket; position (in the bucket's pool, as published index files count); region and tile; entry (row of
            `index`) and slot (patch in that file), which `read` needs.

        Raises:
            GeoladderError: there is no such task, or the index is older than it.
        """
        if f"has_{TASKS[task].name}" not in self.index:
            raise GeoladderError(
                f"{self._source} knows nothing of the labels of '{task}', a task newer than it; write it again: "
                f"geoladder bench-index --bench {self.archive} --out {self._source}"
            )
        chosen = self.index[(self.index["split"] == split) & self.index[f"has_{task}"]]
        counts = chosen["patches"].to_numpy()
        pool = pd.DataFrame(
            {
                **{
                    name: np.repeat(chosen[name].to_numpy(object), counts)
                    for name in ("bucket", "region", "tile")
                },
                "entry": np.repeat(chosen.index.to_numpy(), counts),
                "slot": np.concatenate([np.arange(count) for count in counts] or [np.empty(0, np.int64)]),
            }
        )
        pool.insert(1, "position", pool.groupby("bucket", sort=False).cumcount())
        return pool

    def read(self, task: str, rows: pd.DataFrame) -> BenchBatch:
        """Read images and labels of rows of `pool`, in their order; repeats allowed.

        GeoladderError where there are no rows, or a file is missing, damaged or holds values it must not (names it).
        """
        return BenchBatch(*self.images(rows), self.labels(task, rows))

    def images(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Images and DN offsets alone, as in `BenchBatch`."""
        images = _gather(rows, self._read_images)
        offset_dn = _gather(rows, lambda entry, slots: self._offset_dn[entry][slots])
        return images, offset_dn * self._harmonise

    def labels(self, task: str, rows: pd.DataFrame) -> np.ndarray:
        """Labels alone, as in `BenchBatch.labels`."""
        return _gather(rows, lambda entry, slots: self._read_labels(task, entry, slots))

    def measure(
        self, task: str, rows: pd.DataFrame, measure: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """What `measure`, (N, P, P) to (N,), says of the labels of each row, file by file: no more is held."""
        return _gather(rows, lambda entry, slots: measure(self._read_labels(task, entry, slots)))

    def _read_labels(self, task: str, entry: int, slots: np.ndarray) -> np.ndarray:
        path = label_path(self._paths[entry], TASKS[task].label)
        shape = (self._patches[entry], self._patch_px, self._patch_px, 1)
        stored = np.asarray(open_labels(path, shape)[slots, ..., 0])
        try:
            return TASKS[task].read(stored, float(self.index[f"{task}_scale"].to_numpy()[entry]))
        except GeoladderError as problem:
            raise GeoladderError(f"{path}: {problem}") from None

    def _read_images(self, entry: int, slots: np.ndarray) -> np.ndarray:
        images = open_images(self._paths[entry])
        if len(images) != self._patches[entry]:
            raise GeoladderError(
                f"{self._paths[entry]} has {len(images)} patches, but {self._source} counts {self._patches[entry]}; "
                f"write it again: geoladder bench-index --bench {self.archive} --out {self._source}"
            )
        return images[slots].transpose(0, 3, 1, 2)


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
