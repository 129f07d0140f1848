"""Chips: tiles cut into squares once, kept as DN at native resolution.

Unusual: nothing is resampled or converted, so chips are bit-exact copies of the archive. Shards are written first and
the manifest last, so a manifest means that all its chips are there. An interrupted cutting goes on after its last
finished shard, and groups of parts can be cut by jobs of their own.
"""

import hashlib
import logging
import shutil
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rasterio.warp import transform as reproject

from geoladder.data.archives.sources import open_archive
from geoladder.data.archives.tile import Tile, TileSource, UnreadableTileError, UnwantedTileError, climate_of
from geoladder.data.batches.chip_store import ChipStore, DNBatch
from geoladder.data.batches.chip_writer import MANIFEST_COLUMNS, ChipWriter
from geoladder.data.batches.pieces import Dropped, Group, Pieces
from geoladder.data.batches.shards import all_shard_files, shard_files
from geoladder.data.batches.squares import CutTile, cut
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path
from geoladder.study.specs import ChipsSpec

__all__ = ["MANIFEST_COLUMNS", "ChipStore", "DNBatch", "merge_chips", "write_chips", "write_group"]

log = logging.getLogger(__name__)


def write_chips(spec: ChipsSpec, archive: Path, index: Path, out: Path) -> None:
    """Cut every tile of an index into chips.

    Writes `out`/10m-00000.npy (n, 4, P, P) and 20m-00000.npy (n, 6, P/2, P/2), uint16 DN, ... of at most 256 MB
    together (or chips-00000.b2frame, ... of about 256 MB), dropped.csv (unit, reason, count, first), and last
    manifest.parquet: chip, shard, slot, grid_cell, product_id, split, lat_deg, lon_deg (chip centre), day_of_year,
    koppen, offset_dn, cloud_share.

    Args:
        spec: chip side, limits and file format.
        archive: its folder, laid out as the spec says.
        index: the archive's index.parquet.
        out: folder; goes on with an interrupted attempt of the same spec and index, and removes any other.

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
    writer = ChipWriter(out, spec, group, _key(spec, listed, group), dropped)
    if writer.state.done:
        return
    reader = open_archive(archive, spec.layout)
    for number, row in enumerate(tiles.to_dict("records")):
        if number < writer.state.next_tile:
            continue
        where = f"{row['part']} row {row['row']} ({row['grid_cell']})"
        tile = _read_tile(reader, row, where, dropped)
        if tile is None:
            continue
        chips = cut(tile, spec.chip_px, spec.chip_max_cloud_share)
        writer.add(number, _describe(row, tile, chips, spec.koppen_raster), chips)
        # Counted after the chips are stored: a shard that ends within a tile must not count the tile's losses.
        for reason, count in chips.dropped.items():
            dropped.drop("chip", reason, where, count)
    writer.seal(len(tiles), 0, done=True)
    log.info("%s: %d tiles cut; dropped: %s", out, len(tiles), dropped.summary())


def merge_chips(spec: ChipsSpec, archive: Path, index: Path, out: Path, groups: int) -> None:
    """Make the manifest of the chips of all groups, and remove what belongs to none of them.

    Raises:
        GeoladderError: a group is not done or was cut from something else, too many unreadable tiles in all, or no
            chip is left.
    """
    listed = _listed(spec, index)
    dropped = Dropped(len(listed), spec.max_corrupt_share, archive)
    pieces: list[Path] = []
    for number in range(groups):
        group = Group(number, groups)
        group_pieces = Pieces(out, group)
        newest = group_pieces.newest()
        if newest is None or newest[1].key != _key(spec, listed, group) or not newest[1].done:
            raise GeoladderError(
                f"group {number + 1} of {groups} of {out} is not cut to its end for this index and these settings; "
                f"run `geoladder chips --parts {number + 1}/{groups}` and merge again"
            )
        group_pieces.replay(dropped)
        pieces += group_pieces.paths()
    dropped.write(out / "dropped.csv")
    _check_corrupt(out / "dropped.csv", len(listed), spec, archive)
    _remove_others(out, spec, pieces)
    chips = _join(pieces, out / "manifest.parquet")
    if not chips:
        raise GeoladderError(
            f"no chip of {spec.chip_px} px left of the {len(listed)} tiles of {index} ({dropped.summary()}); "
            "loosen cleaning.chip_max_cloud_share or lower cleaning.chip_px"
        )
    shutil.rmtree(out / "pieces")
    log.info("%s: %d tiles, %d chips; dropped: %s", out, len(listed), chips, dropped.summary())


def _listed(spec: ChipsSpec, index: Path) -> pd.DataFrame:
    """The tiles to cut, by part and row."""
    try:
        tiles = pd.read_parquet(index).sort_values(["part", "row"])
    except (OSError, ValueError) as problem:
        raise GeoladderError(
            f"{index} is no index of tiles ({problem}); write it with `geoladder index`"
        ) from None
    return tiles if spec.split is None else tiles[tiles["split"] == spec.split]


def _key(spec: ChipsSpec, listed: pd.DataFrame, group: Group) -> str:
    """Name what is cut and how, so that nothing is joined that does not belong together."""
    tiles = listed[["part", "row", "grid_cell", "product_id", "offset_dn", "split"]]
    digest = hashlib.blake2b(f"{spec.canonical()}{group}".encode(), digest_size=8)
    digest.update(pd.util.hash_pandas_object(tiles, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _check_corrupt(losses: Path, tiles: int, spec: ChipsSpec, archive: Path) -> None:
    table = pd.read_csv(losses)
    bad = int(table.loc[(table["unit"] == "tile") & (table["reason"] == "unreadable"), "count"].sum())
    if bad > spec.max_corrupt_share * tiles:
        raise GeoladderError(
            f"{bad} of the {tiles} tiles of {archive} cannot be read, more than cleaning.max_corrupt_share = "
            f"{spec.max_corrupt_share}; {losses} names the first, the logs of the groups all of them"
        )


def _remove_others(out: Path, spec: ChipsSpec, pieces: list[Path]) -> None:
    """Remove shards and pieces that are not of this manifest: groups of another scattering."""
    kept = {path for piece in pieces for path in shard_files(out, int(piece.stem), spec.chip_codec)}
    for path in all_shard_files(out):
        if path not in kept:
            path.unlink()


def _join(pieces: list[Path], manifest: Path) -> int:
    """Write the manifest, a row group a piece; return the number of chips. None of them, no manifest."""
    counts = [pq.read_metadata(piece).num_rows for piece in pieces]
    if not sum(counts):
        return 0
    schema = pa.schema(
        [("chip", pa.int64()), *pq.read_schema(pieces[int(np.argmax(counts))]).remove_metadata()]
    )
    first = 0
    with atomic_path(manifest) as path, pq.ParquetWriter(path, schema) as writer:
        for piece, count in zip(pieces, counts, strict=True):
            if count:
                numbers = pa.array(np.arange(first, first + count, dtype=np.int64))
                table = pq.read_table(piece).add_column(0, "chip", numbers)
                writer.write_table(table.replace_schema_metadata(None).cast(schema))
                first += count
    return first


def _read_tile(reader: TileSource, row: dict[Hashable, Any], where: str, dropped: Dropped) -> Tile | None:
    try:
        tile = reader.read(row["part"], row["row"])
    except UnwantedTileError as problem:
        dropped.drop("tile", problem.reason, where)
        return None
    except UnreadableTileError as problem:
        dropped.drop_unreadable(where, str(problem))
        return None
    if (tile.grid_cell, tile.product_id, tile.epsg) != (row["grid_cell"], row["product_id"], row["epsg"]):
        dropped.drop("tile", "metadata mismatch", where)
        return None
    return tile


def _describe(
    row: dict[Hashable, Any], tile: Tile, chips: CutTile, koppen_raster: Path | None
) -> pd.DataFrame:
    """Manifest rows of a tile's chips, but for chip, shard and slot."""
    if not len(chips.dn10):
        return pd.DataFrame()
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
