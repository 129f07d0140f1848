"""Which rows of an archive a corpus takes, by metadata alone: a fraction, dates, regions, named cells, land.

Rows are chosen one by one, never as the first files of an archive, which lie in Antarctica. The fraction is drawn
from all cells before the other limits, so that a smaller one lies inside a larger one and loosening a limit only adds
rows. A row that lacks the value a limit asks for is not taken, and every row that is not has a reason, which ends up
in the ledger.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from geoladder.bounds import plain_file
from geoladder.data.archives.grid import row_column
from geoladder.data.index.split import nested_cells
from geoladder.data.labels.climate import land_share
from geoladder.errors import GeoladderError
from geoladder.study.corpora import Box, Select
from geoladder.text import read_text


def unselected(rows: pd.DataFrame, select: Select) -> Iterator[tuple[str, np.ndarray]]:
    """Reasons why rows of `TileSource.metadata` are not taken, each with the rows (N,) bool it holds for.

    Raises:
        GeoladderError: the file of cells cannot be read, or names none or something else.
    """
    if select.fraction < 1:
        cells = nested_cells(rows["grid_cell"].unique(), select.fraction, select.seed)
        yield "outside the fraction", ~rows["grid_cell"].isin(cells).to_numpy()
    if select.since is not None:
        yield "before the first date", ~(rows["timestamp"] >= pd.Timestamp(select.since)).to_numpy()
    if select.until is not None:
        end = pd.Timestamp(select.until) + pd.Timedelta(days=1)
        yield "after the last date", ~(rows["timestamp"] < end).to_numpy()
    if select.boxes:
        lat_deg, lon_deg = rows["lat_deg"].to_numpy(), rows["lon_deg"].to_numpy()
        inside = [within(box, lat_deg, lon_deg) for box in select.boxes]
        yield "outside the region", ~np.logical_or.reduce(inside)
    if select.cells is not None:
        yield "not a named cell", ~rows["grid_cell"].isin(read_cells(select.cells)).to_numpy()
    if select.max_cloud_percent is not None:
        yield "cloud", ~(rows["cloud_percent"] <= select.max_cloud_percent).to_numpy()
    if select.max_nodata_share is not None:
        yield "nodata", ~(rows["nodata_share"] <= select.max_nodata_share).to_numpy()
    if select.min_land_share > 0:
        yield "sea", land_share(rows["lat_deg"], rows["lon_deg"]) < select.min_land_share


def selected(rows: pd.DataFrame, select: Select) -> np.ndarray:
    """Which rows (N,) bool are taken; the opposite of `unselected`, whatever the reason."""
    taken = np.ones(len(rows), bool)
    for _, reason in unselected(rows, select):
        taken &= ~reason
    return taken


def within(box: Box, lat_deg: np.ndarray, lon_deg: np.ndarray) -> np.ndarray:
    """Whether places lie in a box (south, west, north, east); west > east crosses the date line."""
    south, west, north, east = box
    after_west, before_east = lon_deg >= west, lon_deg <= east
    between = after_west & before_east if west <= east else after_west | before_east
    return np.asarray((lat_deg >= south) & (lat_deg <= north) & between)


def read_cells(path: Path) -> set[str]:
    """Grid cells listed in a text file, one a line; empty lines and what follows `#` do not count.

    Raises:
        GeoladderError: the file cannot be read, lists none, or a line is no cell of the grid; names the line.
    """
    try:
        lines = read_text(plain_file(Path(path))).splitlines()
    except (OSError, GeoladderError) as problem:
        raise GeoladderError(
            f"{path} cannot be read ({problem}); `cells` is a text file with a grid cell like 433D_629L on each line"
        ) from None
    cells = set()
    for number, line in enumerate(lines, 1):
        cell = line.partition("#")[0].strip()
        if not cell:
            continue
        try:
            row_column(cell)
        except GeoladderError as problem:
            raise GeoladderError(f"{path} line {number}: {problem}") from None
        cells.add(cell)
    if not cells:
        raise GeoladderError(f"{path} lists no grid cell; write one like 433D_629L on each line")
    return cells
