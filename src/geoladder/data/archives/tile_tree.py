"""Readers of extracted trees: MajorTOM, `L2A/<row>/<row>_<column>/<product>/B02.tif` or `combined.tif`, and FastTOM.

A product is a folder of `B02.tif` ... `B12.tif` and `cloud_mask.tif`, or of one `combined.tif` with eleven bands at
10 m, the ten of PhilEO order and the cloud mask. Its 20 m bands were enlarged for that, and are made small again, so
that both forms give a tile of the same shape.

The tree says by its folders what it holds; a metadata.parquet beside it, which may list far more, only saves reading
the pixels once to describe them. Rows it lists that are not in the tree are kept as unusable, so the ledger names
them.
"""

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.typing import NaTType

from geoladder.bounds import plain_file
from geoladder.data.archives import tile
from geoladder.data.archives.folders import walk
from geoladder.data.archives.grid import cell_of, row_column, to_lat_lon
from geoladder.data.archives.majortom import IDENTITY, read_metadata
from geoladder.data.labels.bands import BANDS, BANDS_10M, BANDS_20M
from geoladder.errors import GeoladderError
from geoladder.text import read_object

log = logging.getLogger(__name__)

ABSENT = "not in the tree"
LEVEL_1C = "level 1C"
COMBINED = "combined.tif"
CLOUD = (1, 2)
"""Values of the cloud mask that metadata count as cloud: thick and thin, but not shadow."""
_TIME = re.compile(r"_(\d{8}T\d{6})(?=_|$)")


class TileTree:
    """A folder with product folders at any depth. Never writes to it."""

    title = "an extracted tree"
    images = "B02.tif or combined.tif"
    files = "<row>/<row>_<column>/<product>/B02.tif or combined.tif"
    """What lies in such a folder, for messages; so for all readers."""
    mask_may_lack = False
    """Whether a cloud mask that is missing or does not fit counts as unknown."""

    def __init__(self, archive: Path) -> None:
        """Look for product folders; raises GeoladderError where there is none, or one may not be looked into."""
        self.archive = Path(archive)
        self._unreadable: dict[str, str] = {}
        self._products = []
        for folder, folders, files in walk(self.archive):
            if "B02.tif" in files or COMBINED in files:
                self._products.append(folder.relative_to(self.archive).as_posix())
                folders.clear()
        self._products.sort()
        if not self._products:
            raise GeoladderError(
                f"no {self.images} below {self.archive}; {self.title} has {self.files} (check the corpus' `path`)"
            )

    def metadata(self) -> pd.DataFrame:
        """All products, as `TileSource.metadata`; `part` is the product's folder, `row` is 0.

        Products that metadata.parquet (in the archive's folder) lists are described by it, others by their pixels.
        """
        path = self.archive / "metadata.parquet"
        products = pd.DataFrame(
            [(part, self._cell_if_readable(part), Path(part).name) for part in self._products],
            columns=["part", *IDENTITY],
        )
        if not path.is_file():
            return self._described(products)
        listed = read_metadata(path, with_position=False).drop_duplicates(IDENTITY).drop(columns="part")
        listed = listed.merge(products, on=IDENTITY, how="left")
        absent = listed["part"].isna().map({True: ABSENT, False: ""})
        listed = listed.fillna({"part": ""}).assign(row=0, unusable=absent)[tile.TILE_COLUMNS]
        unlisted = products[~products["part"].isin(listed["part"])]
        if unlisted.empty:
            return listed
        log.warning(
            "%s does not list %d of the products, the first %s; they are described by their pixels",
            path,
            len(unlisted),
            unlisted["part"].iloc[0],
        )
        return pd.concat([listed, self._described(unlisted)], ignore_index=True)

    def identities(self, part: str) -> pd.DataFrame:
        """Cell and product as the folders say, one row; raises as `TileSource.identities`."""
        if part in self._unreadable:
            raise tile.UnreadableTileError(self._unreadable[part])
        if not (self.archive / part).is_dir():
            raise tile.UnreadableTileError(f"{self.archive / part} does not exist; unpack or fetch it again")
        return pd.DataFrame([(self._cell(part), Path(part).name)], columns=IDENTITY)

    def read(self, part: str, row: int) -> tile.Tile:
        """Read the product in folder `part`; `row` is 0, as there is one a folder. Raises as `TileSource.read`."""
        folder = self.archive / part
        if row:
            raise tile.UnreadableTileError(f"{folder} holds one product, but row {row} was asked for")
        grid_cell, bands = self._cell(part), self._bands(folder, BANDS)
        return tile.assemble(grid_cell, folder.name, lambda name, _: bands[name], str(folder))

    def _cell(self, part: str) -> str:
        """The cell the folder above is named by, else the one that holds the pixels' place."""
        name = (self.archive / part).parent.name
        try:
            row_column(name)
        except GeoladderError:
            pixels = self._describe(part)
            return cell_of(pixels["lat_deg"], pixels["lon_deg"])
        return name

    def _cell_if_readable(self, part: str) -> str:
        try:
            return self._cell(part)
        except tile.UnreadableTileError:
            return ""

    def _described(self, products: pd.DataFrame) -> pd.DataFrame:
        """Rows of products from their pixels."""
        rows = []
        for part, grid_cell, product_id in products.itertuples(index=False):
            timestamp = timestamp_of(product_id)
            row = tile.table_row(part, grid_cell=grid_cell, product_id=product_id, timestamp=timestamp)
            try:
                row |= self._describe(part)
            except tile.UnreadableTileError as problem:
                log.warning("%s", problem)
                self._unreadable[part] = str(problem)
            rows.append(row)
        return pd.DataFrame(rows, columns=tile.TILE_COLUMNS)

    def _describe(self, part: str) -> dict[str, Any]:
        """What the 10 m band and the cloud mask of a product say of the whole tile."""
        folder = self.archive / part
        bands = self._bands(folder, ["B02"])
        blue, mask = bands["B02"], bands["cloud_mask"]
        if blue.epsg is None:
            raise tile.UnreadableTileError(
                f"{folder} band B02 has no coordinate system; unpack or fetch it again"
            )
        height, width = blue.pixels.shape
        lat_deg, lon_deg = to_lat_lon(blue.epsg, *tile.ground_m(blue.transform, width / 2, height / 2))
        return {
            "lat_deg": lat_deg,
            "lon_deg": lon_deg,
            "epsg": blue.epsg,
            "cloud_percent": 100 * float(np.isin(mask.pixels, CLOUD).mean()),
            "nodata_share": float((blue.pixels == 0).mean()),
        }

    def _bands(self, folder: Path, names: Iterable[str]) -> dict[str, tile.Band]:
        """Bands of a product, and its cloud mask."""
        if (folder / COMBINED).is_file():
            return _combined(folder / COMBINED)
        bands = {name: _band(folder, name) for name in names}
        blue = bands["B02"]
        unknown = tile.Band(
            *(np.full(blue.pixels.shape, tile.UNKNOWN_CLOUD, np.uint8), blue.transform, blue.crs, blue.stored)
        )
        if self.mask_may_lack and not (folder / "cloud_mask.tif").exists():
            return bands | {"cloud_mask": unknown}
        mask = _band(folder, "cloud_mask")
        misfit = self.mask_may_lack and mask.pixels.shape != blue.pixels.shape
        return bands | {"cloud_mask": unknown if misfit else mask}


class FastTomTree(TileTree):
    """The released FastTOM: one clear, mostly dry quadrant of a MajorTOM tile in each product folder.

    Beside `<row or cell>/<product>/{B01..B12,cloud_mask}.tif` lies metadata.json. The authors' script named the outer
    folders by grid row alone and cut the cloud mask with the window of a 20 m band, so the released masks have a
    quarter of the pixels, and of another place. The cell therefore follows from the coordinates in metadata.json, a
    mask that does not fit counts as unknown, and the share of cloud is 0, as the quadrants were chosen to be clear.
    Level-1C products, which the script took as well, are left out.
    """

    title = "the released FastTOM"
    images = "B02.tif"
    files = "<row>/<product>/B02.tif and metadata.json"
    mask_may_lack = True

    def _cell(self, part: str) -> str:
        return str(self._place(part)["grid_cell"])

    def _describe(self, part: str) -> dict[str, Any]:
        place = self._place(part)
        return super()._describe(part) | place | {"cloud_percent": 0.0}

    def _place(self, part: str) -> dict[str, Any]:
        """What metadata.json says of a product."""
        path = self.archive / part / "metadata.json"
        try:
            facts = read_object(plain_file(path))
            lat_deg, lon_deg = float(facts["latitude"]), float(facts["longitude"])
            level_1c = str(facts.get("level", "")).upper().endswith("L1C") or "_MSIL1C_" in Path(part).name
            place = {"grid_cell": cell_of(lat_deg, lon_deg), "lat_deg": lat_deg, "lon_deg": lon_deg}
        except (OSError, ValueError, KeyError, TypeError, GeoladderError) as problem:
            raise tile.UnreadableTileError(
                f"{path} does not tell the place, as latitude and longitude in degrees ({problem!r}); "
                "unpack or fetch it again"
            ) from None
        return place | {"unusable": LEVEL_1C if level_1c else ""}


def timestamp_of(product_id: str) -> pd.Timestamp | NaTType:
    """Acquisition time a Sentinel-2 product's name states first; NaT where it has none."""
    match = _TIME.search(product_id)
    if match is None:
        return pd.NaT
    return pd.to_datetime(match[1], format="%Y%m%dT%H%M%S", errors="coerce")


def _band(folder: Path, name: str) -> tile.Band:
    path = folder / f"{name}.tif"
    if not path.exists():
        raise tile.UnreadableTileError(f"{path} does not exist; unpack or fetch the product again")
    return tile.read_bands(path, str(path), (name,))[0]


def _combined(path: Path) -> dict[str, tile.Band]:
    names = (*BANDS_10M, *BANDS_20M, "cloud_mask")
    bands = dict(zip(names, tile.read_bands(path, str(path), names), strict=True))
    if any(side % 2 for side in bands["B02"].pixels.shape):
        raise tile.UnreadableTileError(
            f"{path} has sides of {bands['B02'].pixels.shape} pixels; even ones are expected"
        )
    coarse = tile.halve(np.stack([bands[name].pixels for name in BANDS_20M]))
    return bands | {
        name: bands[name]._replace(pixels=pixels.astype(bands[name].pixels.dtype))
        for name, pixels in zip(BANDS_20M, coarse, strict=True)
    }
