"""Reader of MajorTOM as an extracted tree: `L2A/<row>/<row>_<column>/<product>/B02.tif` or `combined.tif`.

The tree says by its folders what it holds; a metadata.parquet beside it, which may list far more, only saves reading
the pixels once to describe them. Rows it lists that are not in the tree are kept as unusable, so the ledger names
them.
"""

import logging
import re
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.typing import NaTType

from geoladder.data.archives.grid import cell_of, row_column
from geoladder.data.archives.product_folder import Peek, find_products, peek, read_product
from geoladder.data.archives.tile import TILE_COLUMNS, Tile, UnreadableTileError
from geoladder.data.archives.tile_metadata import read_metadata
from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)

ABSENT = "not in the tree"
_TIME = re.compile(r"_(\d{8}T\d{6})(?=_|$)")


class TileTree:
    """A folder with product folders at any depth. Never writes to it."""

    images = "B02.tif or combined.tif"
    looks = "an extracted tree has <row>/<row>_<column>/<product>/B02.tif"
    mask_may_lack = False

    def __init__(self, archive: Path) -> None:
        """Look for product folders.

        Raises:
            GeoladderError: there is none, or a folder may not be looked into.
        """
        self.archive = Path(archive)
        self._unreadable: dict[str, str] = {}
        self._products = find_products(self.archive)
        if not self._products:
            raise GeoladderError(
                f"no {self.images} below {self.archive}; {self.looks} (check the corpus' `path`)"
            )

    def metadata(self) -> pd.DataFrame:
        """All products, as `TileSource.metadata`; `part` is the product's folder, `row` is 0.

        Products that metadata.parquet (in the archive's folder) lists are described by it, others by their pixels.
        """
        path, keys = self.archive / "metadata.parquet", ["grid_cell", "product_id"]
        products = pd.DataFrame(
            [(part, self._cell_if_readable(part), Path(part).name) for part in self._products],
            columns=["part", *keys],
        )
        if not path.is_file():
            return self._described(products)
        listed = read_metadata(path, with_position=False).drop_duplicates(keys).drop(columns="part")
        listed = listed.merge(products, on=keys, how="left")
        absent = listed["part"].isna()
        listed = listed.assign(
            row=0, part=listed["part"].fillna(""), unusable=absent.map({True: ABSENT, False: ""})
        )
        unlisted = products[~products["part"].isin(listed["part"])]
        if unlisted.empty:
            return listed[TILE_COLUMNS]
        log.warning(
            "%s does not list %d of the products, the first %s; they are described by their pixels",
            path,
            len(unlisted),
            unlisted["part"].iloc[0],
        )
        return pd.concat([listed, self._described(unlisted)], ignore_index=True)[TILE_COLUMNS]

    def identities(self, part: str) -> pd.DataFrame:
        """Cell and product as the folders say; one row.

        Raises:
            UnreadableTileError: the product cannot be described, or its folder is gone.
        """
        if part in self._unreadable:
            raise UnreadableTileError(self._unreadable[part])
        if not (self.archive / part).is_dir():
            raise UnreadableTileError(f"{self.archive / part} does not exist; unpack or fetch it again")
        return pd.DataFrame([(self._cell(part), Path(part).name)], columns=["grid_cell", "product_id"])

    def read(self, part: str, row: int) -> Tile:
        """Read the product in folder `part`; `row` is 0, as there is one a folder."""
        if row:
            raise UnreadableTileError(f"{self.archive / part} holds one product, but row {row} was asked for")
        return read_product(self.archive / part, self._cell(part), self.mask_may_lack)

    def _cell(self, part: str) -> str:
        """The cell the folder above is named by, else the one that holds the pixels' place."""
        folder = self.archive / part
        try:
            row_column(folder.parent.name)
        except GeoladderError:
            pixels = peek(folder)
            return cell_of(pixels.lat_deg, pixels.lon_deg)
        return folder.parent.name

    def _cell_if_readable(self, part: str) -> str:
        try:
            return self._cell(part)
        except UnreadableTileError:
            return ""

    def _describe(self, part: str) -> dict[str, Any]:
        """What the product itself tells of `TILE_COLUMNS`, beside its cell and name."""
        return peek(self.archive / part)._asdict()

    def _described(self, products: pd.DataFrame) -> pd.DataFrame:
        """Rows of products from their pixels."""
        rows = [self._row(*values) for values in products.itertuples(index=False)]
        return pd.DataFrame(rows, columns=TILE_COLUMNS)

    def _row(self, part: str, grid_cell: str, product_id: str) -> dict[str, Any]:
        row = {
            "grid_cell": grid_cell,
            "product_id": product_id,
            "timestamp": timestamp_of(product_id),
            **Peek(float("nan"), float("nan"), 0, 0.0, 0.0)._asdict(),
            "part": part,
            "row": 0,
            "unusable": "",
        }
        try:
            return row | self._describe(part)
        except UnreadableTileError as problem:
            log.warning("%s", problem)
            self._unreadable[part] = str(problem)
            return row


def timestamp_of(product_id: str) -> pd.Timestamp | NaTType:
    """Acquisition time a Sentinel-2 product's name states first; NaT where it has none."""
    match = _TIME.search(product_id)
    if match is None:
        return pd.NaT
    return pd.to_datetime(match[1], format="%Y%m%dT%H%M%S", errors="coerce")
