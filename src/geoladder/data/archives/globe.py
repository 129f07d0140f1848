"""Reader of PhilEO Globe: patches of 128 px in npy folders, four dates of 2022.

A patch is small, and has a place but no georeference. It is given one, north up in the UTM zone of its grid cell with
its centre where the labels say, so it is a small tile to everyone else. All ten bands are stored at 10 m; the 20 m
ones are made small again. Many patches share a grid cell, and none repeats another.
"""

import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from affine import Affine
from rasterio.warp import transform as reproject

from geoladder.data.archives.folders import walk
from geoladder.data.archives.globe_files import GlobeFile, is_globe_name, open_globe_file
from geoladder.data.archives.grid import cell_of, utm_epsg
from geoladder.data.archives.tile import TILE_COLUMNS, UNKNOWN_CLOUD, Tile, UnreadableTileError, halve
from geoladder.data.labels.bands import BANDS_10M
from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)

PIXEL_M = 10.0
OPEN_FILES = 16


class Globe:
    """Folders of `<product>_{train,val}_s2.npy` with their labels. Never writes to them."""

    many_per_cell = True
    """Rows of one product in one grid cell are different patches, not repetitions."""

    def __init__(self, archive: Path, climate: Literal["sampled", "stored"] = "sampled") -> None:
        """Look for files.

        Args:
            archive: folder with the files at any depth.
            climate: whether tiles state the commonest climate of the labels (`stored`), or leave it to a map.

        Raises:
            GeoladderError: no file of PhilEO Globe, or a folder may not be looked into.
        """
        self.archive = Path(archive)
        self._stored_climate = climate == "stored"
        self._open: dict[str, GlobeFile] = {}
        self._parts = sorted(
            (below / name).relative_to(self.archive).as_posix()
            for below, _, names in walk(self.archive)
            for name in names
            if is_globe_name(name)
        )
        if not self._parts:
            raise GeoladderError(
                f"no <Sentinel-2 product>_{{train,val}}_s2.npy below {self.archive} (check the corpus' `path`)"
            )

    def metadata(self) -> pd.DataFrame:
        """All patches, as `TileSource.metadata`; `part` is the file, `row` the patch in it.

        The authors left out patches with 10 % of cloud or more, and those with nodata; both shares are given as 0. A
        file that cannot be read counts as one row.
        """
        return pd.concat([self._rows(part) for part in self._parts], ignore_index=True)

    def identities(self, part: str) -> pd.DataFrame:
        """Cell, from the labels' coordinates, and product of each patch of a file.

        Raises:
            UnreadableTileError: images or labels of the file cannot be used; names what is wrong.
        """
        file = self._file(part)
        return pd.DataFrame({"grid_cell": _cells(file), "product_id": file.product_id}, dtype=object)

    def read(self, part: str, row: int) -> Tile:
        """Read one patch as a small tile, its cloud mask unknown.

        Raises:
            UnreadableTileError: no such patch, or images or labels of the file cannot be used.
        """
        file = self._file(part)
        if not 0 <= row < len(file.images):
            raise UnreadableTileError(
                f"{self.archive / part} has patches 0..{len(file.images) - 1}, but {row} was asked for; "
                "index it again"
            )
        pixels = np.ascontiguousarray(file.images[row].transpose(2, 0, 1))
        lat_deg, lon_deg = float(file.lat_deg[row]), float(file.lon_deg[row])
        cell = cell_of(lat_deg, lon_deg)
        epsg, side = utm_epsg(cell), pixels.shape[1]
        (easting_m,), (northing_m,) = reproject("EPSG:4326", f"EPSG:{epsg}", [lon_deg], [lat_deg])
        half_m = PIXEL_M * side / 2
        stored = int(file.koppen[row])
        return Tile(
            cell,
            file.product_id,
            pixels[: len(BANDS_10M)],
            halve(pixels[len(BANDS_10M) :]),
            np.full((side, side), UNKNOWN_CLOUD, np.uint8),
            Affine(PIXEL_M, 0, easting_m - half_m, 0, -PIXEL_M, northing_m + half_m),
            epsg,
            stored if self._stored_climate and stored >= 0 else None,
        )

    def _file(self, part: str) -> GlobeFile:
        if part not in self._open:
            if len(self._open) >= OPEN_FILES:
                self._open.pop(next(iter(self._open)))
            self._open[part] = open_globe_file(self.archive / part)
        return self._open[part]

    def _rows(self, part: str) -> pd.DataFrame:
        """Rows of one file; a single row without place where it cannot be used."""
        try:
            file = self._file(part)
        except UnreadableTileError as problem:
            log.warning("%s", problem)
            row: dict[str, Any] = dict.fromkeys(TILE_COLUMNS, "")
            row |= {"timestamp": pd.NaT, "part": part, "row": 0, "epsg": 0}
            row |= dict.fromkeys(("lat_deg", "lon_deg", "cloud_percent", "nodata_share"), np.nan)
            return pd.DataFrame([row])
        cells = _cells(file)
        return pd.DataFrame(
            {
                "grid_cell": cells,
                "product_id": file.product_id,
                "timestamp": file.timestamps,
                "lat_deg": file.lat_deg,
                "lon_deg": file.lon_deg,
                "cloud_percent": 0.0,
                "nodata_share": 0.0,
                "epsg": [utm_epsg(cell) for cell in cells],
                "part": part,
                "row": np.arange(len(cells)),
                "unusable": "",
            }
        )


def _cells(file: GlobeFile) -> list[str]:
    return [cell_of(lat, lon) for lat, lon in zip(file.lat_deg.tolist(), file.lon_deg.tolist(), strict=True)]
