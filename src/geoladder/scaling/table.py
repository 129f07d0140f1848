"""A table of runs from a file, whatever program wrote it.

Text with a separator, JSON lines, or parquet, plain or compressed: told by content, never by the file's name. The
file is read once, so that a pipe will do, and its digest is of the bytes that were parsed.
"""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from geoladder.errors import GeoladderError
from geoladder.runs.digest import intact
from geoladder.scaling.delimited import NUMBER, lines_of, read_delimited, refuse_twins
from geoladder.text import decode

LARGEST_BYTES = 64 * 2**20
"""Of a table as it is parsed."""
MOST_ROWS = 2_000_000
"""Of a parquet file, where repeated values take no space."""
SHORT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))\s*([kmbgt])", re.IGNORECASE)
COMPRESSIONS: dict[bytes, Callable[[io.BytesIO], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": lambda stream: pa.CompressedInputStream(stream, "zstd"),
}
DAMAGES = (zipfile.BadZipFile, lzma.LZMAError, zlib.error)
POWERS = {"k": 3, "m": 6, "b": 9, "g": 9, "t": 12}


@dataclass(frozen=True)
class RunTable:
    """A table as it was read.

    Attributes:
        rows: one row per run; the index is the number of a row in the file, from 1 below the header.
        sha256: of the bytes of the file.
    """

    rows: pd.DataFrame
    sha256: str


def read_table(path: Path | str, *, as_text: bool = False) -> RunTable:
    """Read a table of runs; `as_text` leaves every value as it is written ("none" and "NA" too), a missing one empty.

    Raises:
        GeoladderError: there is no such file, it holds no table, a row has another number of fields than the header,
            two columns have one name, or decimal commas and points are mixed. The row or line is named. Or it has a
            seal, as `results.csv` of a study, and was damaged or edited.
    """
    content = _bytes(Path(path))
    body = _decompressed(content, path)
    if body.startswith(b"PAR1"):
        rows = _parquet(body, path)
    elif re.match(r"\s*(\[\s*)?\{", text := decode(body, path)):
        rows = pd.json_normalize(list(_records(text, path)))
    else:
        rows = read_delimited(text, path, as_text)
    if as_text:
        rows = rows.astype(object).where(rows.notna(), "").astype(str)
    rows.index = pd.RangeIndex(1, len(rows) + 1)
    return RunTable(rows, hashlib.sha256(content).hexdigest())


def with_sizes(rows: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """The same rows with numbers in place of sizes such as `124M`, `3B` and `1.5 T` in these columns."""
    for name in dict.fromkeys(columns):
        if name in rows and not pd.api.types.is_numeric_dtype(rows[name]):
            rows = rows.assign(**{name: rows[name].map(_long).infer_objects()})
    return rows


def _long(value: object) -> object:
    if isinstance(value, str):
        if match := SHORT.fullmatch(value.strip()):
            return float(f"{match[1]}e{POWERS[match[2].lower()]}")
        return float(value) if NUMBER.fullmatch(value.strip()) else value
    return value


def _bytes(path: Path) -> bytes:
    if path.is_dir():
        raise GeoladderError(f"{path} is a folder; name the table in it")
    try:
        with intact(path).open("rb") as handle:
            content = handle.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise GeoladderError(f"no table of runs at {path}") from None
    except OSError as problem:
        raise GeoladderError(f"{path} cannot be read: {problem.strerror}") from None
    return _small(content, path)


def _small(content: bytes, path: Path | str) -> bytes:
    if len(content) > LARGEST_BYTES:
        raise GeoladderError(
            f"{path} is a table of over {LARGEST_BYTES:,} bytes; leave out columns that are not fitted"
        )
    return content


def _decompressed(content: bytes, path: Path | str) -> bytes:
    """What a compressed file holds; the same bytes if it is none."""
    stream = io.BytesIO(content)
    try:
        if content.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(stream) as archive:
                names = archive.namelist()
                if "[Content_Types].xml" in names:
                    raise GeoladderError(
                        f"{path} is a workbook of a spreadsheet program; save its sheet as CSV"
                    )
                if len(names) != 1:
                    raise GeoladderError(f"{path} is an archive of {len(names)} files; name one table")
                with archive.open(names[0]) as file:
                    return _small(file.read(LARGEST_BYTES + 1), path)
        for magic, opener in COMPRESSIONS.items():
            if content.startswith(magic):
                with opener(stream) as file:
                    return _small(file.read(LARGEST_BYTES + 1), path)
    except (*DAMAGES, OSError, EOFError, RuntimeError, ValueError) as problem:
        raise GeoladderError(f"{path} is damaged, it cannot be decompressed: {problem}") from None
    return content


def _parquet(body: bytes, path: Path | str) -> pd.DataFrame:
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        groups = [file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups)]
        if file.metadata.num_rows > MOST_ROWS or sum(groups) > LARGEST_BYTES:
            raise GeoladderError(
                f"{path} is a table of {file.metadata.num_rows:,} rows and {sum(groups):,} bytes; at most "
                f"{MOST_ROWS:,} and {LARGEST_BYTES:,} are read: leave out columns that are not fitted"
            )
        refuse_twins(file.schema_arrow.names, path)
        return file.read().to_pandas(ignore_metadata=True)
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise GeoladderError(f"{path} is no readable parquet file: {problem}") from None


def _records(text: str, path: Path | str) -> Iterator[dict[str, Any]]:
    """Objects of a JSON array, or of lines."""
    if text.lstrip().startswith("["):
        records = [(f"row {row}", item) for row, item in enumerate(_json(text, path, "it"), 1)]
    else:
        lines = enumerate(lines_of(text), 1)
        records = [
            (f"line {number}", _json(line, path, f"line {number}")) for number, line in lines if line.strip()
        ]
    for place, record in records:
        if not isinstance(record, dict):
            raise GeoladderError(f"{path}: {place} is no JSON object; write one object a run")
        yield record


def _json(text: str, path: Path | str, place: str) -> Any:  # noqa: ANN401  (any JSON)
    def record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        refuse_twins([name for name, _ in pairs], f"{path}: {place}")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=record)
    except (ValueError, RecursionError) as problem:
        raise GeoladderError(
            f"{path}: {place} is no JSON ({problem}); JSON lines have one whole object a line"
        ) from None
