"""Batches of random crops read straight from an archive's tiles: a pure function of (spec, step), as those of chips.

Unusual: a sample's worker is decided by its position in the stream (`stream_order`) and not by who is
free, so any number of ranks and workers gives the same batches. Workers send DN, a quarter of the bytes of float32;
reflectance is made where the batch is.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from geoladder.data.batches.batch import PretrainBatch
from geoladder.data.batches.crops import expected_union_px
from geoladder.data.batches.stats import BandStats
from geoladder.data.batches.stream import CLIP_SIGMA, step_masks
from geoladder.data.batches.stream_order import StreamOrder, positions_of
from geoladder.data.batches.tile_index import open_tiles
from geoladder.data.batches.tile_reader import Piece, TileReader, empty_piece
from geoladder.data.labels.bands import to_reflectance
from geoladder.data.labels.label_rasters import label_classes
from geoladder.data.labels.targets import geo_encoding
from geoladder.errors import GeoladderError
from geoladder.study.specs import PretrainSpec

log = logging.getLogger(__name__)


class TileCrops:
    """An archive's training tiles as an endless supply of crops. Opens no image before one is asked for.

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
        self._spec, self._stats, self._workers, self.side_px = spec, stats, workers, side_px
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
        positions_of(
            first_step, spec.batch, rank, ranks
        )  # refuses ranks that cannot share, before workers start
        again = self._order.reads_per_tile(ranks * workers)
        if again > 1:
            log.warning(
                "%d ranks with %d workers each read every tile %d times; let ranks x workers divide %d",
                *(ranks, workers, again, self._order.lanes),
            )
        stream = TileStream(self, first_step, rank, ranks)
        pieces = iter(DataLoader(stream, batch_size=None, num_workers=self._workers, collate_fn=_to_tensors))
        whole = empty_piece(spec.batch // ranks, self.side_px)
        step = first_step
        while True:
            own = positions_of(step, spec.batch, rank, ranks)
            for worker in range(workers):
                piece = next(pieces)
                if isinstance(piece, GeoladderError):
                    raise piece
                mine = own // ranks % workers == worker
                for held, part in zip(whole, piece, strict=True):
                    held[mine] = part.numpy()
            mask = step_masks(spec, self.side_px, step)[rank::ranks]
            pixels = self._stats.standardise(
                to_reflectance(whole.dn10, whole.dn20, whole.offset_dn), spec.transform
            )
            yield PretrainBatch(
                pixels.clamp_(-CLIP_SIGMA, CLIP_SIGMA),
                mask,
                torch.from_numpy(geo_encoding(*whole.places_deg.T)),
                torch.from_numpy(whole.climate.copy()),
                torch.from_numpy(label_classes(spec.objective.labels, *whole.places_deg.T)),
            )
            step += 1

    def facts(self, samples: int) -> dict[str, Any]:
        """What a run of so many samples has seen: unique pixels are an expectation, not a count.

        Every crop is a new draw, so `unique_chips` is the number of samples.
        """
        side_px = self.reader(1).any_side_px()
        epochs, rest = divmod(samples, self._order.samples)
        begun = rest / self._reading.crops_per_tile
        per_epoch = self._reading.crops_per_tile
        unique = (len(self) - begun) * expected_union_px(side_px, self.side_px, epochs * per_epoch)
        unique += begun * expected_union_px(side_px, self.side_px, (epochs + 1) * per_epoch)
        return {
            "unique_chips": samples,
            "unique_pixels": round(unique),
            "unique_pixels_are": "expected union of uniform crops of clear tiles, by formula",
            "unique_tiles": len(self) if epochs else min(len(self), round(begun)),
            "coverage": unique / (len(self) * side_px**2),
        }

    def reader(self, readers: int) -> "TileReader":
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
    """Pieces of one rank's steps, those of this worker; a `GeoladderError` is yielded, to be raised by the reader."""

    def __init__(self, crops: TileCrops, first_step: int, rank: int, ranks: int) -> None:
        """Begin at a step."""
        self._crops, self._first_step, self._rank, self._ranks = crops, first_step, rank, ranks

    def __iter__(self) -> Iterator[Piece | GeoladderError]:
        """One piece a step, endless."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        reader = self._crops.reader(self._ranks * workers)
        step = self._first_step
        while True:
            own = positions_of(step, self._crops.batch, self._rank, self._ranks, worker, workers)
            try:
                yield reader.piece(*self._crops.samples_of(own))
            except GeoladderError as problem:
                yield GeoladderError(str(problem))
                return
            step += 1


def _to_tensors(piece: Any) -> Any:  # noqa: ANN401 - a Piece or a GeoladderError; DataLoader types it as a list
    """Tensors travel from workers in shared memory, arrays through a pipe."""
    return piece if isinstance(piece, GeoladderError) else [torch.from_numpy(part) for part in piece]
