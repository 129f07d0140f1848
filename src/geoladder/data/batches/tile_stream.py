"""Batches of random crops read straight from an archive's tiles: a pure function of (spec, step), as those of chips.

Unusual: a sample's worker is decided by its position in the stream (`stream_order`) and not by who is free, so any
number of ranks and workers gives the same batches. Workers send DN, a quarter of the bytes of float32; reflectance is
made where the batch is.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from geoladder.data.batches.batch import Assembler, PretrainBatch, Samples, check_shared, step_masks
from geoladder.data.batches.squares import expected_union_px
from geoladder.data.batches.stats import BandStats
from geoladder.data.batches.stream_order import StreamOrder, positions_of
from geoladder.data.batches.tile_reader import TileReader, open_tiles
from geoladder.errors import GeoladderError
from geoladder.registry.target import Places
from geoladder.study.specs import PretrainSpec

log = logging.getLogger(__name__)


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
