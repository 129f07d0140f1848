"""Batches of random crops read straight from an archive's tiles: a pure function of (spec, step), as those of chips.

Unusual: a sample's worker is decided by its position in the stream (`order`) and not by who is free, so any number
of ranks and workers gives the same batches. Each tile is read once, its crops kept till used. A tile that cannot be
read, or has no valid crop, is replaced by the next one that has, always by the same: a run of days must not end at
one bad row, nor may samples be missing. Workers send DN, a quarter of the bytes of float32; reflectance is made
where the batch is.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from geoladder.data.archives.sources import open_archive
from geoladder.data.archives.tile import Tile, UnreadableTileError
from geoladder.data.batches.batch import (
    Assembler,
    BandStats,
    PretrainBatch,
    Samples,
    check_shared,
    step_masks,
)
from geoladder.data.batches.chip_store import Columns
from geoladder.data.batches.order import StreamOrder, positions_of
from geoladder.data.batches.squares import Crops, expected_union_px, take_crops
from geoladder.errors import GeoladderError
from geoladder.registry.target import Places
from geoladder.study.specs import PretrainSpec, TileReading

log = logging.getLogger(__name__)

MAX_SUBSTITUTES = 32
"""So many unusable tiles in a row are no accident: the archive is broken, or the wrong one."""


@dataclass(frozen=True)
class TileIndex:
    """Training tiles in the archive's order, by part and then by row: 2.25 million of them take some 30 MB.

    Coordinates are not kept: a crop's place follows from its tile's own georeference.
    """

    parts: list[str]
    """Names of all parts."""
    part: np.ndarray
    """(N,) int32 positions in `parts`."""
    row: np.ndarray
    """(N,) int32 row in the part."""
    offset_dn: np.ndarray
    """(N,) int16, to subtract from valid pixels."""

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.part)


def open_tiles(index: Path, corpus: str, fraction: Fraction, seed: int) -> TileIndex:
    """Training tiles of an index in the nested fraction of its grid cells that `seed` draws.

    Raises:
        GeoladderError: the index cannot be read, or no tile is left.
    """
    columns = Columns(index)
    try:
        rows, cells = columns.training_rows(fraction, seed)
        part = columns.codes("part")
        row, offset_dn = (columns.column(name)[rows] for name in ("row", "offset_dn"))
    except (OSError, pa.ArrowException, KeyError) as problem:
        raise GeoladderError(
            f"{index} is no index of tiles ({problem}); write it with `geoladder index`"
        ) from None
    if not rows.size:
        raise GeoladderError(
            f"{corpus}@{fraction} has no training tile: 0 of {cells} grid cells in {index} are in "
            f"the fraction at seed {seed}; take a larger fraction or more tiles"
        )
    rank = np.argsort(np.argsort(np.array(part.values, dtype=object))).astype(np.int32)
    parts = rank[part.codes[rows]]
    order = np.lexsort((row, parts))
    return TileIndex(
        sorted(part.values), parts[order], row[order].astype(np.int32), offset_dn[order].astype(np.int16)
    )


class TileReader:
    """Reads tiles once each, and keeps their crops until as many other tiles were wanted."""

    def __init__(
        self, archive: Path, tiles: TileIndex, reading: TileReading, seed: int, side_px: int, capacity: int
    ) -> None:
        """Open the archive; `capacity` is the number of tiles whose crops are kept."""
        self._archive, self._tiles, self._reading = open_archive(archive, reading.layout), tiles, reading
        self._seed, self._side_px, self._capacity = seed, side_px, capacity
        self._crops: OrderedDict[tuple[int, int], tuple[Crops, int]] = OrderedDict()

    def read(self, epoch: np.ndarray, tile: np.ndarray, crop: np.ndarray) -> Samples:
        """Crops (N,) of tiles (N,) in epochs (N,), N > 0.

        Raises:
            GeoladderError: too many unusable tiles in a row.
        """
        rows = []
        for one_epoch, one_tile, one_crop in zip(epoch.tolist(), tile.tolist(), crop.tolist(), strict=True):
            crops, offset_dn = self._crops_of(one_epoch, one_tile)
            rows.append((*(part[one_crop] for part in crops), offset_dn))
        dn10, dn20, lat_deg, lon_deg, koppen, offsets = map(np.array, zip(*rows, strict=True))
        return Samples(dn10, dn20, offsets, Places(lat_deg, lon_deg, koppen.astype(np.int64)))

    def any_side_px(self) -> int:
        """Side of the first readable tile, 10 m pixels."""
        for number in range(min(MAX_SUBSTITUTES, len(self._tiles))):
            try:
                return int(self._tile(number).dn10.shape[-1])
            except UnreadableTileError as problem:
                log.warning("passed over %s", problem)
        raise GeoladderError(
            f"none of the first {MAX_SUBSTITUTES} training tiles can be read; fetch them again"
        )

    def _tile(self, number: int) -> Tile:
        return self._archive.read(self._tiles.parts[self._tiles.part[number]], int(self._tiles.row[number]))

    def _crops_of(self, epoch: int, tile: int) -> tuple[Crops, int]:
        """Crops of a tile in an epoch, and the tile's offset; moves the tile to the end of those to be forgotten."""
        key = epoch, tile
        if key not in self._crops:
            self._crops[key] = self._take(epoch, tile)
            if len(self._crops) > self._capacity:
                self._crops.popitem(last=False)
        self._crops.move_to_end(key)
        return self._crops[key]

    def _take(self, epoch: int, tile: int) -> tuple[Crops, int]:
        """Crops of a tile and its offset, or of the next usable tile after it."""
        tiles, reading = self._tiles, self._reading
        for further in range(min(MAX_SUBSTITUTES, len(tiles))):
            number = (tile + further) % len(tiles)
            where = f"{tiles.parts[tiles.part[number]]} row {tiles.row[number]}"
            try:
                image = self._tile(number)
            except UnreadableTileError as problem:
                log.warning("the next tile is read instead: %s", problem)
                continue
            rng = np.random.default_rng([self._seed, epoch, tile])
            crops = take_crops(
                image,
                self._side_px,
                reading.crops_per_tile,
                reading.max_cloud_share,
                rng,
                reading.koppen_raster,
            )
            if crops is not None:
                return crops, int(tiles.offset_dn[number])
            log.info("the next tile is read instead: no valid crop in %s", where)
        raise GeoladderError(
            f"of {min(MAX_SUBSTITUTES, len(tiles))} training tiles in a row, from {where} backwards, none "
            f"gives a crop of {self._side_px} px that is valid and at most {reading.max_cloud_share:.0%} cloudy; "
            "check the archive with `geoladder inspect`, or loosen cleaning.chip_max_cloud_share"
        )


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
        """Open the index.

        Args:
            spec: the run, with `tiles`.
            archive: MajorTOM folder.
            index: its index.parquet.
            stats: band statistics.
            side_px: of a crop, that of the validation chips.
            workers: processes that read, of each rank; 0 reads in this one. Changes no batch.

        Raises:
            GeoladderError: no training tile, archive or index is missing, or the spec reads chips.
        """
        if spec.tiles is None or archive is None or index is None:
            raise GeoladderError(
                "to read tiles, a run needs pretrain.read: tiles in the study, and --archive and --index"
            )
        self._reading = spec.tiles
        self._spec, self._workers, self.side_px = spec, workers, side_px
        self._assembler = Assembler(spec, stats)
        self._tiles = open_tiles(index, spec.corpus, spec.fraction, spec.seed)
        self._archive = archive
        reading = self._reading
        self._order = StreamOrder(len(self._tiles), reading.crops_per_tile, spec.seed, reading.shuffle_window)

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self._tiles)

    def batches(self, first_step: int, rank: int = 0, ranks: int = 1) -> Iterator[PretrainBatch]:
        """Endless batches from `first_step` on; of several ranks, each gets its slice of the same global batch.

        Raises:
            GeoladderError: the ranks cannot share a batch evenly, or too many tiles are unusable.
        """
        spec, workers = self._spec, max(self._workers, 1)
        check_shared(spec.batch, ranks)  # before workers start
        reads = self._order.reads_per_tile(ranks * workers)
        if reads > 1:
            log.warning(
                "%d ranks with %d workers each read every tile %d times; let ranks x workers divide %d",
                *(ranks, workers, reads, self._order.lanes),
            )
        stream = TileStream(self, first_step, rank, ranks)
        pieces = iter(DataLoader(stream, batch_size=None, num_workers=self._workers, collate_fn=_to_tensors))
        step = first_step
        while True:
            positions = positions_of(step, spec.batch, rank, ranks)
            samples = _join([next(pieces) for _ in range(workers)], positions // ranks % workers)
            mask = step_masks(spec, self.side_px, step)[rank::ranks]
            yield self._assembler.assemble(samples, mask)
            step += 1

    def facts(self, samples: int) -> dict[str, Any]:
        """What a run of so many samples has seen: unique pixels are an expectation, not a count.

        Every crop is a new draw, so `unique_chips` is the number of samples.
        """
        side_px = self.reader(1).any_side_px()
        epochs, rest = divmod(samples, self._order.samples)
        per_epoch = self._reading.crops_per_tile
        begun = rest / per_epoch
        unique = (len(self) - begun) * expected_union_px(side_px, self.side_px, epochs * per_epoch)
        unique += begun * expected_union_px(side_px, self.side_px, (epochs + 1) * per_epoch)
        return {
            "unique_chips": samples,
            "unique_pixels": round(unique),
            "unique_pixels_are": "expected union of uniform crops of clear tiles, by formula",
            "unique_tiles": len(self) if epochs else min(len(self), round(begun)),
            "coverage": unique / (len(self) * side_px**2),
        }

    def reader(self, readers: int) -> TileReader:
        """Reader for one of so many equal workers."""
        return TileReader(
            self._archive,
            self._tiles,
            self._reading,
            self._spec.seed,
            self.side_px,
            self._order.tiles_held(readers),
        )

    def samples_of(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Epoch, tile and crop at positions of the stream."""
        return self._order.at(positions)

    @property
    def batch(self) -> int:
        """Samples per step, over all ranks."""
        return self._spec.batch


class TileStream(IterableDataset):
    """This worker's share of one rank's steps; a `GeoladderError` is yielded, to be raised by the reader."""

    def __init__(self, crops: TileCrops, first_step: int, rank: int, ranks: int) -> None:
        """Begin at a step."""
        self._crops, self._first_step, self._rank, self._ranks = crops, first_step, rank, ranks

    def __iter__(self) -> Iterator[Samples | GeoladderError | None]:
        """Samples of one step after another, endless; None for a step in which this worker has none."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        reader = self._crops.reader(self._ranks * workers)
        step = self._first_step
        while True:
            mine = positions_of(step, self._crops.batch, self._rank, self._ranks, worker, workers)
            try:
                yield reader.read(*self._crops.samples_of(mine)) if mine.size else None
            except GeoladderError as problem:
                yield GeoladderError(str(problem))
                return
            step += 1


def _to_tensors(piece: Any) -> Any:  # noqa: ANN401 - DataLoader types it as a list
    """Tensors travel from workers in shared memory, arrays through a pipe."""
    if not isinstance(piece, Samples):
        return piece
    return [torch.from_numpy(part) for part in (*piece[:3], *piece.places)]


def _join(pieces: list[Any], worker: np.ndarray) -> Samples:
    """Samples of all workers, each at the places that `worker` (N,) names it for; raises a worker's error."""
    for piece in pieces:
        if isinstance(piece, GeoladderError):
            raise piece
    # Where each sample lies in the pieces put one after another.
    position = np.argsort(np.argsort(worker, kind="stable"))
    parts = zip(*(piece for piece in pieces if piece is not None), strict=True)
    dn10, dn20, offset_dn, *places = (torch.cat(part).numpy()[position] for part in parts)
    return Samples(dn10, dn20, offset_dn, Places(*places))
