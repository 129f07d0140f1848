"""What to fetch of a remote archive, part by part, and what that costs before a byte of imagery is fetched.

Of a part only the rows that are wanted come, unless most of them are; then it comes whole, as one stream whose
checksum can be verified. What single rows will cost is estimated from the mean row of their part, since exact sizes
stand in the footers of the parts.
"""

import math

from pydantic.dataclasses import dataclass

from geoladder.errors import GeoladderError
from geoladder.study.corpora import Select

CHIPS_PER_TILE = (1068 // 128) ** 2
"""Of 128 px in a tile of MajorTOM Core."""


@dataclass(frozen=True)
class RemoteFile:
    """One file on the server, as the server lists it."""

    name: str
    """Path below the archive's folder, such as `images/part_00001.parquet`."""
    size_bytes: int
    sha256: str | None = None
    """Where the server publishes it."""


@dataclass(frozen=True)
class Part:
    """One image part of which tiles are wanted."""

    file: RemoteFile
    tiles: int
    """Wanted."""
    listed: int
    """Tiles of the part by the archive's metadata."""
    rows: tuple[int, ...] | None = None
    """Those to fetch, ascending; None: the whole part."""

    @property
    def size_bytes(self) -> int:
        """Bytes to fetch; of rows an estimate."""
        size = self.file.size_bytes
        return size if self.rows is None else round(size * len(self.rows) / self.listed)


@dataclass(frozen=True)
class FetchPlan:
    """What a selection means: parts in order of their names."""

    source: str
    """Folder of the archive as an http(s) URL."""
    select: Select
    whole_parts: bool
    """Whether no part may be fetched by rows."""
    parts: tuple[Part, ...]
    archive_tiles: int
    """Tiles the whole archive lists."""

    @property
    def tiles(self) -> int:
        """Tiles selected."""
        return sum(part.tiles for part in self.parts)

    @property
    def size_bytes(self) -> int:
        """Bytes to fetch."""
        return sum(part.size_bytes for part in self.parts)

    def is_of(self, select: Select, whole_parts: bool) -> bool:
        """Whether it was made for this selection."""
        return (self.select, self.whole_parts) == (select, whole_parts)

    def group(self, index: int, count: int) -> tuple[Part, ...]:
        """Every `count`-th part, beginning with the `index`-th (from 1): the share of one of `count` jobs."""
        if not 1 <= index <= count:
            raise GeoladderError(
                f"group {index}/{count} does not exist; groups go from 1/{count} to {count}/{count}"
            )
        return self.parts[index - 1 :: count]


def describe(plan: FetchPlan) -> str:
    """Tiles, chips, parts and bytes of a plan, in a few lines for a terminal."""
    whole = sum(part.rows is None for part in plan.parts)
    about = "" if whole == len(plan.parts) else "about "
    share = 100 * plan.tiles / plan.archive_tiles
    digits = max(0, 1 - math.floor(math.log10(share))) if share < 100 else 0
    return "\n".join(
        (
            f"tiles  {plan.tiles} of {plan.archive_tiles} ({share:.{digits}f} %)",
            f"chips  up to {plan.tiles * CHIPS_PER_TILE} of 128 px, before clouds",
            f"parts  {len(plan.parts)}, {plan.tiles / len(plan.parts):.1f} wanted tiles in each on average; "
            f"{whole} of them are fetched whole",
            f"bytes  {about}{plan.size_bytes} ({human(plan.size_bytes)})",
        )
    )


def human(size_bytes: float) -> str:
    """Bytes in decimal units: 4300000000 -> `4.3 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} TB"
