"""Reader of PhilEO Globe: patches of 128 px in npy folders, four dates of 2022.

A patch is small, and has a place but no georeference. It is given one, north up in the UTM zone of its grid cell with
its centre where the labels say, so it is a small tile to everyone else. All ten bands are stored at 10 m; the 20 m
ones are made small again. Many patches share a grid cell, and none repeats another.

Unusual: latitude is stored upside down (0 is the north pole), documentation and code disagree on the period of
longitude, and files can be of different versions. The Sentinel-2 product's name holds the MGRS tile, so every file is
checked against its name before a place is believed.
"""

import logging
import re
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from affine import Affine
from rasterio.warp import transform as reproject

from geoladder.data.archives.folders import walk
from geoladder.data.archives.grid import cell_of, utm_epsg
from geoladder.data.archives.npy import label_path, open_images, open_labels
from geoladder.data.archives.stored import NODATA_DN, bulk_fill
from geoladder.data.archives.tile import UNKNOWN_CLOUD, Tile, UnreadableTileError, halve, table_row
from geoladder.data.archives.tile_tree import timestamp_of
from geoladder.data.labels.bands import BANDS_10M
from geoladder.data.labels.targets import CLIMATE_CLASSES, decode_date, decode_phileo_place, on_circle
from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)

PIXEL_M = 10.0
OPEN_FILES = 16
GEO_NUMBERS = CLIMATE_CLASSES + 3 + 2
"""Of label_geo: shares of 31 climates, three numbers of the place, two of the date."""
MGRS_BANDS = "CDEFGHJKLMNPQRSTUVWX"
"""Of 8 degrees of latitude from 80 S; X has 12."""
TILE_MARGIN_DEG = 2.0
"""By which a tile of 110 km may reach out of the MGRS band it is named by."""
_NAME = re.compile(r"^(?P<product>.+?)(_(train|val|test))?_s2\.npy$")
"""`S2B_MSIL2A_..._T21KXA_..._train_s2.npy`: images of one product."""
_MGRS = re.compile(r"_(?P<tile>T(?P<zone>\d{2})(?P<band>[C-HJ-NP-X])[A-Z]{2})(?=_|$)")
_FOLDER = re.compile(r"_(?P<year>\d{2})_(?P<month>\d{2})$")


class GlobeFile(NamedTuple):
    """One file of N patches and what its labels say of them."""

    images: np.ndarray
    """(N, P, P, 10) uint16 DN, memory-mapped."""
    rows: pd.DataFrame
    """As `TileSource.metadata`."""
    koppen: np.ndarray
    """(N,) int64: commonest Köppen-Geiger class of each patch; -1 where no label says it."""


class Globe:
    """Folders of `<product>_{train,val}_s2.npy` with their labels. Never writes to them."""

    files = "<Sentinel-2 product>_{train,val}_s2.npy"
    many_per_cell = True
    """Rows of one product in one grid cell are different patches, not repetitions."""

    def __init__(self, archive: Path, climate: Literal["sampled", "stored"] = "sampled") -> None:
        """Look for files at any depth; raises GeoladderError where there is none, or a folder may not be looked into.

        With climate `stored`, tiles state the commonest climate of the labels; otherwise they leave it to a map.
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
            raise GeoladderError(f"no {self.files} below {self.archive} (check the corpus' `path`)")

    def metadata(self) -> pd.DataFrame:
        """All patches, as `TileSource.metadata`; `part` is the file, `row` the patch in it.

        The authors left out patches with 10 % of cloud or more, and those with nodata; both shares are given as 0. A
        file that cannot be read counts as one row.
        """
        tables = []
        for part in self._parts:
            try:
                tables.append(self._file(part).rows)
            except UnreadableTileError as problem:
                log.warning("%s", problem)
                tables.append(pd.DataFrame([table_row(part, cloud_percent=np.nan, nodata_share=np.nan)]))
        return pd.concat(tables, ignore_index=True)

    def identities(self, part: str) -> pd.DataFrame:
        """Cell, from the labels' coordinates, and product of each patch; raises as `TileSource.identities`."""
        return self._file(part).rows[["grid_cell", "product_id"]]

    def read(self, part: str, row: int) -> Tile:
        """Read one patch as a small tile, its cloud mask unknown; raises as `TileSource.read`."""
        file = self._file(part)
        if not 0 <= row < len(file.images):
            raise UnreadableTileError(
                f"{self.archive / part} has patches 0..{len(file.images) - 1}, but {row} was asked for; "
                "index it again"
            )
        pixels = np.ascontiguousarray(file.images[row].transpose(2, 0, 1))
        for band in pixels:
            if (fill := bulk_fill(band)) is not None:
                band[fill] = NODATA_DN
        side, facts = pixels.shape[1], file.rows.iloc[row]
        epsg, lat_deg, lon_deg = int(facts["epsg"]), float(facts["lat_deg"]), float(facts["lon_deg"])
        (easting_m,), (northing_m,) = reproject("EPSG:4326", f"EPSG:{epsg}", [lon_deg], [lat_deg])
        half_m = PIXEL_M * side / 2
        stored = int(file.koppen[row])
        return Tile(
            facts["grid_cell"],
            facts["product_id"],
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
            try:
                self._open[part] = _open_file(self.archive, part)
            except GeoladderError as problem:
                raise UnreadableTileError(str(problem)) from None
        return self._open[part]


def is_globe_name(name: str) -> bool:
    """Whether a file's name is one of PhilEO Globe's images: `S2B_MSIL2A_..._s2.npy`."""
    match = _NAME.match(name)
    return match is not None and _MGRS.search(match["product"]) is not None


def _open_file(archive: Path, part: str) -> GlobeFile:
    """Open an image file with its labels; raises GeoladderError where they are damaged or contradict its name."""
    path = archive / part
    match = _NAME.match(path.name)
    mgrs = match and _MGRS.search(match["product"])
    if match is None or mgrs is None:
        raise GeoladderError(f"{path} is no file of PhilEO Globe; index the archive again")
    images = open_images(path)
    climates, place, date = _labels(path, len(images))
    lat_deg, lon_deg = decode_phileo_place(place)
    if len(images):
        _check_place(path, mgrs, lat_deg, lon_deg)
    cells = [cell_of(lat, lon) for lat, lon in zip(lat_deg.tolist(), lon_deg.tolist(), strict=True)]
    facts = table_row(
        part,
        grid_cell=cells,
        product_id=match["product"],
        timestamp=_timestamps(path, match["product"], date, len(images)),
        lat_deg=lat_deg,
        lon_deg=lon_deg,
        epsg=[utm_epsg(cell) for cell in cells],
        row=np.arange(len(cells)),
    )
    koppen = np.full(len(images), -1)
    if climates is not None:
        koppen = np.where(climates.sum(axis=1) > 0, climates.argmax(axis=1), -1)
    return GlobeFile(images, pd.DataFrame(facts), koppen)


def _labels(path: Path, patches: int) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Climate shares (N, 31), stored place (N, 3) and stored date (N, 2), from label_geo or else the single files."""
    geo = label_path(path, "geo")
    if geo.exists():
        numbers = open_labels(geo, (patches, GEO_NUMBERS)).astype(float)
        return np.split(numbers, [CLIMATE_CLASSES, CLIMATE_CLASSES + 3], axis=1)  # type: ignore[return-value]
    coords, time = label_path(path, "coords"), label_path(path, "time")
    if not coords.exists():
        raise GeoladderError(
            f"beside {path} there is neither {geo.name} nor {coords.name}, so nobody knows where its patches lie; "
            "unpack or fetch one of them"
        )
    date = open_labels(time, (patches, 2)).astype(float) if time.exists() else None
    return None, open_labels(coords, (patches, 3)).astype(float), date


def _check_place(path: Path, mgrs: re.Match, lat_deg: np.ndarray, lon_deg: np.ndarray) -> None:
    """Refuse places that are none, or that do not lie around the MGRS tile in the file's name."""
    if not (np.isfinite(lat_deg).all() and np.isfinite(lon_deg).all() and (np.abs(lat_deg) < 90).all()):
        raise GeoladderError(f"{path}: its labels name no places on the Earth; unpack or fetch it again")
    south = 8.0 * MGRS_BANDS.index(mgrs["band"]) - 80
    north = south + (12 if mgrs["band"] == "X" else 8)
    middle = 6.0 * int(mgrs["zone"]) - 183
    lat, off = float(np.median(lat_deg)), np.abs((lon_deg - middle + 180) % 360 - 180)
    reach = 3 + TILE_MARGIN_DEG / np.cos(np.radians(lat))
    if not (south - TILE_MARGIN_DEG <= lat <= north + TILE_MARGIN_DEG and np.median(off) <= reach):
        raise GeoladderError(
            f"{path}: its labels say latitude {lat:.2f}, longitude {np.median(lon_deg):.2f}, but the product is of "
            f"MGRS tile {mgrs['tile']}, which lies at {south:g}..{north:g} and {middle - 3:g}..{middle + 3:g}; are "
            "the labels of another edition, which encodes (lat + 90) / 180, or longitude with a period of 180?"
        )


def _timestamps(path: Path, product: str, date: np.ndarray | None, patches: int) -> np.ndarray:
    """From the product's name; else the day from the labels, and the year from the folder (`..._22_07`: 2022)."""
    timestamp = timestamp_of(product)
    folder = _FOLDER.search(path.parent.name)
    if not pd.isna(timestamp) or date is None or folder is None:
        return pd.DatetimeIndex([timestamp] * patches).to_numpy(dtype="datetime64[ns]")
    first = np.datetime64(f"20{folder['year']}-01-01", "ns")
    days = first + (decode_date(np.nan_to_num(2 * date - 1)) - 1) * np.timedelta64(86_400 * 10**9, "ns")
    return np.where(on_circle(2 * date - 1), days, np.datetime64("NaT", "ns"))
