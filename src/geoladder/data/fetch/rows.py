"""Single rows of a remote part: which bytes they are, and the smaller part they become.

Unusual: a part of MajorTOM has 500 rows of 9 MB, each a row group, and its footer says where each column of each row
lies. The footer is asked for once and kept; then only the wanted bytes come, one range after another, and pyarrow
reads them through a window that shows them where they lay on the server. The part they become says itself which rows
it has, so a job that was killed before it remembered them loses none.
"""

import bisect
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from geoladder.data.archives.majortom import COLUMNS
from geoladder.data.fetch.disk import sha256
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
    server: Server,
    file: RemoteFile,
    rows: Sequence[int],
    path: Path,
    there: Sequence[int],
    footer: Path,
    stop: Event,
    advance: Callable[[int], None] = lambda _: None,
) -> str:
    """Fetch rows of a remote part and write a part that has them, and those it had before, in their order.

    Args:
        server: where from.
        file: the remote part.
        rows: numbers of rows on the server that `path` is to have.
        path: the local part; written anew, whole or not at all.
        there: numbers of the rows it has, ascending; empty where it does not exist. They stay.
        footer: where the remote part's footer is kept.
        stop: set by another thread to end between two blocks.
        advance: told the bytes written.

    Returns:
        SHA-256 of `path`. Its rows are the sorted union of `rows` and `there`; each is a row group with the columns
        geoladder reads.

    Raises:
        GeoladderError: the remote part lacks a row or a column, is no parquet with one row a group, or as
            `fetch_ranges`.
        StoppedError: `stop` was set.
    """
    remote = read_footer(server, file, footer, stop)
    columns = _columns(remote, file)
    new = sorted(set(rows) - set(there))
    _check_rows(remote, new, file)
    if not new:
        return sha256(path)
    ranges = row_ranges(remote, new, columns)

    def keep(complete: Path) -> str:
        with complete.open("rb") as handle:
            window = cast(BinaryIO, Window(handle, ranges, file.size_bytes))
            parts = {
                "remote": pq.ParquetFile(window, metadata=remote, pre_buffer=False),
                **({"local": pq.ParquetFile(path, memory_map=True)} if there else {}),
            }
            places = {row: ("remote", row) for row in new} | {
                row: ("local", position) for position, row in enumerate(there)
            }
            try:
                with atomic_path(path) as temporary:
                    _write(temporary, parts, dict(sorted(places.items())), columns, file)
            except DamagedError:
                footer.unlink(missing_ok=True)  # it may be of another edition of the same size
                raise
        return sha256(path)

    return fetch_ranges(server, file, ranges, path, keep, stop, advance)


def rows_here(path: Path, file: RemoteFile) -> tuple[int, ...]:
    """Rows of the server's part that a local one was made of; none if it is whole, of another edition or absent."""
    try:
        origin = json.loads((pq.read_schema(path).metadata or {}).get(ORIGIN, b"{}"))
    except (pa.ArrowException, OSError):
        return ()
    return tuple(origin["rows"]) if origin.get("remote_bytes") == file.size_bytes else ()


def read_footer(server: Server, file: RemoteFile, kept: Path, stop: Event) -> pq.FileMetaData:
    """The footer of a remote part: from `kept`, or from the server, and kept.

    Raises:
        GeoladderError: the file is no parquet, or as `Server.read_range`.
        StoppedError: `stop` was set.
    """
    if not kept.is_file():
        tail = server.read_range(file, file.size_bytes - TAIL_BYTES, file.size_bytes, stop)
        length = int.from_bytes(tail[:4], "little") + TAIL_BYTES
        if tail[4:] != MAGIC or length > file.size_bytes:
            raise _no_parquet(file, "no parquet footer at its end")
        data = server.read_range(file, file.size_bytes - length, file.size_bytes, stop)
        with atomic_path(kept) as temporary:
            temporary.write_bytes(data)
    try:
        return pq.read_metadata(io.BytesIO(MAGIC + kept.read_bytes()))
    except (pa.ArrowException, OSError) as problem:
        kept.unlink()
        raise _no_parquet(file, _first_line(problem)) from None


def row_ranges(part: pq.FileMetaData, rows: Sequence[int], columns: Sequence[str]) -> list[Range]:
    """Bytes of columns of rows in a part; ranges nearer than `GAP_BYTES` are joined.

    Returns:
        First byte and the byte behind the last of each, ascending.
    """
    numbers = [part.schema.to_arrow_schema().names.index(name) for name in columns]
    joined: list[Range] = []
    for first, behind in sorted(_chunk(part, row, number) for row in rows for number in numbers):
        if joined and first - joined[-1][1] <= GAP_BYTES:
            joined[-1] = (joined[-1][0], max(behind, joined[-1][1]))
        else:
            joined.append((first, behind))
    return joined


def _chunk(part: pq.FileMetaData, row: int, column: int) -> Range:
    chunk = part.row_group(row).column(column)
    first = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    return first, first + chunk.total_compressed_size


class Window(io.RawIOBase):
    """A remote file of which some ranges are here, one after another in a local file."""

    def __init__(self, handle: BinaryIO, ranges: Sequence[Range], size_bytes: int) -> None:
        """Show `ranges` of a file of `size_bytes`, which lie in `handle`."""
        self._handle, self._ranges, self._size_bytes = handle, ranges, size_bytes
        self._position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move as in any file."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Position in the remote file."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read from one of the ranges.

        Raises:
            OSError: bytes that are not here.
        """
        number = bisect.bisect_right(self._ranges, (self._position, self._size_bytes + 1)) - 1
        first, behind = self._ranges[number] if number >= 0 else (0, 0)
        if size < 0 or not first <= self._position <= self._position + size <= behind:
            raise OSError(f"bytes {self._position} to {self._position + size} were not fetched")
        before = sum(behind - first for first, behind in self._ranges[:number])
        self._handle.seek(before + self._position - first)
        self._position += size
        return self._handle.read(size)


def _write(
    path: Path,
    parts: dict[str, pq.ParquetFile],
    places: Mapping[int, tuple[str, int]],
    columns: Sequence[str],
    file: RemoteFile,
) -> None:
    """Copy rows, each from (part, row group), into one parquet file, a row a group, and say in it which they are."""
    fields = [parts["remote"].schema_arrow.field(name) for name in columns]
    origin = {"remote_bytes": file.size_bytes, "rows": list(places)}
    schema = pa.schema(fields, metadata={ORIGIN: json.dumps(origin)})
    # The bands are compressed already.
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for part, row in places.values():
            try:
                table = parts[part].read_row_group(row, columns=list(columns), use_threads=False)
            except (pa.ArrowException, OSError) as problem:
                if part == "local":
                    raise GeoladderError(
                        f"{file.name} here has row {row} damaged ({_first_line(problem)}); delete it, and the same "
                        "command fetches it anew"
                    ) from None
                raise DamagedError(
                    f"row {row} of {file.name} cannot be read ({_first_line(problem)})"
                ) from None
            writer.write_table(table.select(list(columns)).cast(schema))


def _columns(part: pq.FileMetaData, file: RemoteFile) -> list[str]:
    names = part.schema.to_arrow_schema().names
    missing = sorted(set(COLUMNS) - set(names))
    if missing:
        raise GeoladderError(
            f"{file.name} lacks the column(s) {', '.join(missing)}; geoladder reads MajorTOM Core-S2L2A"
        )
    return [name for name in names if name in (*COLUMNS, *TIMES)]


def _check_rows(part: pq.FileMetaData, rows: Sequence[int], file: RemoteFile) -> None:
    if part.num_row_groups != part.num_rows:
        raise _no_parquet(file, f"{part.num_rows} rows in {part.num_row_groups} row groups")
    strange = [row for row in rows if not 0 <= row < part.num_row_groups]
    if strange:
        raise GeoladderError(
            f"{file.name} has rows 0..{part.num_row_groups - 1}, but metadata.parquet lists row {strange[0]}; the "
            "two are of different versions: use another revision, or add --whole-parts and find them in the ledger"
        )


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0]


def _no_parquet(file: RemoteFile, why: str) -> GeoladderError:
    return GeoladderError(
        f"{file.name}: {why}; single rows can be fetched of parquet with one row a group: add --whole-parts"
    )
