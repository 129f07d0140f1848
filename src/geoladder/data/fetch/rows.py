"""Single rows of a remote part: which bytes they are, and the smaller part they become.

A part of MajorTOM has 500 rows of 9 MB, each a row group, and its footer says where each column of each row lies. The
footer is asked for once and kept; then only the wanted bytes come, each to its place in a file with holes, which
pyarrow reads like the whole part. The part they become says itself which rows it has, so a job that was killed before
it remembered them loses none.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from geoladder.data.archives.majortom import COLUMNS
from geoladder.data.fetch.file import DamagedError, Range, fetch_ranges
from geoladder.data.fetch.http import Server
from geoladder.data.fetch.plan import RemoteFile
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path

TIMES = ("timestamp", "product_datetime")
"""Names of the column that is kept beside those that are read."""
GAP_BYTES = 1 << 20
"""Unwanted bytes between wanted ones up to which one request is cheaper than two."""
MAGIC = b"PAR1"
ORIGIN = b"geoladder"
"""Key of the schema's metadata that says which rows of which edition a part was made of."""
TAIL_BYTES = 8
"""Of every parquet file: the footer's length, and the magic word."""


def fetch_rows(
    server: Server, file: RemoteFile, rows: Sequence[int], path: Path, footer: Path
) -> tuple[int, ...]:
    """Fetch rows of a remote part and write a part that has them, and those it had before, in their order.

    `path` is written anew, whole or not at all; each row is a row group with the columns geoladder reads. The remote
    part's footer is kept in the file `footer`. Returns the numbers on the server of the rows `path` has, ascending.

    Raises:
        GeoladderError, StoppedError: as `fetch_ranges`; or the remote part lacks a row or a column, or is no parquet
            with one row a group.
    """
    remote = _read_footer(server, file, footer)
    columns = _columns(remote, file)
    old = _rows_here(path, file)
    new = sorted(set(rows) - set(old))
    _check_rows(remote, new, file)
    complete_rows = tuple(sorted({*old, *new}))

    def write(complete: Path) -> None:
        try:
            with pq.ParquetFile(complete, metadata=remote, pre_buffer=False) as part:
                _write(path, file, columns, part, complete_rows, old)
        except DamagedError:
            footer.unlink(missing_ok=True)  # it may be of another edition of the same size
            raise

    if new:
        fetch_ranges(server, file, row_ranges(remote, new, columns), path, write)
    return complete_rows


def _rows_here(path: Path, file: RemoteFile) -> tuple[int, ...]:
    """Rows of the server's part that a local one was made of; none if it is whole, of another edition or absent."""
    try:
        origin = json.loads((pq.read_schema(path).metadata or {}).get(ORIGIN, b"{}"))
    except (pa.ArrowException, OSError):
        return ()
    return tuple(origin["rows"]) if origin.get("remote_bytes") == file.size_bytes else ()


def _read_footer(server: Server, file: RemoteFile, footer: Path) -> pq.FileMetaData:
    """The footer of a remote part: from the file `footer`, or from the server, and kept there."""
    if not footer.is_file():
        tail = server.read_end(file, TAIL_BYTES)
        size = int.from_bytes(tail[:4], "little") + TAIL_BYTES
        if tail[4:] != MAGIC or size > file.size_bytes:
            raise _no_rows(file, "no parquet footer at its end")
        data = server.read_end(file, size)
        with atomic_path(footer) as temporary:
            temporary.write_bytes(data)
    try:
        return pq.read_metadata(io.BytesIO(MAGIC + footer.read_bytes()))
    except (pa.ArrowException, OSError) as problem:
        footer.unlink()
        raise _no_rows(file, _first_line(problem)) from None


def row_ranges(part: pq.FileMetaData, rows: Sequence[int], columns: Sequence[str]) -> list[Range]:
    """Bytes of columns of rows in a part, ascending; ranges nearer than `GAP_BYTES` are joined."""
    numbers = [part.schema.to_arrow_schema().names.index(name) for name in columns]
    chunks = [part.row_group(row).column(number) for row in rows for number in numbers]
    joined: list[Range] = []
    for first, size in sorted((_first_byte(chunk), chunk.total_compressed_size) for chunk in chunks):
        if joined and first - joined[-1][1] <= GAP_BYTES:
            joined[-1] = (joined[-1][0], max(first + size, joined[-1][1]))
        else:
            joined.append((first, first + size))
    return joined


def _first_byte(chunk: pq.ColumnChunkMetaData) -> int:
    return min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)


def _write(
    path: Path,
    file: RemoteFile,
    columns: Sequence[str],
    remote: pq.ParquetFile,
    rows: Sequence[int],
    old: Sequence[int],
) -> None:
    """Write rows of a remote part into `path`, a row a group; those of `old` are taken from what it has."""
    origin = {"remote_bytes": file.size_bytes, "rows": rows}
    schema = pa.schema(
        [remote.schema_arrow.field(name) for name in columns], metadata={ORIGIN: json.dumps(origin)}
    )
    local = pq.ParquetFile(path, memory_map=True) if old else None
    # The bands are compressed already.
    options = {"compression": "none", "use_dictionary": False}
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, **options) as writer:
        for row in rows:
            source, group = (local, old.index(row)) if local and row in old else (remote, row)
            try:
                table = source.read_row_group(group, columns=columns, use_threads=False)
            except (pa.ArrowException, OSError) as problem:
                why = _first_line(problem)
                if source is remote:
                    raise DamagedError(f"row {row} of {file.name} cannot be read ({why})") from None
                raise GeoladderError(
                    f"{file.name} here has row {row} damaged ({why}); delete it, and the same command fetches it anew"
                ) from None
            writer.write_table(table.select(columns).cast(schema))


def _columns(part: pq.FileMetaData, file: RemoteFile) -> list[str]:
    """Columns of a remote part to keep."""
    names = part.schema.to_arrow_schema().names
    missing = sorted(set(COLUMNS) - set(names))
    if missing:
        raise GeoladderError(
            f"{file.name} lacks the column(s) {', '.join(missing)}; geoladder reads MajorTOM Core-S2L2A"
        )
    return [name for name in names if name in (*COLUMNS, *TIMES)]


def _check_rows(part: pq.FileMetaData, rows: Sequence[int], file: RemoteFile) -> None:
    if part.num_row_groups != part.num_rows:
        raise _no_rows(file, f"{part.num_rows} rows in {part.num_row_groups} row groups")
    strange = [row for row in rows if not 0 <= row < part.num_row_groups]
    if strange:
        raise GeoladderError(
            f"{file.name} has rows 0..{part.num_row_groups - 1}, but metadata.parquet lists row {strange[0]}; the "
            "two are of different versions: use another revision, or add --whole-parts and find them in the ledger"
        )


def _no_rows(file: RemoteFile, why: str) -> GeoladderError:
    return GeoladderError(
        f"{file.name}: {why}; single rows can be fetched of parquet with one row a group: add --whole-parts"
    )


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0]
