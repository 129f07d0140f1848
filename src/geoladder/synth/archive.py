"""Writes a synthetic archive in the exact layout of MajorTOM Core-S2L2A.

Each finished tile is kept as a one-row parquet file in a hidden folder until all are there, so a killed run goes on
where it stopped; then they are put together, in an order and with bytes that do not depend on the interruption.
`metadata.parquet` comes last: an archive without it is unfinished.

On disk: `images/part_00001.parquet` ... (one row per row group; product_id, grid_cell, timestamp, thumbnail, twelve
bands and cloud_mask as GeoTIFF bytes) and `metadata.parquet`.
"""

import hashlib
import io
import json
import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from geoladder.data.archives import grid
from geoladder.data.archives.fasttom import best_quadrant
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path
from geoladder.study.corpora import Corpus, Earth
from geoladder.synth.earth import stream
from geoladder.synth.encode import digital_numbers, geotiff, offset_dn
from geoladder.synth.pool import run_all
from geoladder.synth.rows import Row, acquisition, mgrs_tile, plan_rows, product_id
from geoladder.synth.scene import Scene, render

log = logging.getLogger(__name__)
ROWS_PER_PART = 200  # real parts have 500
PIXEL_M = 10
WATER_CODE = 80
ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
IMAGE_SCHEMA = pa.schema(
    [
        ("product_id", pa.string()),
        ("grid_cell", pa.string()),
        ("timestamp", pa.string()),
        ("thumbnail", pa.binary()),
    ]
    + [(band, pa.binary()) for band in (*ORDER, "cloud_mask")]
)
METADATA_SCHEMA = pa.schema(
    [("grid_cell", pa.string()), ("grid_row_u", pa.int64()), ("grid_col_r", pa.int64()), ("product_id", pa.string()),
     ("timestamp", pa.string()), ("cloud_cover", pa.float64()), ("nodata", pa.float64()),
     ("centre_lat", pa.float64()),
     ("centre_lon", pa.float64()), ("crs", pa.string()), ("parquet_url", pa.string()), ("parquet_row", pa.int64())]
)  # fmt: skip


@dataclass(frozen=True)
class _Task:
    """What a worker needs to make one tile."""

    earth: Earth
    row: Row
    path: Path


def write_archive(out_dir: Path, earth: Earth, corpus: Corpus, processes: int) -> None:
    """Write a synthetic MajorTOM archive; does nothing to one that is complete but for writing it anew.

    Args:
        out_dir: folder of the archive.
        earth: the synthetic Earth, and the side of its tiles; multiples of 12 px suit 60 m bands of quadrants.
        corpus: how many tiles, the seed that draws cells and dates, and what they are like: `majortom` (all Earth,
            one date a cell, some cells twice), `fasttom` (land, clearest quadrant of a tile) or `globe` (few cells,
            four seasons of 2022).
        processes: tiles made at the same time.

    Raises:
        GeoladderError: too few tiles.
    """
    rows = plan_rows(earth, corpus.like, corpus.tiles, corpus.seed)
    cache = out_dir / ".tiles"
    tasks = [
        _Task(earth, row, cache / f"{_key(earth, row, index)}.parquet") for index, row in enumerate(rows)
    ]
    missing = [task for task in tasks if not task.path.exists()]
    log.info("%s: %d tiles of %d px, %d to render", out_dir, len(rows), earth.tile_px, len(missing))
    run_all(make_tile, missing, processes, f"tiles like {corpus.like}")
    _assemble(out_dir, [task.path for task in tasks])
    shutil.rmtree(cache)


def _key(earth: Earth, row: Row, index: int) -> str:
    """Name of a cached tile: changes with whatever changes the tile."""
    return f"{index:06d}-{row.cells[0]}-{hashlib.sha256(repr((earth, row)).encode()).hexdigest()[:16]}"


def make_tile(task: _Task) -> None:
    """Render one row and write it, with its metadata, as a one-row parquet file."""
    scene, corner = _scene(task)
    row, place = task.row, scene.place
    epsg, left, bottom, size = grid.footprint(place.cell)
    margin = (size - task.earth.tile_px * PIXEL_M) / 2
    left += margin + corner[1] * PIXEL_M
    top = bottom + size - margin - corner[0] * PIXEL_M
    width = scene.cloud_mask.shape[0] * PIXEL_M
    centre = grid.to_lat_lon(epsg, left + width / 2, top - width / 2)
    time = acquisition(place, scene.date, place.cell)
    tile = mgrs_tile(epsg, left + width / 2, top - width / 2, centre[0])
    product = product_id(place, time, row.baseline, tile)
    valid = _valid(row, scene)
    pixels = digital_numbers(scene.reflectance, offset_dn(row.baseline), valid)
    image = {
        "product_id": product,
        "grid_cell": place.cell,
        "timestamp": str(time),
        "thumbnail": _thumbnail(scene, valid),
        **{band: geotiff(pixels[band], epsg, left, top, width) for band in ORDER},
        "cloud_mask": geotiff(np.where(valid, scene.cloud_mask, 0).astype(np.uint8), epsg, left, top, width),
    }
    named = _neighbour(place.cell) if row.wrong_cell else place.cell
    grid_row, grid_column = grid.row_column(named)
    metadata = {
        "grid_cell": named,
        "grid_row_u": grid_row,
        "grid_col_r": grid_column,
        "product_id": product,
        "timestamp": str(time),
        "cloud_cover": round(100 * float(np.isin(scene.cloud_mask, (1, 2)).mean()), 3),
        "nodata": float(1 - valid.mean()),
        "centre_lat": centre[0],
        "centre_lon": centre[1],
        "crs": f"EPSG:{'EPSG:' if row.crs_typo else ''}{epsg}",
    }
    table = pa.Table.from_pylist([image], schema=IMAGE_SCHEMA)
    table = table.replace_schema_metadata({"row": json.dumps(metadata)})
    with atomic_path(task.path) as temporary:
        pq.write_table(table, temporary, compression="none")


def _scene(task: _Task) -> tuple[Scene, tuple[int, int]]:
    """Render the row's tile; for FastTOM the chosen quadrant of the first candidate that has one."""
    row = task.row
    for cell, date in zip(row.cells, row.dates, strict=True):
        scene = render(task.earth, cell, date, task.earth.tile_px)
        if not row.quadrant:
            return scene, (0, 0)
        side = task.earth.tile_px // 2
        corner = best_quadrant(scene.cloud_mask, side, scene.landcover == WATER_CODE)
        if corner:
            part = (slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side))
            arrays = (scene.landcover, scene.roads, scene.buildings, scene.cloud_mask)
            return Scene(
                scene.place, date, scene.reflectance[:, *part], *(array[part] for array in arrays)
            ), corner
    raise GeoladderError(
        f"none of {len(row.cells)} candidate cells has a clear, dry quadrant ({', '.join(row.cells)})"
    )


def _valid(row: Row, scene: Scene) -> np.ndarray:
    """Which pixels hold data, (H, W) bool: all, none, or one side of a swath edge."""
    side = len(scene.cloud_mask)
    if row.wart != "swath edge":
        return np.full((side, side), row.wart != "empty")
    axis = np.linspace(0, 1, side)
    rng = stream(scene.place.cell, scene.date, "swath")
    return axis[None, :] + 0.2 * axis[:, None] > rng.uniform(0.15, 0.9)


def _thumbnail(scene: Scene, valid: np.ndarray) -> bytes:
    """True-colour JPEG."""
    colour = (scene.reflectance[[2, 1, 0]] * 3.0).clip(0, 1) * valid
    stream_ = io.BytesIO()
    Image.fromarray((255 * colour.transpose(1, 2, 0) ** 0.8).astype(np.uint8)).save(
        stream_, "JPEG", quality=85
    )
    return stream_.getvalue()


def _neighbour(cell: str) -> str:
    lat, lon = grid.centre_of(cell)
    return grid.cell_of(lat + (grid.ROW_DEG if lat < 0 else -grid.ROW_DEG), lon)


def _assemble(out_dir: Path, paths: list[Path]) -> None:
    """Put cached tiles together: parts of one row per row group, then the metadata."""
    (out_dir / "metadata.parquet").unlink(missing_ok=True)
    records = []
    for part in range(math.ceil(len(paths) / ROWS_PER_PART)):
        name = f"images/part_{part + 1:05d}.parquet"
        with (
            atomic_path(out_dir / name) as temporary,
            pq.ParquetWriter(temporary, IMAGE_SCHEMA, compression="none") as part_,
        ):
            for position, path in enumerate(paths[part * ROWS_PER_PART : (part + 1) * ROWS_PER_PART]):
                table = pq.read_table(path)
                record = json.loads(table.schema.metadata[b"row"])
                records.append(record | {"parquet_url": name, "parquet_row": position})
                part_.write_table(table.replace_schema_metadata(None))
    with atomic_path(out_dir / "metadata.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(records, schema=METADATA_SCHEMA), temporary)
