"""Files of PhilEO Globe: what the name of one says, and where its patches lie.

Unusual: latitude is stored upside down (0 is the north pole), documentation and code disagree on the period of
longitude, and files can be of different versions. The Sentinel-2 product's name holds the MGRS tile, so every file is
checked against its name before a place is believed.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from geoladder.data.archives.npy import label_path, open_images, open_npy
from geoladder.data.archives.tile import UnreadableTileError
from geoladder.data.archives.tile_tree import timestamp_of
from geoladder.data.labels.targets import CLIMATE_CLASSES, decode_date, decode_phileo_place
from geoladder.errors import GeoladderError

GEO_NUMBERS = CLIMATE_CLASSES + 3 + 2
"""Of label_geo: shares of 31 climates, three numbers of the place, two of the date."""
MGRS_BANDS = "CDEFGHJKLMNPQRSTUVWX"
"""Of 8 degrees of latitude from 80 S; X has 12."""
TILE_MARGIN_DEG = 2.0
"""By which a tile of 110 km may reach out of the MGRS band it is named by."""
_NAME = re.compile(r"^(?P<product>.+?)(_(?P<split>train|val|test))?_s2\.npy$")
_MGRS = re.compile(r"_T(?P<zone>\d{2})(?P<band>[C-HJ-NP-X])[A-Z]{2}(?=_|$)")
_FOLDER = re.compile(r"_(?P<year>\d{2})_(?P<month>\d{2})$")


class GlobeFile(NamedTuple):
    """One file of patches and what its labels say of them."""

    product_id: str
    images: np.ndarray
    """(N, P, P, 10) uint16 DN, memory-mapped."""
    lat_deg: np.ndarray
    """(N,) of patch centres."""
    lon_deg: np.ndarray
    timestamps: np.ndarray
    """(N,) datetime64[ns]; not a time where nothing says it."""
    koppen: np.ndarray
    """(N,) int64: commonest Köppen-Geiger class of each patch; -1 where no label says it."""


def is_globe_name(name: str) -> bool:
    """Whether a file's name is one of PhilEO Globe's images: `S2B_MSIL2A_..._s2.npy`."""
    match = _NAME.match(name)
    return match is not None and _MGRS.search(match["product"]) is not None


def open_globe_file(path: Path) -> GlobeFile:
    """Open an image file with its labels.

    Raises:
        UnreadableTileError: it is damaged, has no label of its place, labels do not fit, or the places contradict the
            MGRS tile in the product's name.
    """
    try:
        images = open_images(path)
        labels = _labels(path, len(images))
    except GeoladderError as problem:
        raise UnreadableTileError(str(problem)) from None
    climates, place, date = labels
    match = _NAME.match(path.name)
    product = match["product"] if match else path.name
    lat_deg, lon_deg = decode_phileo_place(place)
    _check_place(path, product, lat_deg, lon_deg)
    timestamps = _timestamps(path, product, date, len(images))
    koppen = np.full(len(images), -1) if climates is None else climates.argmax(axis=1)
    return GlobeFile(product, images, lat_deg, lon_deg, timestamps, koppen)


def _labels(path: Path, patches: int) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Climate shares (N, 31), stored place (N, 3) and stored date (N, 2), from label_geo or else the single files."""
    geo = label_path(path, "geo")
    if geo.exists():
        numbers = _label(geo, (patches, GEO_NUMBERS))
        return np.split(numbers, [CLIMATE_CLASSES, CLIMATE_CLASSES + 3], axis=1)  # type: ignore[return-value]
    coords, time = label_path(path, "coords"), label_path(path, "time")
    if not coords.exists():
        raise UnreadableTileError(
            f"beside {path} there is neither {geo.name} nor {coords.name}, so nobody knows where its patches lie; "
            "unpack or fetch one of them"
        )
    date = _label(time, (patches, 2)) if time.exists() else None
    return None, _label(coords, (patches, 3)), date


def _label(path: Path, shape: tuple[int, int]) -> np.ndarray:
    numbers = np.asarray(open_npy(path), float)
    if numbers.shape != shape:
        raise UnreadableTileError(
            f"{path} has shape {numbers.shape}, but its images need {shape}: labels and images are of different "
            "versions; unpack or fetch both again"
        )
    return numbers


def _check_place(path: Path, product: str, lat_deg: np.ndarray, lon_deg: np.ndarray) -> None:
    match = _MGRS.search(product)
    if not len(lat_deg):
        return
    if not (np.isfinite(lat_deg).all() and np.isfinite(lon_deg).all() and (np.abs(lat_deg) < 90).all()):
        raise UnreadableTileError(f"{path}: its labels name no places on the Earth; unpack or fetch it again")
    if match is None:
        return
    south = 8.0 * MGRS_BANDS.index(match["band"]) - 80
    north = south + (12 if match["band"] == "X" else 8)
    middle = 6.0 * int(match["zone"]) - 183
    lat, off = float(np.median(lat_deg)), np.abs((lon_deg - middle + 180) % 360 - 180)
    reach = 3 + TILE_MARGIN_DEG / np.cos(np.radians(lat))
    if not (south - TILE_MARGIN_DEG <= lat <= north + TILE_MARGIN_DEG and np.median(off) <= reach):
        raise UnreadableTileError(
            f"{path}: its labels say latitude {lat:.2f}, longitude {np.median(lon_deg):.2f}, but the product is of "
            f"MGRS tile {match[0][1:]}, which lies at {south:g}..{north:g} and {middle - 3:g}..{middle + 3:g}; are "
            "the labels of another edition, which encodes (lat + 90) / 180, or longitude with a period of 180?"
        )


def _timestamps(path: Path, product: str, date: np.ndarray | None, patches: int) -> np.ndarray:
    """From the product's name; else the day from the labels, and the year from the folder (`..._22_07`: 2022)."""
    timestamp = timestamp_of(product)
    folder = _FOLDER.search(path.parent.name)
    if not pd.isna(timestamp) or date is None or folder is None:
        return pd.DatetimeIndex([timestamp] * patches).to_numpy(dtype="datetime64[ns]")
    first = np.datetime64(f"20{folder['year']}-01-01", "ns")
    return first + (decode_date(2 * date - 1) - 1) * np.timedelta64(86_400 * 10**9, "ns")
