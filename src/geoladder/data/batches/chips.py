"""Chips: tiles cut into squares once, kept as DN at native resolution.

Unusual: nothing is resampled or converted, so chips are bit-exact copies of the archive. One pixel of nodata in one
band rules a square out, so whoever reads chips needs no validity mask. Shards are written first and the manifest
last, so a manifest means that all its chips are there. An interrupted cutting goes on after its last finished shard,
and groups of parts can be cut by jobs of their own.
"""

import hashlib
import logging
import shutil
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rasterio.warp import transform as reproject

from geoladder.data.archives.sources import open_archive
from geoladder.data.archives.tile import (
    CLOUDY,
    Tile,
    TileSource,
    UnreadableTileError,
    UnwantedTileError,
    climate_of,
    ground_m,
)
from geoladder.data.batches.shards import Dropped, Group, ShardWriter, State, remove_other_shards
from geoladder.data.labels.bands import BOA_OFFSET_DN
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path
from geoladder.runs.digest import intact
from geoladder.study.specs import ChipsSpec

log = logging.getLogger(__name__)

TILE_KINDS = dict.fromkeys(("part", "grid_cell", "product_id", "split"), "string") | {
    **dict.fromkeys(("row", "epsg", "offset_dn"), "integer"),
    "timestamp": "datetime64",
}
"""What columns of an index of tiles hold, as pandas infers it."""


def write_chips(spec: ChipsSpec, archive: Path, index: Path, out: Path) -> None:
    """Cut every tile of an index into chips.

    Writes `out`/10m-00000.npy (n, 4, P, P) and 20m-00000.npy (n, 6, P/2, P/2), uint16 DN, ... of at most 256 MB
    together (or chips-00000.b2frame, ... of about 256 MB), dropped.csv (unit, reason, count, first), and last
    manifest.parquet: chip, shard, slot, grid_cell, product_id, split, lat_deg, lon_deg (chip centre), day_of_year,
    koppen, offset_dn, cloud_share.

    Goes on with an interrupted attempt of the same spec and index in `out`, and removes any other.

    Raises:
        GeoladderError: more unreadable tiles than `max_corrupt_share`, no chip left, or a shard cannot be written.
    """
    write_group(spec, archive, index, out, Group())
    merge_chips(spec, archive, index, out, groups=1)


def write_group(spec: ChipsSpec, archive: Path, index: Path, out: Path, group: Group) -> None:
    """Cut the tiles of one group of parts; `merge_chips` makes the manifest when all groups are done.

    Raises:
        GeoladderError: as `write_chips`, but for "no chip left".
    """
    listed = _listed(spec, index)
    tiles = group.tiles(listed)
    dropped = Dropped(len(listed), spec.max_corrupt_share, archive)
    writer = ShardWriter(out, spec, group, _key(spec, listed, group), dropped)
    if writer.state.done:
        return
    reader = open_archive(archive, spec.layout)
    first = writer.state.next_tile
    for number, row in enumerate(tiles[first:].to_dict("records"), first):
        where = f"{row['part']} row {row['row']} ({row['grid_cell']})"
        tile = _read_tile(reader, row, where, dropped)
        if tile is None:
            continue
        chips = cut(tile, spec.chip_px, spec.chip_max_cloud_share)
        if len(chips.dn10):
            writer.add(number, chips.dn10, chips.dn20, _describe(row, tile, chips, spec.koppen_raster))
        # Counted after the chips are stored: a shard that ends within a tile must not count the tile's losses.
        for reason, count in chips.dropped.items():
            dropped.drop("chip", reason, count, where)
    writer.seal(len(tiles), done=True)
    log.info("%s: %d tiles cut; dropped: %s", out, len(tiles), dropped)


def merge_chips(spec: ChipsSpec, archive: Path, index: Path, out: Path, groups: int) -> None:
    """Make the manifest of the chips of all groups, and remove what belongs to none of them.

    Raises:
        GeoladderError: a group is not done or was cut from something else, too many unreadable tiles in all, or no
            chip is left.
    """
    listed = _listed(spec, index)
    dropped = Dropped(len(listed), spec.max_corrupt_share, archive)
    pieces: list[Path] = []
    for group in (Group(number, groups) for number in range(groups)):
        of_group = group.pieces(out)
        state = State.of(of_group, _key(spec, listed, group))
        if state is None or not state.done:
            raise GeoladderError(
                f"group {group.number + 1} of {groups} of {out} is not cut to its end for this index and these "
                f"settings; run `geoladder chips --parts {group.number + 1}/{groups}` and merge again"
            )
        dropped.add(of_group[-1].with_suffix(".csv"))
        pieces += of_group
    dropped.write(out / "dropped.csv")
    dropped.check()
    remove_other_shards(out, pieces, spec.chip_codec)
    chips = _join(pieces, out / "manifest.parquet", spec.pixels)
    if not chips:
        raise GeoladderError(
            f"no chip of {spec.chip_px} px left of the {len(listed)} tiles of {index} ({dropped}); "
            "loosen cleaning.chip_max_cloud_share or lower cleaning.chip_px"
        )
    # The newest first: what a kill leaves tells to go on after it, and not that all is there.
    for piece in reversed(pieces):
        piece.unlink()
    shutil.rmtree(out / "pieces")
    log.info("%s: %d tiles, %d chips; dropped: %s", out, len(listed), chips, dropped)


def read_tiles(index: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Some columns of an index of tiles, or all that chips need; GeoladderError where it is none, or damaged."""
    try:
        tiles = pd.read_parquet(intact(index), columns=columns or [*TILE_KINDS])
        for name, column in tiles.items():
            kind, expected = pd.api.types.infer_dtype(column, skipna=False), TILE_KINDS[str(name)]
            if len(tiles) and (kind != expected or column.isna().any()):
                raise ValueError(f"column {name} holds {kind}; {expected} is expected in every row")
        if not tiles.get("offset_dn", pd.Series(dtype=int)).isin((0, BOA_OFFSET_DN)).all():
            raise ValueError(f"offset_dn is neither 0 nor {BOA_OFFSET_DN}")
        return tiles
    except (OSError, ValueError) as problem:
        raise GeoladderError(
            f"{index} is no index of tiles ({problem}); write it with `geoladder index`"
        ) from None


def _listed(spec: ChipsSpec, index: Path) -> pd.DataFrame:
    """The tiles to cut, by part and row."""
    tiles = read_tiles(intact(index, spec.index)).sort_values(["part", "row"])
    return tiles if spec.split is None else tiles[tiles["split"] == spec.split]


def _key(spec: ChipsSpec, listed: pd.DataFrame, group: Group) -> str:
    """Name what is cut and how, so that nothing is joined that does not belong together."""
    tiles = listed[["part", "row", "grid_cell", "product_id", "offset_dn", "split"]]
    digest = hashlib.blake2b(f"{spec.canonical()}{group}".encode(), digest_size=8)
    digest.update(pd.util.hash_pandas_object(tiles, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _join(pieces: list[Path], manifest: Path, pixels: str) -> int:
    """Write the manifest, a row group a piece; return the number of chips. None of them, no manifest."""
    pieces = [piece for piece in pieces if pq.read_metadata(piece).num_rows]
    if not pieces:
        return 0
    schema = pa.schema([("chip", pa.int64()), *pq.read_schema(pieces[0]).remove_metadata()])
    first = 0
    with atomic_path(manifest, pixels) as path, pq.ParquetWriter(path, schema) as writer:
        for piece in pieces:
            table = pq.read_table(piece).replace_schema_metadata(None)
            numbers = pa.array(np.arange(first, first + len(table), dtype=np.int64))
            writer.write_table(table.add_column(0, "chip", numbers).cast(schema))
            first += len(table)
    return first


def _read_tile(reader: TileSource, row: dict[Hashable, Any], where: str, dropped: Dropped) -> Tile | None:
    try:
        tile = reader.read(row["part"], row["row"])
    except UnwantedTileError as problem:
        dropped.drop("tile", problem.reason, 1, where)
        return None
    except UnreadableTileError as problem:
        dropped.drop_unreadable(where, str(problem))
        return None
    if (tile.grid_cell, tile.product_id, tile.epsg) != (row["grid_cell"], row["product_id"], row["epsg"]):
        dropped.drop("tile", "metadata mismatch", 1, where)
        return None
    return tile


class CutTile(NamedTuple):
    """The chips of one tile that are worth keeping."""

    dn10: np.ndarray
    """(K, 4, P, P) uint16."""
    dn20: np.ndarray
    """(K, 6, P/2, P/2) uint16."""
    easting_m: np.ndarray
    """(K,) of the chip's centre, in the tile's coordinate system."""
    northing_m: np.ndarray
    cloud_share: np.ndarray
    """(K,) of pixels with thick cloud, thin cloud or shadow."""
    dropped: dict[str, int]
    """Chips left out, by reason."""


def cut(tile: Tile, chip_px: int, max_cloud_share: float) -> CutTile:
    """Cut a tile into non-overlapping chips from its upper left corner; what is left at the far sides is unused.

    The side of chips, in 10 m pixels, is even, so that they begin on the 20 m grid. Chips with nodata (DN 0) in any
    band, and those with a larger share (0..1) of cloudy pixels than `max_cloud_share`, are left out.
    """
    dn10, dn20 = _squares(tile.dn10, chip_px), _squares(tile.dn20, chip_px // 2)
    cloudy = _squares(np.isin(tile.cloud_mask, CLOUDY)[None], chip_px).mean(axis=(1, 2, 3))
    nodata = (dn10 == 0).any(axis=(1, 2, 3)) | (dn20 == 0).any(axis=(1, 2, 3))
    cloud = ~nodata & (cloudy > max_cloud_share)
    keep = ~nodata & ~cloud
    down, right = np.divmod(np.flatnonzero(keep), max(tile.dn10.shape[2] // chip_px, 1))
    easting, northing = ground_m(tile.transform, (right + 0.5) * chip_px, (down + 0.5) * chip_px)
    dropped = {"nodata": int(nodata.sum()), "cloud": int(cloud.sum())}
    return CutTile(dn10[keep], dn20[keep], easting, northing, cloudy[keep].astype(np.float32), dropped)


def _squares(image: np.ndarray, side: int) -> np.ndarray:
    """(C, H, W) to (K, C, side, side), row by row of squares."""
    bands, down, right = image.shape[0], image.shape[1] // side, image.shape[2] // side
    blocks = image[:, : down * side, : right * side].reshape(bands, down, side, right, side)
    return blocks.transpose(1, 3, 0, 2, 4).reshape(-1, bands, side, side)


def _describe(
    row: dict[Hashable, Any], tile: Tile, chips: CutTile, koppen_raster: Path | None
) -> pd.DataFrame:
    """Manifest rows of a tile's chips, but for chip, shard and slot."""
    lon_deg, lat_deg = reproject(f"EPSG:{tile.epsg}", "EPSG:4326", chips.easting_m, chips.northing_m)
    return pd.DataFrame(
        {
            "grid_cell": tile.grid_cell,
            "product_id": tile.product_id,
            "split": row["split"],
            "lat_deg": lat_deg,
            "lon_deg": lon_deg,
            "day_of_year": row["timestamp"].day_of_year,
            "koppen": climate_of(tile, lat_deg, lon_deg, koppen_raster),
            "offset_dn": row["offset_dn"],
            "cloud_share": chips.cloud_share,
        }
    )
