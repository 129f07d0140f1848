"""Features of an encoder as GeoParquet: one summary vector a chip, with the chip's footprint.

Columns are those of Major TOM's embeddings (Czerkawski et al., 2024, arXiv 2412.05600), so what reads those reads
these. Footprints are in longitude and latitude (OGC:CRS84), as GeoParquet 1.1 has them without a `crs`.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rasterio.warp import transform as reproject
from rich.console import Console
from rich.progress import track
from torch import nn

from geoladder.data.archives.grid import row_column
from geoladder.data.archives.scene import PIXEL_M, open_scene
from geoladder.data.batches.places import PlacedChips, chips_of_archive, chips_of_folder, chips_of_scene
from geoladder.errors import GeoladderError
from geoladder.models.backbone import sides_taken
from geoladder.runs.atomic import atomic_path
from geoladder.training.checkpoints import load_card, statistics_of
from geoladder.training.hub import load_model
from geoladder.training.memory import memory_for
from geoladder.training.tuned import load_tuned

log = logging.getLogger(__name__)

CHIP_PX = 128
CHIPS_AT_ONCE = 32
LESS_MEMORY = "take a smaller --chip-px; chips cut before keep the side of their study's cleaning.chip_px"
MANIFEST = "manifest.parquet"
GEO = {
    "version": "1.1.0",
    "primary_column": "geometry",
    "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Polygon"]}},
}
SCHEMA = pa.schema(
    [
        ("unique_id", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("timestamp", pa.string()),
        ("product_id", pa.string()),
        ("grid_cell", pa.string()),
        ("grid_row_u", pa.int16()),
        ("grid_col_r", pa.int16()),
        ("geometry", pa.binary()),
        ("centre_lat", pa.float32()),
        ("centre_lon", pa.float32()),
        ("utm_footprint", pa.string()),
        ("utm_crs", pa.string()),
        ("pixel_bbox", pa.list_(pa.int32())),  # of 16 bits in Major TOM, too few for a mosaic
    ]
)


def embed(
    checkpoint: Path | str,
    source: Path,
    out: Path,
    index: Path | None = None,
    bands: list[str] | None = None,
    offset_dn: int | None = None,
    chip_px: int = CHIP_PX,
    threads: int = 1,
    progress: bool = False,
) -> None:
    """Write the summary vector of every chip of an image, an archive (with its `index`), or a folder of chips.

    `checkpoint` is a pretraining run, an export, `hf://owner/name@revision`, or a tuned model; `bands` and
    `offset_dn` are of an image, as `open_scene` has them; `chip_px` is the side of the chips that are cut.
    `out` is GeoParquet: unique_id (hash of footprint, time, product and model), embedding, timestamp
    (`20200408T161829`, null where unknown), product_id, grid_cell with grid_row_u and grid_col_r, geometry (WKB),
    centre_lat, centre_lon, utm_footprint (WKT), utm_crs, pixel_bbox (left, top, right, bottom in the image; null for
    chips cut before). The model and the chips are named in its metadata.

    Raises:
        GeoladderError: checkpoint, image, archive or index cannot be read, no chip has all its pixels, or there is
            too little memory.
    """
    torch.set_num_threads(threads)
    backbone, card = _backbone(checkpoint)
    if not (source / MANIFEST).is_file():  # a backbone itself refuses chips cut before that it does not take
        _check_side(backbone, card, chip_px)
    name = f"{card['architecture']}-{card.get('size')} {card.get('fingerprint', '')}".strip()
    metadata = {"geo": json.dumps(GEO), "geoladder": json.dumps({"model": name, "source": str(source)})}
    schema, rows = SCHEMA.with_metadata(metadata), 0
    with ExitStack() as files, memory_for(f"a pass of {CHIPS_AT_ONCE} chips of {name}", LESS_MEMORY):
        if source.is_file():
            parts = chips_of_scene(files.enter_context(open_scene([source], bands, offset_dn)), chip_px)
        else:
            parts = _chips_of(source, index, chip_px)
        path = files.enter_context(atomic_path(out))
        writer = files.enter_context(pq.ParquetWriter(path, schema, compression="zstd"))
        for chips in track(parts, "embedding", console=Console(stderr=True), disable=not progress):
            writer.write_table(_table(chips, _vectors(backbone, card, chips), name).cast(schema))
            rows += len(chips.places)
        if not rows:
            raise GeoladderError(
                f"{source} has no chip of {chip_px} x {chip_px} pixels without nodata; take a smaller --chip-px"
            )
    log.info("%s: %d vectors of %s", out, rows, name)


def _backbone(checkpoint: Path | str) -> tuple[nn.Module, dict[str, Any]]:
    """The backbone of a pretrained or a tuned model, and the card."""
    folder = Path(checkpoint)
    if not str(checkpoint).startswith("hf://") and "task" in load_card(folder):
        model, card = load_tuned(folder)
        backbone = model.get_submodule("backbone")
    else:
        backbone, card = load_model(checkpoint)
    return backbone.to("cuda" if torch.cuda.is_available() else "cpu"), card


def _check_side(backbone: nn.Module, card: dict[str, Any], chip_px: int) -> None:
    fixed_px, stride_px = sides_taken(backbone)
    multiple_px = max(2, stride_px)  # chips begin on the 20 m grid
    if chip_px < 1 or (fixed_px and chip_px != fixed_px) or chip_px % multiple_px:
        allowed = f"exactly {fixed_px}" if fixed_px else f"multiples of {multiple_px}"
        raise GeoladderError(
            f"--chip-px is {chip_px}, but {card['architecture']}-{card.get('size')} takes sides of {allowed} pixels"
        )


def _chips_of(folder: Path, index: Path | None, chip_px: int) -> Iterator[PlacedChips]:
    if (folder / MANIFEST).is_file():
        return chips_of_folder(folder)
    if index is None:
        raise GeoladderError(
            f"{folder} is no image and no folder of chips ({MANIFEST}); of an archive, give the index, too: "
            "--index data/majortom/index.parquet"
        )
    return chips_of_archive(folder, index, chip_px)


def _vectors(backbone: nn.Module, card: dict[str, Any], chips: PlacedChips) -> np.ndarray:
    """Summary vectors (N, S) float32."""
    statistics, device = statistics_of(card), next(backbone.parameters()).device
    offset_dn = chips.offset_dn * (card.get("harmonise", "baseline") == "baseline")
    parts = []
    for first in range(0, len(offset_dn), CHIPS_AT_ONCE):
        part = slice(first, first + CHIPS_AT_ONCE)
        coarse = None if chips.dn20 is None else chips.dn20[part]
        pixels = statistics.model_input(chips.dn10[part], coarse, offset_dn[part], card["transform"])
        with torch.inference_mode():
            parts.append(backbone(pixels.to(device)).summary.float().cpu().numpy())
    return np.concatenate(parts)


def _table(chips: PlacedChips, vectors: np.ndarray, model: str) -> pa.Table:
    places, side_px = chips.places, chips.dn10.shape[-1]
    stamps = places["timestamp"].dt.strftime("%Y%m%dT%H%M%S").replace({np.nan: None})
    corners_m = _corners(places, side_px)
    geometry = _wkb(_degrees(places["crs"], corners_m))
    rows, columns = zip(*map(row_column, places["grid_cell"]), strict=True)
    keys = zip(geometry, stamps, places["product_id"], strict=True)
    boxes = [
        None if left < 0 else [left, top, left + side_px, top + side_px]
        for left, top in zip(places["column_px"], places["row_px"], strict=True)
    ]
    outlines = (", ".join(f"{x!r} {y!r}" for x, y in ring.tolist()) for ring in corners_m)
    values: dict[str, Any] = {
        "unique_id": [
            hashlib.sha256(shape + f"{stamp}{product}{model}".encode()).hexdigest()
            for shape, stamp, product in keys
        ],
        "embedding": list(vectors),
        "timestamp": stamps,
        "product_id": places["product_id"],
        "grid_cell": places["grid_cell"],
        "grid_row_u": rows,
        "grid_col_r": columns,
        "geometry": geometry,
        "centre_lat": places["lat_deg"],
        "centre_lon": places["lon_deg"],
        "utm_footprint": [f"POLYGON (({outline}))" for outline in outlines],
        "utm_crs": places["crs"],
        "pixel_bbox": boxes,
    }
    return pa.table({field.name: pa.array(values[field.name], field.type) for field in SCHEMA})


def _corners(places: pd.DataFrame, side_px: int) -> np.ndarray:
    """Closed rings (N, 5, 2) of easting and northing, metres, counterclockwise from the lower left."""
    half_m = side_px * PIXEL_M / 2
    around = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * half_m
    return places[["x_m", "y_m"]].to_numpy()[:, None] + around


def _degrees(crs: pd.Series, rings_m: np.ndarray) -> np.ndarray:
    """Rings (N, 5, 2) as longitude and latitude; one across the date line goes on beyond 180."""
    degrees = np.empty_like(rings_m)
    for name in crs.unique():
        of_crs = (crs == name).to_numpy()
        flat = rings_m[of_crs].reshape(-1, 2)
        lon_lat = np.stack(reproject(name, "EPSG:4326", flat[:, 0], flat[:, 1]), axis=-1)
        degrees[of_crs] = lon_lat.reshape(-1, *rings_m.shape[1:])
    across = np.ptp(degrees[:, :, 0], axis=1) > 180
    degrees[across, :, 0] %= 360
    return degrees


def _wkb(rings: np.ndarray) -> list[bytes]:
    """Polygons of one ring of five points in well-known binary, little-endian."""
    layout = [("order", "u1"), ("kind", "<u4"), ("rings", "<u4"), ("points", "<u4"), ("xy", "<f8", (5, 2))]
    polygons = np.zeros(len(rings), layout)
    polygons["order"], polygons["kind"], polygons["rings"], polygons["points"] = 1, 3, 1, 5
    polygons["xy"] = rings
    return [polygon.tobytes() for polygon in polygons]
