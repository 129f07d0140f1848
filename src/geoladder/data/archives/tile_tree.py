"""Reader of MajorTOM as an extracted tree: `L2A/<row>/<row>_<column>/<product>/B02.tif` or `combined.tif`.

A product is a folder of `B02.tif` ... `B12.tif` and `cloud_mask.tif`, or of one `combined.tif` with eleven bands at
10 m, the ten of PhilEO order and the cloud mask. Its 20 m bands were enlarged for that, and are made small again, so
that both forms give a tile of the same shape.

The tree says by its folders what it holds; a metadata.parquet beside it, which may list far more, only saves reading
the pixels once to describe them. Rows it lists that are not in the tree are kept as unusable, so the ledger names
them.
"""

import logging
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.typing import NaTType

from geoladder.data.archives.folders import walk
from geoladder.data.archives.grid import cell_of, row_column, to_lat_lon
from geoladder.data.archives.majortom import read_metadata
from geoladder.data.archives.tile import (
    TILE_COLUMNS,
    UNKNOWN_CLOUD,
    Band,
    Tile,
    UnreadableTileError,
    assemble,
    ground_m,
    halve,
    read_bands,
)
from geoladder.data.labels.bands import BANDS, BANDS_10M, BANDS_20M
from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)

ABSENT = "not in the tree"
COMBINED = "combined.tif"
CLOUD = (1, 2)
"""Values of the cloud mask that metadata count as cloud: thick and thin, but not shadow."""
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


def find_products(root: Path) -> list[str]:
    """Folders with B02.tif or combined.tif, at any depth, as POSIX paths below `root`, sorted.

    Raises:
        GeoladderError: a folder may not be looked into.
    """
    products = []
    for folder, folders, files in walk(root):
        if "B02.tif" in files or COMBINED in files:
            products.append(folder.relative_to(root).as_posix())
            folders.clear()
    return sorted(products)


def read_product(folder: Path, grid_cell: str, mask_may_lack: bool = False) -> Tile:
    """Read a product's ten bands and cloud mask at native resolution.

    Args:
        folder: of the product, named like it.
        grid_cell: its name.
        mask_may_lack: whether a cloud mask that is missing or does not fit counts as unknown.

    Raises:
        UnreadableTileError: a file is missing or unreadable, or a band has another size or dtype.
    """
    combined = (folder / COMBINED).is_file()
    bands = _combined(folder) if combined else {name: _band(folder, name) for name in BANDS}
    if not combined:
        bands["cloud_mask"] = _mask(folder, bands["B02"], mask_may_lack)
    return assemble(grid_cell, folder.name, bands, str(folder))


class Peek(NamedTuple):
    """What a product's 10 m band and cloud mask say of the whole tile."""

    lat_deg: float
    lon_deg: float
    epsg: int
    cloud_percent: float
    """0-100 of the pixels with thick or thin cloud; 0 where the mask says nothing."""
    nodata_share: float


def peek(folder: Path, mask_may_lack: bool = False) -> Peek:
    """Describe a product without reading all its bands.

    Raises:
        UnreadableTileError: as `read_product`.
    """
    if (folder / COMBINED).is_file():
        bands = _combined(folder)
        blue, mask = bands["B02"], bands["cloud_mask"]
    else:
        blue = _band(folder, "B02")
        mask = _mask(folder, blue, mask_may_lack)
    if blue.epsg is None:
        raise UnreadableTileError(f"{folder} band B02 has no coordinate system; unpack or fetch it again")
    height, width = blue.pixels.shape
    lat_deg, lon_deg = to_lat_lon(blue.epsg, *ground_m(blue.transform, width / 2, height / 2))
    cloudy = 100 * float(np.isin(mask.pixels, CLOUD).mean())
    return Peek(lat_deg, lon_deg, blue.epsg, cloudy, float((blue.pixels == 0).mean()))


def _band(folder: Path, name: str) -> Band:
    path = folder / f"{name}.tif"
    if not path.exists():
        raise UnreadableTileError(f"{path} does not exist; unpack or fetch the product again")
    return read_bands(path, str(path))[0]


def _mask(folder: Path, like: Band, may_lack: bool) -> Band:
    unknown = Band(np.full(like.pixels.shape, UNKNOWN_CLOUD, np.uint8), like.transform, like.crs)
    if may_lack and not (folder / "cloud_mask.tif").exists():
        return unknown
    mask = _band(folder, "cloud_mask")
    return unknown if may_lack and mask.pixels.shape != like.pixels.shape else mask


def _combined(folder: Path) -> dict[str, Band]:
    path = folder / COMBINED
    names = (*BANDS_10M, *BANDS_20M, "cloud_mask")
    bands = dict(zip(names, read_bands(path, str(path), len(names)), strict=True))
    if any(side % 2 for side in bands["B02"].pixels.shape):
        raise UnreadableTileError(
            f"{path} has sides of {bands['B02'].pixels.shape} pixels; even ones are expected"
        )
    coarse = halve(np.stack([bands[name].pixels for name in BANDS_20M]))
    return bands | {
        name: bands[name]._replace(pixels=pixels.astype(bands[name].pixels.dtype))
        for name, pixels in zip(BANDS_20M, coarse, strict=True)
    }
