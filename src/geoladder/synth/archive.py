"""Writes a synthetic archive in the exact layout of MajorTOM Core-S2L2A.

Each finished tile is kept as a one-row parquet file in a hidden folder until all are there, so a killed run goes on
where it stopped; then they are put together, in an order and with bytes that do not depend on the interruption.
`metadata.parquet` comes last: an archive without it is unfinished.

On disk: `images/part_00001.parquet` ... (one row per row group; product_id, grid_cell, timestamp, thumbnail, twelve
bands and cloud_mask as GeoTIFF bytes) and `metadata.parquet`.
"""

import io
import json
import shutil
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
from geoladder.synth.atmosphere import THICK, THIN
from geoladder.synth.earth import stream
from geoladder.synth.encode import digital_numbers, geotiff, offset_dn
from geoladder.synth.pool import make_tiles
from geoladder.synth.rows import Row, acquisition, mgrs_tile, plan_rows, product_id
from geoladder.synth.scene import Scene, render

ROWS_PER_PART = 200  # real parts have 500
PIXEL_M = 10
WATER_CODE = 80


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
    tasks = [(earth, row) for row in plan_rows(earth, corpus.like, corpus.tiles, corpus.seed)]
    paths = make_tiles(make_tile, out_dir / ".tiles", tasks, processes, f"tiles like {corpus.like}")
    (out_dir / "metadata.parquet").unlink(missing_ok=True)
    records = [
        record
        for first in range(0, len(paths), ROWS_PER_PART)
        for record in _write_part(out_dir, first // ROWS_PER_PART + 1, paths[first : first + ROWS_PER_PART])
    ]
    with atomic_path(out_dir / "metadata.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(records), temporary)
    shutil.rmtree(out_dir / ".tiles")


def make_tile(path: Path, earth: Earth, row: Row) -> None:
    """Render one row and write it, with its metadata, as a one-row parquet file."""
    scene, corner = _scene(earth, row)
    place = scene.place
    epsg, left, top = upper_left_m(place.cell, earth.tile_px)
    left += corner[1] * PIXEL_M
    top -= corner[0] * PIXEL_M
    width = len(scene.cloud_mask) * PIXEL_M
    lat, lon = grid.to_lat_lon(epsg, left + width / 2, top - width / 2)
    time = acquisition(place, scene.date)
    tile = mgrs_tile(epsg, left + width / 2, top - width / 2, lat)
    product = product_id(place, time, row.baseline, tile)
    valid = _valid(row, scene)
    layers = digital_numbers(scene.reflectance, offset_dn(row.baseline), valid)
    layers["cloud_mask"] = np.where(valid, scene.cloud_mask, np.uint8(0))
    image = {
        "product_id": product,
        "grid_cell": place.cell,
        "timestamp": str(time),
        "thumbnail": _thumbnail(scene, valid),
    }
    for name, pixels in layers.items():
        image[name] = geotiff(pixels, epsg, left, top, width / len(pixels))
    named = _neighbour(place.cell) if row.wrong_cell else place.cell
    grid_row, grid_column = grid.row_column(named)
    metadata = {
        "grid_cell": named,
        "grid_row_u": grid_row,
        "grid_col_r": grid_column,
        "product_id": product,
        "timestamp": str(time),
        "cloud_cover": round(100 * float(np.isin(scene.cloud_mask, (THICK, THIN)).mean()), 3),
        "nodata": float(1 - valid.mean()),
        "centre_lat": lat,
        "centre_lon": lon,
        "crs": f"EPSG:{'EPSG:' if row.crs_typo else ''}{epsg}",
    }
    table = pa.Table.from_pylist([image]).replace_schema_metadata({"row": json.dumps(metadata)})
    with atomic_path(path, sealed=False) as temporary:
        pq.write_table(table, temporary, compression="none")


def upper_left_m(cell: str, tile_px: int) -> tuple[int, float, float]:
    """Corner of a tile in the middle of the cell's footprint: (epsg of its UTM zone, left_m, top_m)."""
    epsg, left, bottom, size = grid.footprint(cell)
    margin = (size - tile_px * PIXEL_M) / 2
    return epsg, left + margin, bottom + size - margin


def _scene(earth: Earth, row: Row) -> tuple[Scene, tuple[int, int]]:
    """Render the row's tile; for FastTOM the chosen quadrant of the first candidate that has one."""
    for cell, date in row.candidates:
        scene = render(earth, cell, date, earth.tile_px)
        if len(row.candidates) == 1:
            return scene, (0, 0)
        side = earth.tile_px // 2
        corner = best_quadrant(scene.cloud_mask, side, scene.landcover == WATER_CODE)
        if corner:
            rows, columns = (slice(first, first + side) for first in corner)
            _, _, *layers = scene
            quadrant = (layer[..., rows, columns] for layer in layers)
            return Scene(scene.place, date, *quadrant), corner
    raise GeoladderError(
        f"none of {len(row.candidates)} candidate cells has a clear, dry quadrant "
        f"({', '.join(cell for cell, _ in row.candidates)})"
    )


def _valid(row: Row, scene: Scene) -> np.ndarray:
    """Which pixels hold data, (H, W) bool: all, none, or one side of a swath edge."""
    if row.wart != "swath edge":
        return np.full(scene.cloud_mask.shape, row.wart != "empty")
    axis = np.linspace(0, 1, len(scene.cloud_mask))
    rng = stream(scene.place.cell, scene.date, "swath")
    return axis[None, :] + 0.2 * axis[:, None] > rng.uniform(0.15, 0.9)


def _thumbnail(scene: Scene, valid: np.ndarray) -> bytes:
    """True-colour JPEG."""
    colour = (scene.reflectance[[2, 1, 0]] * 3.0).clip(0, 1) * valid
    jpeg = io.BytesIO()
    Image.fromarray((255 * colour.transpose(1, 2, 0) ** 0.8).astype(np.uint8)).save(jpeg, "JPEG", quality=85)
    return jpeg.getvalue()


def _neighbour(cell: str) -> str:
    lat, lon = grid.centre_of(cell)
    return grid.cell_of(lat + (grid.ROW_DEG if lat < 0 else -grid.ROW_DEG), lon)


def _write_part(out_dir: Path, number: int, paths: list[Path]) -> list[dict]:
    """Put cached tiles together, one a row group; return their rows of the metadata."""
    name = f"images/part_{number:05d}.parquet"
    schemas = [pq.read_schema(path) for path in paths]
    with (
        atomic_path(out_dir / name) as temporary,
        pq.ParquetWriter(temporary, schemas[0].remove_metadata(), compression="none") as part,
    ):
        for path in paths:
            part.write_table(pq.read_table(path).replace_schema_metadata(None))
    rows = [json.loads(schema.metadata[b"row"]) for schema in schemas]
    return [row | {"parquet_url": name, "parquet_row": position} for position, row in enumerate(rows)]
