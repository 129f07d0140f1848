"""How large an archive is: from its own metadata where that is on disk, else from what was published of it.

Planning must work before a byte is fetched, so published totals stand in, and say that they do.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow.parquet as pq

from geoladder.data.fetch.plan import read_plan
from geoladder.study.corpora import Corpus, Earth

TILE_PX = 1068
"""Side of a MajorTOM tile, 10 m pixels."""
BYTES_PER_PIXEL = 23e12 / 2_245_886 / TILE_PX**2
"""Of an archive with twelve bands, per 10 m pixel: MajorTOM Core-S2L2A has 23 TB in 2,245,886 tiles."""


class ArchiveSize(NamedTuple):
    """An archive before cleaning."""

    tiles: int
    tile_px: int
    """Side, 10 m pixels."""
    size_bytes: int
    told_by: Literal["metadata", "published", "study", "fetch plan"]


PUBLISHED: dict[str, ArchiveSize] = {
    "majortom": ArchiveSize(2_245_886, TILE_PX, 23 * 10**12, "published"),
    # 516 px quadrants of 2 TB at the same bytes per pixel; the number of tiles is not published.
    "fasttom": ArchiveSize(round(2e12 / BYTES_PER_PIXEL / 516**2), 516, 2 * 10**12, "published"),
    # 0.5 TB of uncompressed patches of 128 px, ten bands, two bytes.
    "globe": ArchiveSize(round(0.5e12 / (128**2 * 10 * 2)), 128, 5 * 10**11, "published"),
}

LIKE = {"fasttom_tree": "fasttom", "globe": "globe"}
"""What sources hold that are no whole tiles of MajorTOM."""


def archive_size(corpus: Corpus, earth: Earth, folder: Path) -> ArchiveSize:
    """Tiles, their side and the bytes of an archive that lies, or will, in `folder`.

    Of a real one the tiles are counted in its metadata.parquet where that is on disk. One derived from another
    archive has that one's bytes, since those are fetched. Of one with a `url` only the selected tiles count: as its
    fetching was planned, or before that by the fraction alone.
    """
    if corpus.source == "synthetic":
        size_bytes = round(corpus.tiles * earth.tile_px**2 * BYTES_PER_PIXEL)
        return ArchiveSize(corpus.tiles, earth.tile_px, size_bytes, "study")
    derived = corpus.derive != "none"
    whole = PUBLISHED[LIKE.get(corpus.source, corpus.derive if derived else corpus.like)]
    if derived:
        whole = whole._replace(size_bytes=PUBLISHED["majortom"].size_bytes)
    if corpus.url is not None:
        fraction = float(corpus.select.fraction)
        tiles = max(1, round(whole.tiles * fraction))
        plan = read_plan(folder)
        if plan is None or plan.select != corpus.select:
            return whole._replace(tiles=tiles, size_bytes=round(whole.size_bytes * fraction))
        return ArchiveSize(tiles if derived else plan.tiles, whole.tile_px, plan.size_bytes, "fetch plan")
    metadata = folder / "metadata.parquet"
    if not derived and metadata.is_file():
        tiles = pq.ParquetFile(metadata).metadata.num_rows
        return ArchiveSize(tiles, whole.tile_px, round(tiles * whole.size_bytes / whole.tiles), "metadata")
    return whole
