"""Which tiles of a remote archive a selection takes, and which parts hold them."""

from collections.abc import Callable, Mapping

import pandas as pd

from geoladder.data.fetch.plan import FetchPlan, Part, RemoteFile
from geoladder.data.index.select import selected
from geoladder.errors import GeoladderError
from geoladder.study.corpora import Select

WHOLE_SHARE = 0.75
"""Of a part's tiles; where more are wanted, the whole part is fetched."""
_PART_NAME = r"[A-Za-z0-9][\w.-]*\.parquet"


def plan_fetch(
    source: str,
    metadata: pd.DataFrame,
    select: Select,
    list_files: Callable[[list[str]], Mapping[str, RemoteFile]],
    whole_parts: bool = False,
) -> FetchPlan:
    """Work out tiles, parts and bytes of a selection.

    Args:
        source: folder of the archive as an http(s) URL.
        metadata: table of `MajorTom.metadata`.
        select: limits.
        list_files: tells size (and checksum) of files by name; asked once, for the parts the selection needs.
        whole_parts: fetch no single rows.

    Raises:
        GeoladderError: no tile is selected, metadata names a part that is no file name, or the server lacks a part.
    """
    chosen = metadata[selected(metadata, select)]
    if chosen.empty:
        raise GeoladderError(f"the selection takes none of the {len(metadata)} tiles; loosen its limits")
    strange = chosen.loc[~chosen["part"].str.fullmatch(_PART_NAME), "part"]
    if len(strange):
        raise GeoladderError(
            f"metadata.parquet names the part '{strange.iloc[0]}' for {chosen['grid_cell'][strange.index[0]]}; "
            "a file name like part_00001.parquet is expected: the metadata is damaged"
        )
    rows_of = {str(part): rows.to_list() for part, rows in chosen.groupby("part")["row"]}
    listed_of = metadata["part"].value_counts()
    names = [f"images/{part}" for part in rows_of]
    listed = list_files(names)
    missing = [name for name in names if name not in listed]
    if missing:
        raise GeoladderError(
            f"metadata.parquet lists {len(missing)} part(s) the server does not have, the first {missing[0]}; "
            "metadata and images are of different versions: use another revision"
        )
    parts = (
        _part(listed[f"images/{part}"], rows, int(listed_of[part]), whole_parts)
        for part, rows in rows_of.items()
    )
    return FetchPlan(source, select, whole_parts, tuple(parts), len(metadata))


def _part(file: RemoteFile, rows: list[int], listed: int, whole: bool) -> Part:
    whole = whole or len(rows) > WHOLE_SHARE * listed
    return Part(file, len(rows), listed, None if whole else tuple(sorted(set(rows))))
