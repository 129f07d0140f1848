"""The training tiles of an archive, and the crops taken from them: each tile is read once, its crops kept till used.

Unusual: a tile that cannot be read, or has no valid crop, is replaced by the next one that has, always by the same:
a run of days must not end at one bad row, nor may samples be missing.
"""

import logging
from collections import OrderedDict
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa

from geoladder.data.archives.sources import open_archive
from geoladder.data.archives.tile import Tile, UnreadableTileError
from geoladder.data.batches.batch import Samples
from geoladder.data.batches.chip_store import Columns
from geoladder.data.batches.squares import Crops, take_crops
from geoladder.errors import GeoladderError
from geoladder.registry.target import Places
from geoladder.study.specs import TileReading

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
