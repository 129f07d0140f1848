"""Which tiles of a remote archive to fetch, and what that costs before a byte of imagery is fetched.

Unusual: a selection is decided tile by tile from metadata, never as the first files of an archive, which lie in
Antarctica. The fraction is drawn from all cells of the archive before the other filters, so that a smaller fraction
lies inside a larger one and loosening a filter only adds tiles.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Any, Self

import numpy as np
import pandas as pd

from geoladder.data.split import nested_cells
from geoladder.errors import GeoladderError

_PART_NAME = r"[A-Za-z0-9][\w.-]*\.parquet"


@dataclass(frozen=True)
class Selection:
    """Which tiles to take. Limits are inclusive; None means no limit.

    Raises:
        GeoladderError: a limit that no tile can meet, naming it and what is allowed.
    """

    fraction: Fraction = Fraction(1)
    """Share of the archive's grid cells, nested for one seed."""
    seed: int = 0
    max_cloud_percent: float | None = None
    max_nodata_share: float | None = None
    since: date | None = None
    until: date | None = None
    """Last day, whole."""
    box: tuple[float, float, float, float] | None = None
    """(south, west, north, east) in degrees around tile centres; west > east crosses the date line."""

    def __post_init__(self) -> None:
        """Refuse limits that no tile can meet."""
        if not 0 < self.fraction <= 1:
            raise GeoladderError(f"fraction {self.fraction} must lie in (0, 1], such as 1/16")
        for name, value, top in (
            ("max cloud", self.max_cloud_percent, 100),
            ("max nodata", self.max_nodata_share, 1),
        ):
            if value is not None and not 0 <= value <= top:
                raise GeoladderError(f"{name} {value} must lie in 0..{top}")
        if self.seed < 0:
            raise GeoladderError(f"seed {self.seed} must not be negative")
        if self.since and self.until and self.since > self.until:
            raise GeoladderError(f"since {self.since} is after until {self.until}")
        if self.box is not None:
            south, west, north, east = self.box
            if not (-90 <= south < north <= 90 and all(-180 <= lon <= 180 for lon in (west, east))):
                raise GeoladderError(
                    f"box {south} {west} {north} {east} is no region; give south west north east in degrees, "
                    "latitudes in -90..90 with south below north, longitudes in -180..180"
                )

    def as_json(self) -> dict[str, Any]:
        """All limits as JSON values."""
        values = asdict(self)
        days = {name: day and day.isoformat() for name, day in (("since", self.since), ("until", self.until))}
        return values | days | {"fraction": str(self.fraction), "box": list(self.box) if self.box else None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `as_json`."""
        days = {name: values[name] and date.fromisoformat(values[name]) for name in ("since", "until")}
        box = tuple(values["box"]) if values["box"] else None
        return cls(**{**values, **days, "fraction": Fraction(values["fraction"]), "box": box})


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
    """One image part to fetch, whole, and how many of its tiles are wanted."""

    file: RemoteFile
    tiles: int


@dataclass(frozen=True)
class FetchPlan:
    """What a selection means: parts in order of their names."""

    source: str
    """Folder of the archive as an http(s) URL."""
    selection: Selection
    parts: tuple[Part, ...]
    archive_tiles: int
    """Tiles the whole archive lists."""

    @property
    def tiles(self) -> int:
        """Tiles selected."""
        return sum(part.tiles for part in self.parts)

    @property
    def size_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.file.size_bytes for part in self.parts)

    def group(self, index: int, count: int) -> tuple[Part, ...]:
        """Every `count`-th part, beginning with the `index`-th (from 1): the share of one of `count` jobs."""
        if not 1 <= index <= count:
            raise GeoladderError(
                f"group {index}/{count} does not exist; groups go from 1/{count} to {count}/{count}"
            )
        return self.parts[index - 1 :: count]


def select(metadata: pd.DataFrame, selection: Selection) -> np.ndarray:
    """Decide which rows of an archive are wanted.

    Args:
        metadata: table of `MajorTom.metadata`.
        selection: limits.

    Returns:
        bool, one per row. A row whose value for a limited quantity is missing is not wanted.
    """
    wanted = np.ones(len(metadata), bool)
    if selection.max_cloud_percent is not None:
        wanted &= (metadata["cloud_percent"] <= selection.max_cloud_percent).to_numpy()
    if selection.max_nodata_share is not None:
        wanted &= (metadata["nodata_share"] <= selection.max_nodata_share).to_numpy()
    if selection.since is not None:
        wanted &= (metadata["timestamp"] >= pd.Timestamp(selection.since)).to_numpy()
    if selection.until is not None:
        wanted &= (metadata["timestamp"] < pd.Timestamp(selection.until + timedelta(days=1))).to_numpy()
    if selection.box is not None:
        wanted &= _inside(metadata, selection.box)
    if selection.fraction < 1:
        cells = nested_cells(metadata["grid_cell"].unique(), selection.fraction, selection.seed)
        wanted &= metadata["grid_cell"].isin(cells).to_numpy()
    return wanted


def _inside(metadata: pd.DataFrame, box: tuple[float, float, float, float]) -> np.ndarray:
    south, west, north, east = box
    lat_deg, lon_deg = metadata["lat_deg"].to_numpy(), metadata["lon_deg"].to_numpy()
    after_west, before_east = lon_deg >= west, lon_deg <= east
    between = after_west & before_east if west <= east else after_west | before_east
    return (lat_deg >= south) & (lat_deg <= north) & between


def plan_fetch(
    source: str,
    metadata: pd.DataFrame,
    selection: Selection,
    list_files: Callable[[list[str]], Mapping[str, RemoteFile]],
) -> FetchPlan:
    """Work out tiles, parts and bytes of a selection.

    Args:
        source: folder of the archive as an http(s) URL.
        metadata: table of `MajorTom.metadata`.
        selection: limits.
        list_files: tells size (and checksum) of files by name; asked once, for the parts the selection needs.

    Raises:
        GeoladderError: no tile is selected, metadata names a part that is no file name, or the server lacks a part.
    """
    chosen = metadata[select(metadata, selection)]
    if chosen.empty:
        raise GeoladderError(
            f"the selection takes none of the {len(metadata)} tiles; loosen --fraction, --max-cloud, --max-nodata, "
            "--since, --until or --box"
        )
    strange = chosen.loc[~chosen["part"].str.fullmatch(_PART_NAME), "part"]
    if len(strange):
        raise GeoladderError(
            f"metadata.parquet names the part '{strange.iloc[0]}' for {chosen['grid_cell'][strange.index[0]]}; "
            "a file name like part_00001.parquet is expected: the metadata is damaged"
        )
    tiles = chosen["part"].value_counts().sort_index()
    names = [f"images/{part}" for part in tiles.index]
    listed = list_files(names)
    missing = [name for name in names if name not in listed]
    if missing:
        raise GeoladderError(
            f"metadata.parquet lists {len(missing)} part(s) the server does not have, the first {missing[0]}; "
            "metadata and images are of different versions: use another revision"
        )
    parts = (Part(listed[name], int(count)) for name, count in zip(names, tiles, strict=True))
    return FetchPlan(source, selection, tuple(parts), len(metadata))


def describe(plan: FetchPlan) -> str:
    """Tiles, parts and bytes of a plan, in a few lines for a terminal."""
    whole = plan.size_bytes / len(plan.parts)
    share = 100 * plan.tiles / plan.archive_tiles
    digits = max(0, 1 - math.floor(math.log10(share))) if share < 100 else 0
    return "\n".join(
        (
            f"tiles  {plan.tiles} of {plan.archive_tiles} ({share:.{digits}f} %)",
            f"parts  {len(plan.parts)}, {plan.tiles / len(plan.parts):.1f} wanted tiles in each on average",
            f"bytes  {plan.size_bytes} ({human(plan.size_bytes)}), {human(whole)} a part; parts are fetched whole",
        )
    )


def human(size_bytes: float) -> str:
    """Bytes in decimal units: 4300000000 -> `4.3 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} TB"
