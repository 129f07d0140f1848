"""Whether what came is what was wanted: parts are opened when they arrive, and hashed again when somebody asks."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from geoladder.bounds import MAX_ROW_BYTES, MAX_TABLE_BYTES, check_columns
from geoladder.data.fetch import plan as plans
from geoladder.data.fetch.file import DamagedError
from geoladder.runs.digest import sha256


def check_metadata(path: Path) -> None:
    """Raise `DamagedError` where a metadata.parquet cannot be read from end to end.

    It may have columns of no use here, such as outlines, that are as large as all others.
    """
    _read(path, lambda file: check_columns(file.metadata, file.schema_arrow.names, None, 2 * MAX_TABLE_BYTES))


def check_part(path: Path, rows: int, whole: bool = True) -> None:
    """Raise `DamagedError` where an image part has fewer than so many rows or, if `whole`, one that cannot be read.

    Where pages of the part have checksums, they are compared.
    """

    def check(file: pq.ParquetFile) -> None:
        if file.metadata.num_rows < rows:
            raise DamagedError(
                f"it has {file.metadata.num_rows} rows, but metadata.parquet lists row {rows - 1}"
            )
        for group in range(file.num_row_groups):
            check_columns(file.metadata, file.schema_arrow.names, [group], MAX_ROW_BYTES)

    _read(path, check, whole)


def _read(path: Path, check: Callable[[pq.ParquetFile], None], whole: bool = True) -> None:
    """Open a parquet, check its header, and read each row group and forget it."""
    try:
        with pq.ParquetFile(path, memory_map=True, page_checksum_verification=True) as file:
            check(file)
            for group in range(file.num_row_groups if whole else 0):
                file.read_row_group(group, use_threads=False)
    except (pa.ArrowException, OSError) as problem:
        first_line = str(problem).partition("\n")[0]
        raise DamagedError(f"it cannot be read ({first_line})") from None


def damaged_parts(folder: Path, parts: Iterable[plans.Part]) -> Iterator[plans.Part]:
    """Parts that are complete here, but have other bytes than came; reads all of them."""
    for part in parts:
        record = plans.read_record(folder, part.file)
        if record and sha256(folder / part.file.name) != record.sha256:
            yield part
