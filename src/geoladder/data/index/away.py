"""Which rows of an archive lie where the bench is: what is judged there must not have been pretrained on.

A row's footprint is taken as the square of a whole MajorTOM tile around its middle: for a smaller image, such as a
quadrant or a patch of PhilEO Globe, it is never too small. A row without a place has the middle of its grid cell.
"""

import logging
import math
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from geoladder.data.archives.footprints import COLUMNS, Boxes
from geoladder.data.archives.grid import FOOTPRINT_M, centre_of
from geoladder.data.labels.targets import great_circle_km
from geoladder.errors import GeoladderError
from geoladder.runs.digest import intact

log = logging.getLogger(__name__)

TURNED = 1.06
"""A tile is square in its UTM zone, which is turned by up to 3 degrees against north: its box is so much wider."""


def in_bench(rows: pd.DataFrame, bench_index: Path, files: Literal["test", "all", "none"]) -> pd.Series:
    """Whether the footprint of each row overlaps that of a bench tile: of test, of any, or of none (none is read).

    Raises:
        GeoladderError: `bench_index` is no index of a bench, or an older one without footprints.
    """
    if files == "none":
        return pd.Series(False, index=rows.index)
    bench = _bench(bench_index, ["split", *COLUMNS])
    tiles = bench[bench["split"] == "test"] if files == "test" else bench
    boxes = Boxes.of(tiles[list(COLUMNS)].drop_duplicates())
    if not len(tiles):
        return pd.Series(False, index=rows.index)
    if tiles[list(COLUMNS)].isna().any(axis=None):
        log.warning("%s: some files have no location, so no tile is kept from overlapping them", bench_index)
    lat_deg, lon_deg = _middles(rows)
    return pd.Series(Boxes.around(lat_deg, lon_deg, TURNED * FOOTPRINT_M).overlaps(boxes), index=rows.index)


def near_bench(rows: pd.DataFrame, bench_index: Path, buffer_km: float) -> pd.Series:
    """Validation rows within `buffer_km` of the middle of a bench test tile; raises as `in_bench`."""
    bench = _bench(bench_index, ["split", "lat_deg", "lon_deg"])
    tests = bench.loc[bench["split"] == "test", ["lat_deg", "lon_deg"]].drop_duplicates()
    if tests.isna().any(axis=None):
        log.warning(
            "%s: some test files have no location, so validation cannot keep away from them", bench_index
        )
    validation = rows[rows["split"] == "val"]
    nearest_km = np.full(len(validation), np.inf)
    lat_deg, lon_deg = validation["lat_deg"].to_numpy(), validation["lon_deg"].to_numpy()
    for test_lat_deg, test_lon_deg in tests.dropna().to_numpy():
        nearest_km = np.minimum(nearest_km, great_circle_km(lat_deg, lon_deg, test_lat_deg, test_lon_deg))
    near = pd.Series(False, index=rows.index)
    near[validation.index] = nearest_km <= buffer_km
    return near


def _bench(bench_index: Path, columns: list[str]) -> pd.DataFrame:
    try:
        return pd.read_parquet(intact(bench_index), columns=columns)
    except (OSError, ValueError) as problem:
        raise GeoladderError(
            f"{bench_index} is no bench index ({problem}); write it with `geoladder bench-index`"
        ) from None


def _middles(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """lat_deg and lon_deg of each row; not numbers where neither metadata nor cell tell them."""
    lat_deg, lon_deg = (rows[name].to_numpy(float, copy=True) for name in ("lat_deg", "lon_deg"))
    for place in np.flatnonzero(np.isnan(lat_deg) | np.isnan(lon_deg)):
        try:
            lat_deg[place], lon_deg[place] = centre_of(rows["grid_cell"].iloc[place])
        except GeoladderError:
            lat_deg[place] = lon_deg[place] = math.nan
    return lat_deg, lon_deg
