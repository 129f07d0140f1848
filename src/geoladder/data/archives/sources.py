"""Which reader opens an archive: one function for index, chips and training, whatever the layout.

Unusual: the layout is stated by the study, and checked against what lies in the folder, so a wrong path or a zip that
was never unpacked is explained at once and not as a missing file somewhere.
"""

import os
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Literal

from geoladder.data.archives.fasttom import FastTom, Limits
from geoladder.data.archives.fasttom_tree import FastTomTree
from geoladder.data.archives.globe import Globe
from geoladder.data.archives.globe_files import is_globe_name
from geoladder.data.archives.majortom import MajorTom
from geoladder.data.archives.tile import TileSource
from geoladder.data.archives.tile_tree import TileTree
from geoladder.data.archives.zips import unpacking
from geoladder.errors import GeoladderError
from geoladder.study.corpora import RealSource
from geoladder.study.specs import Layout

Found = Literal["majortom", "tree", "fasttom_tree", "globe"]
EXAMINED_FILES = 20_000
"""A tree of millions of files shows in its first ones what it is."""
SHOWN_NAMES = 8
LOOKS: dict[Found, str] = {
    "majortom": "metadata.parquet and images/part_*.parquet",
    "tree": "<row>/<row>_<column>/<product>/B02.tif or combined.tif",
    "fasttom_tree": "<row>/<product>/B02.tif and metadata.json",
    "globe": "<Sentinel-2 product>_{train,val}_s2.npy",
}


def open_archive(folder: Path, layout: Layout | None = None) -> TileSource:
    """Open an archive of tiles.

    Args:
        folder: of the archive.
        layout: how it is laid out, and what of each tile counts; None: MajorTOM parquet, whole tiles.

    Raises:
        GeoladderError: the folder is missing, may not be read, holds another layout or an unpacked zip; says which.
    """
    folder, layout = Path(folder), layout or Layout()
    names = _list(folder)
    source = layout.source
    if source == "auto":
        source = detect(folder)
    elif source == "majortom" and "metadata.parquet" not in names:
        raise GeoladderError(_explain(folder, source))
    reader = _reader(folder, source, layout)
    if layout.derive == "fasttom":
        return FastTom(reader, Limits(layout.water_raster, layout.max_ice_share, layout.koppen_raster))
    return reader


def _reader(folder: Path, source: RealSource, layout: Layout) -> TileSource:
    try:
        match source:
            case "tree":
                return TileTree(folder)
            case "fasttom_tree":
                return FastTomTree(folder)
            case "globe":
                return Globe(folder, layout.climate)
            case _:
                return MajorTom(folder)
    except GeoladderError as problem:
        found = _found(folder)
        if found == source:
            raise
        raise GeoladderError(f"{problem}. {_explain(folder, source)}") from None


def detect(folder: Path) -> Found:
    """Which layout a folder has, told by its files.

    Raises:
        GeoladderError: none that is known; lists what was found, and how to unpack a zip.
    """
    found = _found(folder)
    if found is None:
        raise GeoladderError(_explain(folder, "auto"))
    return found


def _found(folder: Path) -> Found | None:
    if (folder / "metadata.parquet").is_file() and (folder / "images").is_dir():
        return "majortom"
    for parent, _, names in islice(os.walk(folder), EXAMINED_FILES):
        if "combined.tif" in names or "B02.tif" in names:
            return "fasttom_tree" if "metadata.json" in names else "tree"
        if any(is_globe_name(name) for name in names):
            return "globe"
        if not parent:
            break
    return None


def _explain(folder: Path, source: RealSource) -> str:
    found = _found(folder)
    if found is not None:
        return (
            f"{folder} looks like `source: {found}` ({LOOKS[found]}), but the study says `source: {source}`; "
            "change one of them"
        )
    zips = unpacking(folder)
    if zips:
        return f"{folder} is no archive yet: {zips}"
    wanted = "; ".join(f"{name}: {look}" for name, look in LOOKS.items() if source in ("auto", name))
    return f"{folder} holds no archive of a known layout ({wanted}). It holds {_contents(folder)}"


def _contents(folder: Path) -> str:
    names = sorted(_list(folder))
    kinds = Counter(Path(name).suffix or "no suffix" for name in names)
    if not names:
        return "nothing"
    shown = ", ".join(names[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(SHOWN_NAMES))
    return f"{shown} ({counts}); check the corpus' `path`"


def _list(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  (names are all that is asked for)
    except FileNotFoundError:
        raise GeoladderError(f"no folder at {folder}; check the corpus' `path`") from None
    except OSError as problem:
        raise GeoladderError(
            f"{folder} cannot be listed ({problem}); give the right to read and enter it (chmod u+rx)"
        ) from None
