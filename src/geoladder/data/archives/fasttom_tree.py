"""Reader of the released FastTOM: one clear, mostly dry quadrant of a MajorTOM tile in each product folder.

Unusual: the script that made it named the outer folders by grid row alone and cut the cloud mask with the window of a
20 m band, so the released masks have a quarter of the pixels, and of another place. The cell therefore follows from
the coordinates in metadata.json, and a mask that does not fit counts as unknown. Level-1C products, which the script
took as well, are left out.
"""

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from geoladder.data.archives.grid import cell_of
from geoladder.data.archives.product_folder import find_products, peek, read_product
from geoladder.data.archives.tile import TILE_COLUMNS, Tile, UnreadableTileError
from geoladder.data.archives.tile_tree import timestamp_of
from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)

LEVEL_1C = "level 1C"


class Place(NamedTuple):
    """What metadata.json says of a product."""

    grid_cell: str
    lat_deg: float
    lon_deg: float
    level: str


class FastTomTree:
    """A folder of `<row or cell>/<product>/{B01..B12,cloud_mask}.tif` and metadata.json. Never writes to it."""

    def __init__(self, archive: Path) -> None:
        """Look for product folders.

        Raises:
            GeoladderError: there is none, or a folder may not be looked into.
        """
        self.archive = Path(archive)
        self._products = find_products(self.archive)
        self._places: dict[str, Place] = {}
        self._unreadable: dict[str, str] = {}
        if not self._products:
            raise GeoladderError(
                f"no B02.tif below {self.archive}; the released FastTOM has <row>/<product>/B02.tif and "
                "metadata.json beside it (check the corpus' `path`)"
            )

    def metadata(self) -> pd.DataFrame:
        """All products, as `TileSource.metadata`; `part` is the product's folder, `row` is 0.

        The share of cloud is 0: the quadrants were chosen to be clear, and their masks cannot be trusted.
        """
        return pd.DataFrame([self._row(part) for part in self._products], columns=TILE_COLUMNS)

    def identities(self, part: str) -> pd.DataFrame:
        """Cell and product; one row.

        Raises:
            UnreadableTileError: metadata.json or B02.tif cannot be read.
        """
        if part in self._unreadable:
            raise UnreadableTileError(self._unreadable[part])
        return pd.DataFrame(
            [(self._place(part).grid_cell, Path(part).name)], columns=["grid_cell", "product_id"]
        )

    def read(self, part: str, row: int) -> Tile:
        """Read the product in folder `part`; `row` is 0, as there is one a folder."""
        if row:
            raise UnreadableTileError(f"{self.archive / part} holds one product, but row {row} was asked for")
        return read_product(self.archive / part, self._place(part).grid_cell, mask_may_lack=True)

    def _row(self, part: str) -> dict[str, Any]:
        name = Path(part).name
        row: dict[str, Any] = dict.fromkeys(TILE_COLUMNS, "")
        row |= {"product_id": name, "timestamp": timestamp_of(name)}
        row |= {"part": part, "row": 0, "epsg": 0, "cloud_percent": 0.0, "nodata_share": 0.0}
        try:
            place = self._place(part)
            pixels = peek(self.archive / part, mask_may_lack=True)
        except UnreadableTileError as problem:
            log.warning("%s", problem)
            self._unreadable[part] = str(problem)
            return row | {"lat_deg": float("nan"), "lon_deg": float("nan")}
        level_1c = place.level.upper().endswith("L1C") or "_MSIL1C_" in name
        return row | {
            "grid_cell": place.grid_cell,
            "lat_deg": place.lat_deg,
            "lon_deg": place.lon_deg,
            "epsg": pixels.epsg,
            "nodata_share": pixels.nodata_share,
            "unusable": LEVEL_1C if level_1c else "",
        }

    def _place(self, part: str) -> Place:
        if part not in self._places:
            self._places[part] = _read_place(self.archive / part / "metadata.json")
        return self._places[part]


def _read_place(path: Path) -> Place:
    try:
        facts = json.loads(path.read_text())
        lat_deg, lon_deg = float(facts["latitude"]), float(facts["longitude"])
        return Place(cell_of(lat_deg, lon_deg), lat_deg, lon_deg, str(facts.get("level", "")))
    except (OSError, ValueError, KeyError, TypeError, GeoladderError) as problem:
        raise UnreadableTileError(
            f"{path} does not tell the place, as latitude and longitude in degrees ({problem!r}); "
            "unpack or fetch it again"
        ) from None
