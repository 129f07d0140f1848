"""Writers of the layouts that are no parquet: extracted trees, the released FastTOM, PhilEO Globe."""

import json
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.warp import transform as reproject

from geoladder.data.archives.grid import cell_of, centre_of, footprint

TEN = ("B02", "B03", "B04", "B08")
TWENTY = ("B05", "B06", "B07", "B8A", "B11", "B12")
PHILEO = TEN + TWENTY


def write_tif(
    path: Path, bands: np.ndarray, epsg: int, left_m: float, top_m: float, step_m: float = 10.0
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    place = {"crs": f"EPSG:{epsg}", "transform": Affine(step_m, 0, left_m, 0, -step_m, top_m)}
    with rasterio.open(path, "w", dtype=bands.dtype, **profile, **place) as raster:
        raster.write(bands)


class Product:
    """Pixels of one product in the middle of a grid cell."""

    def __init__(self, cell: str, name: str, seed: int = 0, tile_px: int = 32, darkest: int = 1200) -> None:
        rng = np.random.default_rng(seed)
        self.cell, self.name, self.tile_px = cell, name, tile_px
        self.dn10 = rng.integers(darkest, darkest + 3000, (4, tile_px, tile_px), dtype=np.uint16)
        self.dn20 = rng.integers(darkest, darkest + 3000, (6, tile_px // 2, tile_px // 2), dtype=np.uint16)
        self.mask = np.zeros((tile_px, tile_px), np.uint8)
        self.epsg, left, bottom, size = footprint(cell)
        margin = (size - tile_px * 10) / 2
        self.left_m, self.top_m = left + margin, bottom + size - margin

    @property
    def centre(self) -> tuple[float, float]:
        half = self.tile_px * 5
        x, y = [self.left_m + half], [self.top_m - half]
        (lon,), (lat,) = reproject(f"EPSG:{self.epsg}", "EPSG:4326", x, y)
        return lat, lon

    def folder(self, root: Path) -> Path:
        return root / self.cell.partition("_")[0] / self.cell / self.name

    def write(self, root: Path, combined: bool = False) -> Path:
        """As MajorTOM extracted: a file a band, or all in one."""
        return self.write_into(self.folder(root), combined)

    def write_into(self, folder: Path, combined: bool = False) -> Path:
        place = (self.epsg, self.left_m, self.top_m)
        if combined:
            enlarged = self.dn20.repeat(2, axis=1).repeat(2, axis=2)
            write_tif(folder / "combined.tif", np.concatenate([self.dn10, enlarged, self.mask[None]]), *place)
            return folder
        for name, pixels in zip(TEN, self.dn10, strict=True):
            write_tif(folder / f"{name}.tif", pixels[None], *place)
        for name, pixels in zip(TWENTY, self.dn20, strict=True):
            write_tif(folder / f"{name}.tif", pixels[None], *place, 20.0)
        write_tif(folder / "cloud_mask.tif", self.mask[None], *place)
        return folder

    def write_fasttom(self, root: Path, level: str = "S2L2A", **changes: object) -> Path:
        """As the released FastTOM: under the grid row alone, its mask cut with a 20 m window."""
        folder = self.write_into(root / self.cell.partition("_")[0] / self.name)
        half = self.tile_px // 2
        write_tif(
            folder / "cloud_mask.tif",
            np.full((1, half, half), 1, np.uint8),
            self.epsg,
            self.left_m,
            self.top_m,
            20.0,
        )
        lat, lon = self.centre
        facts = {"grid_cell": folder.parent.name, "level": level, "latitude": lat, "longitude": lon}
        (folder / "metadata.json").write_text(json.dumps(facts | changes))
        return folder


def mgrs_product(date: str = "20220727T134711", tile: str = "T21KXA", number: str = "0400") -> str:
    return f"S2A_MSIL2A_{date}_N{number}_R024_{tile}_20220727T213102"


def stored_place(lat_deg: np.ndarray, lon_deg: np.ndarray) -> np.ndarray:
    """PhilEO's own encoding: latitude upside down, longitude on a circle."""
    lon = np.radians(lon_deg)
    return np.stack([(90 - lat_deg) / 180, (np.sin(lon) + 1) / 2, (np.cos(lon) + 1) / 2], axis=1)


def write_globe(
    root: Path,
    product: str = mgrs_product(),
    split: str = "train",
    patches: int = 5,
    px: int = 16,
    south: tuple[float, float] = (-20.0, -57.0),
    climates: tuple[int, ...] = (3, 7),
    folder: str = "10_points_filtered_22_07",
    **changes: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """One file of PhilEO Globe with label_geo; `changes` replaces arrays (None: no such file)."""
    rng = np.random.default_rng(patches)
    coarse = (
        rng.integers(1000, 5000, (patches, px // 2, px // 2, 6), dtype=np.uint16)
        .repeat(2, axis=1)
        .repeat(2, axis=2)
    )
    fine = rng.integers(1000, 5000, (patches, px, px, 4), dtype=np.uint16)
    lat_deg, lon_deg = south[0] - np.arange(patches) * 0.0115, np.full(patches, south[1])
    shares = np.zeros((patches, 31))
    shares[:, climates[0]], shares[:, climates[1]] = 0.3, 0.7
    angle = 2 * np.pi * 208 / 365
    date = np.tile([(np.sin(angle) + 1) / 2, (np.cos(angle) + 1) / 2], (patches, 1))
    arrays = {
        "s2": np.concatenate([fine, coarse], axis=3),
        "label_geo": np.concatenate([shares, stored_place(lat_deg, lon_deg), date], axis=1),
    }
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, array in (arrays | changes).items():
        if array is not None:
            np.save(root / folder / f"{product}_{split}_{name}.npy", array)
    return arrays | {"lat_deg": lat_deg, "lon_deg": lon_deg, "date": date}


def land_cell(lat_deg: float = 52.5, lon_deg: float = 13.4) -> str:
    """A cell at a place, by default Berlin; its middle, not its corner, is what tiles are written around."""
    cell = cell_of(lat_deg, lon_deg)
    assert cell_of(*centre_of(cell)) == cell
    return cell
