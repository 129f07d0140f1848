"""Reader of the released FastTOM: one clear, mostly dry quadrant of a MajorTOM tile in each product folder.

Unusual: the script that made it named the outer folders by grid row alone and cut the cloud mask with the window of a
20 m band, so the released masks have a quarter of the pixels, and of another place. The cell therefore follows from
the coordinates in metadata.json, and a mask that does not fit counts as unknown. Level-1C products, which the script
took as well, are left out.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from geoladder.data.archives.grid import cell_of
from geoladder.data.archives.tile import UnreadableTileError
from geoladder.data.archives.tile_tree import TileTree, peek
from geoladder.errors import GeoladderError

LEVEL_1C = "level 1C"


class Place(NamedTuple):
    """What metadata.json says of a product."""

    grid_cell: str
    lat_deg: float
    lon_deg: float
    level: str


class FastTomTree(TileTree):
    """A folder of `<row or cell>/<product>/{B01..B12,cloud_mask}.tif` and metadata.json. Never writes to it.

    The share of cloud is 0: the quadrants were chosen to be clear, and their masks cannot be trusted.
    """

    images = "B02.tif"
    looks = "the released FastTOM has <row>/<product>/B02.tif and metadata.json beside it"
    mask_may_lack = True

    def _cell(self, part: str) -> str:
        return self._place(part).grid_cell

    def _describe(self, part: str) -> dict[str, Any]:
        place, pixels = self._place(part), peek(self.archive / part, mask_may_lack=True)
        level_1c = place.level.upper().endswith("L1C") or "_MSIL1C_" in Path(part).name
        return {
            "lat_deg": place.lat_deg,
            "lon_deg": place.lon_deg,
            "epsg": pixels.epsg,
            "nodata_share": pixels.nodata_share,
            "unusable": LEVEL_1C if level_1c else "",
        }

    def _place(self, part: str) -> Place:
        return _read_place(self.archive / part / "metadata.json")


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
