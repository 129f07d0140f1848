"""FastTOM, derived from MajorTOM: which quadrant of a tile it keeps, and a reader that gives just that.

Unusual: the paper says "land only, no ice", but the authors' script has no ice filter. Its rule is the one here: of
the four corner quadrants the one with most clear pixels, if it is clear and dry enough. Water is the script's raster
where its path is given, else the sea of the packaged climate map, which is coarse (12 km).
"""

import numpy as np
from affine import Affine
from rasterio.warp import transform as reproject

from geoladder.data.archives.tile import Tile, TileSource, UnwantedTileError, ground_m
from geoladder.data.labels.climate import CLASSES, koppen
from geoladder.data.labels.rasters import sample
from geoladder.errors import GeoladderError
from geoladder.study.specs import Layout

MIN_CLEAR_SHARE = 0.33
MAX_WATER_SHARE = 0.5
QUADRANT_PX = 516
"""Of a tile of 1068: 36 pixels on the far sides are in no quadrant."""
WATER_STEP_PX = 12
"""The water and ice rasters have pixels of 100 m and more, so every twelfth 10 m pixel tells them."""
NO_QUADRANT = "no clear and dry quadrant"
TOO_ICY = "ice"


def best_quadrant(cloud_mask: np.ndarray, quadrant_px: int, water: np.ndarray) -> tuple[int, int] | None:
    """Choose the quadrant with most clear pixels; of equals the last, in reading order.

    Quadrants start at 0 and `quadrant_px` in each direction of `cloud_mask` (H, W) uint8, as of a `Tile`, and `water`
    (H, W) bool. GeoladderError where these differ in shape, or are too small for four quadrants.

    Returns:
        (row, column) of its first pixel; None when fewer than 33 % of its pixels are clear or more than 50 % water.
    """
    if cloud_mask.shape != water.shape or min(cloud_mask.shape) < 2 * quadrant_px or quadrant_px < 1:
        raise GeoladderError(
            f"quadrants of {quadrant_px} px do not fit a cloud mask of {cloud_mask.shape} and water of {water.shape}"
        )
    corners = [(row, column) for row in (0, quadrant_px) for column in (0, quadrant_px)]
    clear = [(_cut(cloud_mask, corner, quadrant_px) == 0).mean() for corner in corners]
    chosen = max(range(4), key=lambda i: (clear[i], i))
    if clear[chosen] < MIN_CLEAR_SHARE or _cut(water, corners[chosen], quadrant_px).mean() > MAX_WATER_SHARE:
        return None
    return corners[chosen]


def _cut(image: np.ndarray, corner: tuple[int, int], side: int) -> np.ndarray:
    return image[corner[0] : corner[0] + side, corner[1] : corner[1] + side]


class FastTom:
    """Another archive, of which only the quadrant that FastTOM would keep is read."""

    def __init__(self, source: TileSource, layout: Layout) -> None:
        """Derive from a source of whole tiles.

        Metadata and identities are those of the whole tiles: which quadrant counts shows when a tile is read. A pixel
        of `layout.water_raster` is water where it is above 0 or without data, as in the authors' script; ice is
        climate EF, ice cap.
        """
        self.metadata = source.metadata
        self.identities = source.identities
        self._source, self._layout = source, layout

    def read(self, part: str, row: int) -> Tile:
        """Read the chosen quadrant of a tile; raises as `TileSource.read`.

        UnwantedTileError where no quadrant is clear and dry enough, or the chosen one is too icy.
        """
        tile = self._source.read(part, row)
        where = f"{part} row {row} ({tile.grid_cell})"
        side, limit = quadrant_px(tile), self._layout.max_ice_share
        corner = best_quadrant(tile.cloud_mask, side, self._water(tile))
        if corner is None:
            raise UnwantedTileError(f"{where} has {NO_QUADRANT}", NO_QUADRANT)
        quadrant = cut_quadrant(tile, corner, side)
        if limit is not None:
            climates = koppen(*_places(quadrant), self._layout.koppen_raster)
            icy = float((climates == CLASSES.index("EF")).mean())
            if icy > limit:
                raise UnwantedTileError(
                    f"{where}: {icy:.0%} of the quadrant is ice, more than max_ice_share = {limit}", TOO_ICY
                )
        return quadrant

    def _water(self, tile: Tile) -> np.ndarray:
        """(H, W) bool."""
        lat_deg, lon_deg = _places(tile)
        if self._layout.water_raster is None:
            coarse = koppen(lat_deg, lon_deg) == 0
        else:
            coarse = sample(self._layout.water_raster, lat_deg, lon_deg, outside=1) > 0
        height, width = tile.cloud_mask.shape
        return coarse[np.arange(height) // WATER_STEP_PX][:, np.arange(width) // WATER_STEP_PX]


def quadrant_px(tile: Tile) -> int:
    """Side of a tile's quadrants: 516 in a tile of 1068, else half the tile, even."""
    side = min(tile.cloud_mask.shape)
    return QUADRANT_PX if side >= 2 * QUADRANT_PX else side // 4 * 2


def cut_quadrant(tile: Tile, corner: tuple[int, int], side_px: int) -> Tile:
    """The part of a tile from `corner` (row, column; even) on, with its own georeference."""
    row, column = corner
    half = slice(row // 2, (row + side_px) // 2), slice(column // 2, (column + side_px) // 2)
    whole = slice(row, row + side_px), slice(column, column + side_px)
    grid = tile.transform
    left_m, top_m = ground_m(grid, float(column), float(row))
    return tile._replace(
        dn10=tile.dn10[:, *whole],
        dn20=tile.dn20[:, *half],
        cloud_mask=tile.cloud_mask[whole],
        transform=Affine(grid.a, grid.b, left_m, grid.d, grid.e, top_m),
    )


def _places(tile: Tile) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes of the middles of squares of `WATER_STEP_PX`: two (rows, columns), degrees."""
    height, width = tile.cloud_mask.shape
    lines, columns = (np.arange(0, side, WATER_STEP_PX) + WATER_STEP_PX / 2 for side in (height, width))
    column, line = np.meshgrid(columns, lines)
    easting_m, northing_m = ground_m(tile.transform, column.ravel(), line.ravel())
    lon_deg, lat_deg = reproject(f"EPSG:{tile.epsg}", "EPSG:4326", easting_m, northing_m)
    return np.reshape(lat_deg, column.shape), np.reshape(lon_deg, column.shape)
