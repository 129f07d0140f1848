"""Which reader opens an archive: one function for index, chips and training, whatever the layout.

The layout is stated by the study, and checked against what lies in the folder, so a wrong path or a zip that was
never unpacked is explained at once and not as a missing file somewhere.
"""

import os
from collections import Counter
from itertools import islice
from pathlib import Path

from geoladder.data.archives.fasttom import FastTom
from geoladder.data.archives.folders import refuse, unpacking
from geoladder.data.archives.globe import Globe, is_globe_name
from geoladder.data.archives.majortom import MajorTom
from geoladder.data.archives.tile import TileSource
from geoladder.data.archives.tile_tree import FastTomTree, TileTree
from geoladder.errors import GeoladderError
from geoladder.study.corpora import ArchiveSource, RealSource
from geoladder.study.specs import Layout

EXAMINED_FOLDERS = 20_000
"""A tree of millions of files shows in its first ones what it is."""
SHOWN_NAMES = 8

READERS: dict[ArchiveSource, type[MajorTom | TileTree | Globe]] = {
    "majortom": MajorTom,
    "tree": TileTree,
    "fasttom_tree": FastTomTree,
    "globe": Globe,
}


def open_archive(folder: Path, layout: Layout | None = None) -> TileSource:
    """Open an archive of tiles; without `layout` it is MajorTOM parquet, whole tiles.

    GeoladderError where the folder is missing, may not be read, holds another layout or a zip; says which.
    """
    folder, layout = Path(folder), layout or Layout()
    names = _names(folder)
    source = detect(folder) if layout.source == "auto" else layout.source
    if source is None or (source == "majortom" and "metadata.parquet" not in names):
        raise GeoladderError(_explain(folder, layout.source))
    try:
        reader = Globe(folder, layout.climate) if source == "globe" else READERS[source](folder)
    except GeoladderError as problem:
        if detect(folder) == source:
            raise
        raise GeoladderError(f"{problem}. {_explain(folder, source)}") from None
    return FastTom(reader, layout) if layout.derive == "fasttom" else reader


def detect(folder: Path) -> ArchiveSource | None:
    """Which layout a folder has, told by its files; None: no known one."""
    if (folder / "metadata.parquet").is_file() and (folder / "images").is_dir():
        return "majortom"
    for _, _, names in islice(os.walk(folder), EXAMINED_FOLDERS):
        if "combined.tif" in names or "B02.tif" in names:
            return "fasttom_tree" if "metadata.json" in names else "tree"
        if any(is_globe_name(name) for name in names):
            return "globe"
    return None


def _explain(folder: Path, source: RealSource) -> str:
    other = detect(folder)
    if other is not None:
        return (
            f"{folder} looks like `source: {other}` ({READERS[other].files}), but the study says `source: {source}`; "
            "change one of them"
        )
    zips = unpacking(folder)
    if zips:
        return f"{folder} is no archive yet: {zips}"
    layouts = "; ".join(
        f"{name}: {reader.files}" for name, reader in READERS.items() if source in ("auto", name)
    )
    return f"{folder} holds no archive of a known layout ({layouts}). It holds {_contents(folder)}"


def _contents(folder: Path) -> str:
    names = sorted(_names(folder))
    kinds = Counter(Path(name).suffix or "no suffix" for name in names)
    if not names:
        return "nothing"
    shown = ", ".join(names[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(SHOWN_NAMES))
    return f"{shown} ({counts}); check the corpus' `path`"


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  (names are enough)
    except FileNotFoundError:
        raise GeoladderError(f"no folder at {folder}; check the corpus' `path`") from None
    except OSError as problem:
        refuse(problem)
