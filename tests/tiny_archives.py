"""Tiny archives in the true layouts of MajorTOM and PhilEO Bench, written by hand and not by geoladder."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from affine import Affine

TILE_PX = 64
TEN = ("B02", "B03", "B04", "B08")
TWENTY = ("B05", "B06", "B07", "B8A", "B11", "B12")
SIXTY = ("B01", "B09")


def geotiff(pixels, step_m=10.0, epsg=32632, left_m=500_000.0, top_m=5_000_000.0):
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=1,
            height=pixels.shape[0],
            width=pixels.shape[1],
            dtype=pixels.dtype,
            crs=f"EPSG:{epsg}",
            transform=Affine(step_m, 0, left_m, 0, -step_m, top_m),
            compress="deflate",
        ) as raster:
            raster.write(pixels, 1)
        return memory.read()


def tile_row(cell, product_id, seed, darkest=1200, tile_px=TILE_PX, **changes):
    """One row of an image part; `changes` replaces column values (bytes, None, ...)."""
    rng = np.random.default_rng(seed)
    row = {"product_id": product_id, "grid_cell": cell, "timestamp": "2021-06-30 10:00:00", "thumbnail": b""}
    for names, step in ((TEN, 1), (TWENTY, 2), (SIXTY, 4)):
        for name in names:
            side = tile_px // step
            row[name] = geotiff(
                rng.integers(darkest, darkest + 3000, (side, side), dtype=np.uint16), 10.0 * step
            )
    row["cloud_mask"] = geotiff(np.zeros((tile_px, tile_px), np.uint8))
    return row | changes


def metadata_row(cell, product_id, part, row, **changes):
    values = {
        "grid_cell": cell,
        "grid_row_u": 1,
        "grid_col_r": 1,
        "product_id": product_id,
        "timestamp": "2021-06-30 10:00:00",
        "cloud_cover": 5.0,
        "nodata": 0.0,
        "centre_lat": 45.0,
        "centre_lon": 9.0,
        "crs": "EPSG:32632",
        "parquet_url": f"https://example.org/resolve/main/images/{part}",
        "parquet_row": row,
    }
    return values | changes


def product(date="20210630", number="0500"):
    return f"S2A_MSIL2A_{date}T100000_N{number}_R022_T32TQM_{date}T120000"


class Archive:
    """Collects rows, then writes the folder."""

    def __init__(self, folder):
        self.folder = folder
        self.parts = {}
        self.metadata = []

    def add(self, cell, product_id=None, part="part_00001.parquet", meta=None, image=None, **kwargs):
        product_id = product_id or product()
        rows = self.parts.setdefault(part, [])
        self.metadata.append(metadata_row(cell, product_id, part, len(rows), **(meta or {})))
        rows.append(tile_row(cell, product_id, len(self.metadata), **kwargs) | (image or {}))
        return self

    def write(self):
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        for part, rows in self.parts.items():
            pq.write_table(pa.Table.from_pylist(rows), self.folder / "images" / part, row_group_size=1)
        pd.DataFrame(self.metadata).to_parquet(self.folder / "metadata.parquet")
        return self.folder


def stock(site, archive):
    """Let a site serve four parts of three tiles: cloud 0, 10, ... 110 %, cells along the equator, a date a month."""
    for number in range(12):
        meta = {
            "cloud_cover": 10.0 * number,
            "timestamp": f"2021-{number + 1:02d}-15 10:00:00",
            "centre_lat": -55.0 + 10 * number,
            "centre_lon": -165.0 + 30 * number,
            "nodata": number / 12,
        }
        archive.add(f"{number}U_1R", part=f"part_{number // 3 + 1:05d}.parquet", meta=meta, tile_px=12)
    archive.write()
    for path in archive.folder.rglob("*.parquet"):
        site.files[str(path.relative_to(archive.folder))] = path.read_bytes()
    return site


class BenchFolder:
    """Writes image and label files of PhilEO Bench."""

    def __init__(self, folder, patch_px=16):
        self.folder, self.patch_px = folder, patch_px
        folder.mkdir(parents=True, exist_ok=True)

    def add(
        self, region, tile, split, patches, seed=0, scale=1.0, labels=("roads", "building", "lc"), **changes
    ):
        rng = np.random.default_rng([seed, patches])
        stem, px = f"{region}_{tile}_{split}", self.patch_px
        arrays = {"s2": rng.integers(1, 4000, (patches, px, px, 10), dtype=np.uint16)}
        for kind in labels:
            if kind == "lc":
                codes = np.array([10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100], np.uint8)
                arrays["label_lc"] = rng.choice(codes, (patches, px, px, 1))
            else:
                # Every third patch is empty, so that enrichment has something to do.
                density = rng.random((patches, px, px, 1)).astype(np.float32)
                density[::3] = 0
                arrays[f"label_{kind}"] = density * np.float32(scale)
        lat, lon = np.radians(50.0 + seed), np.radians(-120.0)
        coords = [(90 - np.degrees(lat)) / 180, (np.sin(lon) + 1) / 2, (np.cos(lon) + 1) / 2]
        arrays["label_coords"] = np.tile(coords, (patches, 1))
        for name, array in (arrays | changes).items():
            if array is not None:
                np.save(self.folder / f"{stem}_{name}.npy", array)
        return self

    def tiles_metadata(self, tiles):
        (self.folder / "metadata").mkdir(exist_ok=True)
        (self.folder / "metadata" / "tiles_metadata.json").write_text(json.dumps(tiles))
        return self


def bench_index(path, files, side_deg=0.02):
    """Write what an index of a bench says of places, of files (split, lat_deg, lon_deg)."""
    table = pd.DataFrame(files, columns=["split", "lat_deg", "lon_deg"])
    sides = {
        f"{side}_deg": table[middle] + sign * side_deg / 2
        for side, middle, sign in [
            *(("south", "lat_deg", -1), ("west", "lon_deg", -1)),
            *(("north", "lat_deg", 1), ("east", "lon_deg", 1)),
        ]
    }
    table.assign(**sides).to_parquet(path)
    return path


def truncate(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
