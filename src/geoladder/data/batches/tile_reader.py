"""Reads tiles once, and holds the crops taken from each until they were used.

Unusual: a tile that cannot be read, or has no valid crop, is replaced by the next one that has, always by the same:
a run of days must not end at one bad row, nor may samples be missing.
"""

import logging
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geoladder.data.archives.sources import open_archive
from geoladder.data.archives.tile import UnreadableTileError
from geoladder.data.batches.crops import Crops, take_crops
from geoladder.data.batches.shards import chip_shapes
from geoladder.data.batches.tile_index import TileIndex
from geoladder.errors import GeoladderError
from geoladder.study.specs import TileReading

log = logging.getLogger(__name__)

MAX_SUBSTITUTES = 32
"""So many unusable tiles in a row are no accident: the archive is broken, or the wrong one."""


class Piece(NamedTuple):
    """What one worker adds to one step: N crops in the order of their positions."""

    dn10: np.ndarray
    """(N, 4, P, P) uint16."""
    dn20: np.ndarray
    """(N, 6, P/2, P/2) uint16."""
    offset_dn: np.ndarray
    """(N,) int64."""
    places_deg: np.ndarray
    """(N, 2) float64 latitude and longitude of the crops' centres."""
    climate: np.ndarray
    """(N,) int64 Köppen-Geiger class."""


def empty_piece(crops: int, side_px: int) -> Piece:
    """Arrays for so many crops, to be filled."""
    fine, coarse = chip_shapes(side_px)
    return Piece(
        np.empty((crops, *fine), np.uint16),
        np.empty((crops, *coarse), np.uint16),
        np.empty(crops, np.int64),
        np.empty((crops, 2)),
        np.empty(crops, np.int64),
    )


class TileReader:
    """Reads tiles once each, and holds their crops until as many other tiles were asked for."""

    def __init__(
        self, archive: Path, tiles: TileIndex, reading: TileReading, seed: int, side_px: int, held: int
    ) -> None:
        """Open the archive; `held` is the number of tiles whose crops are kept."""
        self._archive, self._tiles, self._reading = open_archive(archive, reading.layout), tiles, reading
        self._seed, self._side_px, self._capacity = seed, side_px, held
        self._held: OrderedDict[tuple[int, int], tuple[Crops, int]] = OrderedDict()
        self.tiles_read = 0

    def piece(self, epoch: np.ndarray, tile: np.ndarray, crop: np.ndarray) -> Piece:
        """Crops (N,) of tiles (N,) in epochs (N,).

        Raises:
            GeoladderError: too many unusable tiles in a row.
        """
        piece = empty_piece(len(tile), self._side_px)
        for place, (one_epoch, one_tile, one_crop) in enumerate(
            zip(epoch.tolist(), tile.tolist(), crop.tolist(), strict=True)
        ):
            crops, offset_dn = self._crops_of(one_epoch, one_tile)
            piece.dn10[place], piece.dn20[place] = crops.dn10[one_crop], crops.dn20[one_crop]
            piece.offset_dn[place], piece.climate[place] = offset_dn, crops.koppen[one_crop]
            piece.places_deg[place] = crops.lat_deg[one_crop], crops.lon_deg[one_crop]
        return piece

    def any_side_px(self) -> int:
        """Side of the first readable tile, 10 m pixels."""
        for number in range(min(MAX_SUBSTITUTES, len(self._tiles))):
            try:
                tile = self._archive.read(
                    self._tiles.parts[self._tiles.part[number]], int(self._tiles.row[number])
                )
                return int(tile.dn10.shape[-1])
            except UnreadableTileError as problem:
                log.warning("passed over %s", problem)
        raise GeoladderError(
            f"none of the first {MAX_SUBSTITUTES} training tiles can be read; fetch them again"
        )

    def _crops_of(self, epoch: int, tile: int) -> tuple[Crops, int]:
        """Crops of a tile in an epoch, and the tile's offset; moves the tile to the end of those to be forgotten."""
        key = epoch, tile
        if key not in self._held:
            self._held[key] = self._read(epoch, tile)
            if len(self._held) > self._capacity:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]

    def _read(self, epoch: int, tile: int) -> tuple[Crops, int]:
        """Read a tile, or the next usable one after it."""
        tiles, reading = self._tiles, self._reading
        for further in range(min(MAX_SUBSTITUTES, len(tiles))):
            number = (tile + further) % len(tiles)
            part, row = tiles.parts[tiles.part[number]], int(tiles.row[number])
            self.tiles_read += 1
            try:
                image = self._archive.read(part, row)
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
            log.info("the next tile is read instead: no valid crop in %s row %d", part, row)
        raise GeoladderError(
            f"of {min(MAX_SUBSTITUTES, len(tiles))} training tiles in a row, from {part} row {row} backwards, none "
            f"gives a crop of {self._side_px} px that is valid and at most {reading.max_cloud_share:.0%} cloudy; "
            "check the archive with `geoladder inspect`, or loosen cleaning.chip_max_cloud_share"
        )
