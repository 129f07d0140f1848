"""The official MajorTOM grid of 10 km cells, in a few lines of arithmetic.

Cells are numbered from the equator and from longitude 0 outwards (`433D_629L` is row -433, column -629), each row has
its own number of columns, and a cell is named by its bottom-left corner. An image is larger than its cell: it starts
340 m west and south of the corner, in the corner's UTM zone, and is 10,680 m wide.

Source: Francis and Czerkawski, "Major TOM" (arXiv 2402.12095) and the grid code of ESA-PhiLab/Major-TOM; where the
two differ, the code is followed, since the published archive was cut with it.
"""

import math
import re
from functools import lru_cache

from rasterio.crs import CRS
from rasterio.warp import transform

from geoladder.errors import GeoladderError

EARTH_RADIUS_KM = 6378.137
CELL_KM = 10.0
ROWS = math.ceil(math.pi * EARTH_RADIUS_KM / CELL_KM)
ROW_DEG = 180.0 / ROWS
MARGIN_M = 340.0
FOOTPRINT_M = 10_680.0
_NAME = re.compile(r"^(\d+)([UD])_(\d+)([RL])$")
_EDGE = 1e-9  # of a cell: a corner belongs to the cell it names, whatever the rounding


def columns_in_row(row: int) -> int:
    """Number of cells around the Earth in grid row `row` (0 touches the equator from the north)."""
    circumference_km = 2 * math.pi * EARTH_RADIUS_KM * math.cos(math.radians(row * ROW_DEG))
    return math.ceil(circumference_km / CELL_KM)


def cell_name(row: int, column: int) -> str:
    """Name of a cell: (-433, -629) -> `433D_629L`."""
    return f"{abs(row)}{'D' if row < 0 else 'U'}_{abs(column)}{'L' if column < 0 else 'R'}"


def row_column(cell: str) -> tuple[int, int]:
    """Signed row and column of a cell: `433D_629L` -> (-433, -629).

    In a row of an even number n of cells the one that begins at the date line is n/2 L, and so it is named here. The
    official code names twelve of these n/2 R, by rounding (`794U_642R`, on land); they are the same cells.

    GeoladderError where the text is no cell name, or names a cell beyond the poles or the date line.
    """
    match = _NAME.match(cell)
    if match is None:
        raise GeoladderError(f"'{cell}' is no grid cell; write row and column like 433D_629L")
    row = int(match[1]) * (-1 if match[2] == "D" else 1)
    column = int(match[3]) * (-1 if match[4] == "L" else 1)
    if not -ROWS // 2 <= row < ROWS // 2:
        raise GeoladderError(f"grid cell {cell}: row {row} is outside {-ROWS // 2}..{ROWS // 2 - 1}")
    count = columns_in_row(row)
    if 2 * column == count:
        column = -column
    if not -(count // 2) <= column < (count + 1) // 2:
        raise GeoladderError(f"grid cell {cell}: its row has columns {-(count // 2)}..{(count + 1) // 2 - 1}")
    return row, column


def cell_of(lat_deg: float, lon_deg: float) -> str:
    """Cell that holds a point of -90 <= lat < 90 and -180 <= lon <= 180 (180 is read as -180).

    GeoladderError where the point is not on the Earth.
    """
    if not (-90 <= lat_deg < 90 and -180 <= lon_deg <= 180):
        raise GeoladderError(f"no grid cell at latitude {lat_deg}, longitude {lon_deg} (degrees)")
    row = math.floor(lat_deg / ROW_DEG + _EDGE)
    count = columns_in_row(row)
    column = math.floor(lon_deg / (360.0 / count) + _EDGE)
    lowest = -(count // 2)
    # Columns lie between -180 and 180 from 0 outwards; an odd count leaves half a cell on each side of the date line.
    return cell_name(row, (column - lowest) % count + lowest)


def corner_of(cell: str) -> tuple[float, float]:
    """Bottom-left corner of a cell: (lat_deg, lon_deg)."""
    row, column = row_column(cell)
    return row * ROW_DEG, column * 360.0 / columns_in_row(row)


def centre_of(cell: str) -> tuple[float, float]:
    """Middle of a cell in degrees: (lat_deg, lon_deg)."""
    row, column = row_column(cell)
    return (row + 0.5) * ROW_DEG, (column + 0.5) * 360.0 / columns_in_row(row)


def utm_epsg(cell: str) -> int:
    """EPSG code of the UTM zone of a cell's bottom-left corner, with the Norway and Svalbard exceptions."""
    lat, lon = corner_of(cell)
    zone = math.floor((lon + 180) / 6) % 60 + 1
    if 56 <= lat < 64 and 3 <= lon < 12:
        zone = 32
    elif 72 <= lat < 84 and 0 <= lon < 42:
        zone = 31 if lon < 9 else 33 if lon < 21 else 35 if lon < 33 else 37
    return (32700 if lat < 0 else 32600) + zone


@lru_cache(maxsize=256)
def _crs(epsg: int) -> CRS:
    return CRS.from_epsg(epsg)


def footprint(cell: str) -> tuple[int, float, float, float]:
    """Square that a MajorTOM image of a cell covers: (epsg of its UTM zone, left_m, bottom_m, side_m)."""
    lat, lon = corner_of(cell)
    epsg = utm_epsg(cell)
    (x,), (y,) = transform(_crs(4326), _crs(epsg), [lon], [lat])
    return epsg, x - MARGIN_M, y - MARGIN_M, FOOTPRINT_M


def to_lat_lon(epsg: int, x_m: float, y_m: float) -> tuple[float, float]:
    """Turn UTM metres into (lat_deg, lon_deg)."""
    (lon,), (lat,) = transform(_crs(epsg), _crs(4326), [x_m], [y_m])
    return lat, lon
