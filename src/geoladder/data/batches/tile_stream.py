"""Batches of random crops read straight from an archive's tiles: a pure function of (spec, step), as those of chips.

Unusual: a sample's worker is decided by its position in the stream (`order`) and not by who is free, so any number
of ranks and workers gives the same batches. Each tile is read once, its crops kept till used. A tile that cannot be
read, or has no valid crop, is replaced by the next one that has, always by the same: a run of days must not end at
one bad row, nor may samples be missing. Workers send DN, a quarter of the bytes of float32; reflectance is made
where the batch is.
"""

import logging
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import count
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from geoladder.data.archives.sources import open_archive
from geoladder.data.archives.tile import TileSource, UnreadableTileError
from geoladder.data.batches.batch import BandStats, DNBatch, PretrainBatch, assemble, step_masks
from geoladder.data.batches.crops import expected_union_px, take_crops
from geoladder.data.batches.order import StreamOrder, positions_of
from geoladder.data.batches.tables import read_texts, read_whole, training_rows
from geoladder.data.labels.bands import BOA_OFFSET_DN
from geoladder.errors import GeoladderError
from geoladder.registry.target import Places
from geoladder.runs.digest import intact
from geoladder.study.compute import accumulation
from geoladder.study.specs import PretrainSpec

log = logging.getLogger(__name__)

MAX_SUBSTITUTES = 32
"""So many unusable tiles in a row are no accident: the archive is broken, or the wrong one."""


def open_tiles(index: Path, corpus: str, fraction: Fraction, seed: int) -> pd.DataFrame:
    """Training tiles of an index in the nested fraction of its grid cells that `seed` draws, by part and then by row.

    Coordinates are not kept: a crop's place follows from its tile's own georeference. 2.25 million tiles take 20 MB.

    Returns:
        part (category), row (int32) in the part, offset_dn (int16, to subtract from valid pixels).

    Raises:
        GeoladderError: the index cannot be read, or no tile is left.
    """
    rows, cells = training_rows(intact(index), fraction, seed)
    parts, part = read_texts(index, "part")
    row = read_whole(index, "row", np.int32)[rows]
    offset_dn = read_whole(index, "offset_dn", np.int16, BOA_OFFSET_DN)[rows]
    if not rows.size:
        raise GeoladderError(
            f"{corpus}@{fraction} has no training tile: 0 of {cells} grid cells in {index} are in "
            f"the fraction at seed {seed}; take a larger fraction or more tiles"
        )
    names = pd.Categorical.from_codes(part[rows], pd.Index(parts)).reorder_categories(sorted(parts))
    tiles = pd.DataFrame({"part": names, "row": row, "offset_dn": offset_dn})
    return tiles.sort_values(["part", "row"], ignore_index=True)


class TileCrops:
    """An archive's training tiles as a `Source` of crops. Opens no image before one is wanted.

    Attributes:
        side_px: of a crop.
    """

    def __init__(
        self,
        spec: PretrainSpec,
        archive: Path | None,
        index: Path | None,
        stats: BandStats,
        side_px: int,
        workers: int = 0,
    ) -> None:
        """Open the index.parquet of an archive for a run with `tiles`; crops have the side of the validation chips.

        Each rank has so many `workers` that read; with 0 the rank itself reads. Their number changes no batch.

        Raises:
            GeoladderError: no training tile, archive or index is missing, or the spec reads chips.
        """
        if spec.tiles is None or archive is None or index is None:
            raise GeoladderError(
                "to read tiles, a run needs pretrain.read: tiles in the study, and --archive and --index"
            )
        self._spec, self._reading, self._stats = spec, spec.tiles, stats
        self.side_px, self._workers = side_px, workers
        self._folder = archive
        self._tiles = open_tiles(index, spec.corpus, spec.fraction, spec.seed)
        self._order = StreamOrder(
            len(self._tiles), spec.tiles.crops_per_tile, spec.seed, spec.tiles.shuffle_window
        )

    @cached_property
    def _archive(self) -> TileSource:
        """Opened where tiles are read first: in each worker."""
        return open_archive(self._folder, self._reading.layout)

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self._tiles)

    def batches(self, first_step: int, rank: int = 0, ranks: int = 1) -> Iterator[PretrainBatch]:
        """As `Source.batches`; raises GeoladderError too where too many tiles are unusable."""
        spec, workers = self._spec, max(self._workers, 1)
        accumulation(spec.batch, ranks, None)  # refuses ranks that cannot share a batch evenly
        reads = self._order.reads_per_tile(ranks * workers)
        if reads > 1:
            log.warning(
                "%d ranks with %d workers each read every tile %d times; let ranks x workers divide %d",
                *(ranks, workers, reads, self._order.lanes),
            )
        # The loader deals what comes from here to its workers in turn, and gives their samples back in this order.
        shares = (
            positions_of(step, spec.batch, rank, ranks, worker, workers)
            for step in count(first_step)
            for worker in range(workers)
        )
        reader = TileReader(self, self._order.tiles_held(ranks * workers))
        processes = self._workers if self._workers and has_shared_memory() else 0
        pieces = iter(DataLoader(reader, batch_size=None, sampler=shares, num_workers=processes))
        for step in count(first_step):
            worker = positions_of(step, spec.batch, rank, ranks) // ranks % workers
            samples = _join([next(pieces) for _ in range(workers)], worker)
            mask = step_masks(spec, self.side_px, step)[rank::ranks]
            yield assemble(spec, self._stats, DNBatch(*samples[:3]), Places(*samples[3:]), mask)

    def priors(self) -> dict[str, list[float]]:
        """Nothing: crops have no labels."""
        return {}

    def facts(self, samples: int) -> dict[str, Any]:
        """What a run of so many samples has seen: unique pixels are an expectation, not a count.

        Every crop is a new draw, so `unique_chips` is the number of samples.
        """
        tile_px = self._any_tile_px()
        epochs, rest = divmod(samples, self._order.samples)
        per_epoch = self._reading.crops_per_tile
        begun = rest / per_epoch
        unique = (len(self) - begun) * expected_union_px(tile_px, self.side_px, epochs * per_epoch)
        unique += begun * expected_union_px(tile_px, self.side_px, (epochs + 1) * per_epoch)
        return {
            "unique_chips": samples,
            "unique_pixels": round(unique),
            "unique_pixels_are": "expected union of uniform crops of clear tiles, by formula",
            "unique_tiles": len(self) if epochs else min(len(self), round(begun)),
            "coverage": unique / (len(self) * tile_px**2),
        }

    def samples_of(self, positions: np.ndarray) -> list[list[int]]:
        """Epoch, tile and crop at each of positions (N,) of the stream."""
        return np.stack(self._order.at(positions), axis=1).tolist()

    def take(self, epoch: int, tile: int) -> list[tuple[Any, ...]]:
        """Crops of a tile in an epoch, or of the next usable tile after it.

        Returns:
            For each crop: dn10, dn20, offset_dn, lat_deg, lon_deg, koppen.

        Raises:
            GeoladderError: too many unusable tiles in a row.
        """
        spec, reading, tiles = self._spec, self._reading, self._tiles
        tries = min(MAX_SUBSTITUTES, len(tiles))
        for number in range(tile, tile + tries):
            part, row, offset_dn = tiles.iloc[number % len(tiles)]
            try:
                image = self._archive.read(part, int(row))
            except UnreadableTileError as problem:
                log.warning("the next tile is read instead: %s", problem)
                continue
            crops = take_crops(
                image,
                self.side_px,
                reading.crops_per_tile,
                reading.max_cloud_share,
                np.random.default_rng([spec.seed, epoch, tile]),
                reading.koppen_raster,
            )
            if crops is not None:
                dn10, dn20, *places = crops
                return list(zip(dn10, dn20, [int(offset_dn)] * len(dn10), *places, strict=True))
            log.info("the next tile is read instead: no valid crop in %s row %d", part, row)
        raise GeoladderError(
            f"of {tries} training tiles in a row, from {part} row {row} backwards, none "
            f"gives a crop of {self.side_px} px that is valid and at most {reading.max_cloud_share:.0%} cloudy; "
            "check the archive with `geoladder inspect`, or loosen cleaning.chip_max_cloud_share"
        )

    def _any_tile_px(self) -> int:
        """Side of the first readable tile, 10 m pixels."""
        for part, row, _ in self._tiles[:MAX_SUBSTITUTES].itertuples(index=False, name=None):
            try:
                return int(self._archive.read(part, row).dn10.shape[-1])
            except UnreadableTileError as problem:
                log.warning("passed over %s", problem)
        raise GeoladderError(
            f"none of the first {MAX_SUBSTITUTES} training tiles can be read; fetch them again"
        )


def has_shared_memory() -> bool:
    """Whether processes can share tensors; in containers without /dev/shm they cannot, and a rank reads itself."""
    try:
        shared = SharedMemory(create=True, size=1)
    except OSError as problem:
        log.warning("no processes read tiles, which takes longer: no memory can be shared here (%s)", problem)
        return False
    shared.close()
    shared.unlink()
    return True


class TileReader(Dataset[Any]):
    """One of several equal readers of a source's samples; reads each tile once, as far as it can keep crops."""

    def __init__(self, source: TileCrops, capacity: int) -> None:
        """Keep the crops of `capacity` tiles, those wanted last."""
        self._source, self._capacity = source, capacity

    @cached_property
    def _crops_of(self) -> Callable[[int, int], list[tuple[Any, ...]]]:
        return lru_cache(self._capacity)(self._source.take)

    def __getitem__(self, positions: np.ndarray) -> tuple[np.ndarray, ...] | GeoladderError | None:
        """Samples at positions (N,) of the stream: the parts of a `DNBatch` and those of `Places`.

        None where N is 0. A `GeoladderError` is returned, so that it comes out of a worker as it is.
        """
        if not positions.size:
            return None
        try:
            samples = [
                self._crops_of(epoch, tile)[crop] for epoch, tile, crop in self._source.samples_of(positions)
            ]
        except GeoladderError as problem:
            return GeoladderError(str(problem))
        *parts, koppen = map(np.array, zip(*samples, strict=True))
        return *parts, koppen.astype(np.int64)


def _join(pieces: list[Any], worker: np.ndarray) -> list[np.ndarray]:
    """Samples of all workers, each at the places that `worker` (N,) names it for; raises a worker's error."""
    for piece in pieces:
        if isinstance(piece, GeoladderError):
            raise piece
    # Where each sample lies in the pieces put one after another.
    position = np.argsort(np.argsort(worker, kind="stable"))
    parts = zip(*(piece for piece in pieces if piece is not None), strict=True)
    return [torch.cat(part).numpy()[position] for part in parts]
