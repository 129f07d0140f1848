"""The verb `fetch`: its options, and what it prints. Heavy imports wait until it runs."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from geoladder.errors import GeoladderError

if TYPE_CHECKING:
    from geoladder.study.corpora import Select


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Selection:
    """Options that select tiles, under the names of the study's keys.

    Attributes:
        fraction: of grid cells, nested: 1/16.
        seed: draws the fraction (default 0).
        since: first day, such as 2018-01-01.
        until: last day.
        boxes: south, west, north, east in degrees, around tile centres; west > east crosses the date line; may be
            repeated.
        cells: text file, a grid cell like 433D_629L on each line.
        max_cloud_percent: cloud cover of a tile, 0-100.
        max_nodata_share: missing pixels of a tile, 0-1.
        min_land_share: land in a tile by a map of 12 km, 0-1.
    """

    fraction: str | None = None
    seed: int | None = None
    since: str | None = None
    until: str | None = None
    boxes: Annotated[list[tuple[float, float, float, float]] | None, Parameter(name="--box")] = None
    cells: Path | None = None
    max_cloud_percent: Annotated[float | None, Parameter(name="--max-cloud")] = None
    max_nodata_share: Annotated[float | None, Parameter(name="--max-nodata")] = None
    min_land_share: Annotated[float | None, Parameter(name="--min-land")] = None


EVERYTHING = Selection()
OPTIONS = {
    "boxes": "--box",
    "max_cloud_percent": "--max-cloud",
    "max_nodata_share": "--max-nodata",
    "min_land_share": "--min-land",
}
"""Options whose names differ from the study's keys."""


def fetch(
    url: str | None = None,
    /,
    selection: Selection = EVERYTHING,
    *,
    out: Path,
    spec: str | None = None,
    whole_parts: bool = False,
    plan: bool = False,
    verify: bool = False,
    connections: int = 4,
    group: str | None = None,
    progress: Annotated[bool, Parameter(parse=False)] = True,
) -> None:
    """Fetch the tiles of a MajorTOM archive that a selection takes.

    Args:
        url: https://host/folder or hf://datasets/owner/name@revision.
        selection: which tiles.
        out: folder of the archive.
        spec: canonical JSON of a node, with address and selection in place of the options.
        whole_parts: fetch parts whole, also where few of their tiles are wanted.
        plan: fetch metadata alone; print tiles, parts and bytes.
        verify: hash the parts that are here, and fetch again what is damaged.
        connections: most at one time.
        group: only every N-th part, from the I-th: I/N, such as 1/8 to 8/8.
        progress: draw a progress bar.
    """
    from geoladder.data.fetch import archive
    from geoladder.data.fetch.plan import describe, read_plan

    url, select = _wanted(url, selection, spec)
    parts = group and _group(group)
    try:
        shared = read_plan(out) if parts else None
        # Jobs of one scatter must agree on the parts, so the plan is made before, once.
        if parts and not (shared and shared.is_of(select, whole_parts)):
            raise GeoladderError(
                f"{out} has no plan of this selection for groups to share; first run the same command on {url} with "
                "--plan and without --group"
            )
        made = archive.prepare(url, select, out, connections, again=plan, whole_parts=whole_parts)
        print(describe(made))  # noqa: T201
        if not plan:
            print(archive.fetch(made, out, connections, parts or None, bar=progress, verify=verify))  # noqa: T201
    except KeyboardInterrupt:
        raise GeoladderError("interrupted; what came is kept, and the same command continues") from None


def _wanted(url: str | None, selection: Selection, spec: str | None) -> tuple[str, "Select"]:
    """Address and selection, from the spec of a node or from options."""
    from pydantic import ValidationError

    from geoladder.study.corpora import Select
    from geoladder.study.specs import FetchSpec

    given = {key: value for key, value in asdict(selection).items() if value is not None}
    if spec and not (url or given):
        node = FetchSpec.from_json(spec)
        return node.url, node.select
    if spec or url is None:
        raise GeoladderError("give either an address, and options that select tiles, or --spec with both")
    try:
        return url, Select.model_validate(given)
    except ValidationError as problem:
        raise GeoladderError("; ".join(map(_fault_text, problem.errors()))) from None


def _fault_text(fault: Any) -> str:  # noqa: ANN401 - pydantic's own type is private
    """A fault of a selection, under the name of its option."""
    key = str(fault["loc"][0]) if fault["loc"] else ""
    option = OPTIONS.get(key, f"--{key}") if key else "selection"
    return f"{option}: {fault['msg'].removeprefix('Value error, ')} (got {fault['input']!r})"


def _group(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise GeoladderError(f"--group {text} is no group; write 1/8 to 8/8 for eight groups")
    return int(index), int(count)
