"""Text with a separator between its fields, brought to plain CSV, which pandas reads.

Fields are separated by commas, semicolons, tabs, bars or blanks; numbers have decimal points or commas. Lines of `#`
are comments, and a file's last one is the header where the first line is numbers, as NumPy writes it.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from geoladder.errors import GeoladderError

SEPARATORS = ";\t|,"
"""Between fields; the comma last, since it stands in numbers and names as well."""
SHOWN_LINES = 50
"""By which the separator is told."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
"""Of one comma, with which a number may be a thousand times what it is with a decimal comma."""
DECIMAL_POINT = re.compile(r"[+-]?\d*\.\d+(e[+-]?\d+)?", re.IGNORECASE)


def read_delimited(text: str, path: Path | str, as_text: bool) -> pd.DataFrame:
    """A table; raises GeoladderError as `geoladder.scaling.table.read_table`."""
    lines, comments = _without_comments(text)
    separator = None
    if lines and lines[0].lower().startswith("sep=") and len(lines[0]) == 5:  # as Excel writes it
        separator, lines = lines[0][4], lines[1:]
    if not lines:
        raise GeoladderError(f"{path} is empty; it needs a header and one row a run")
    separator = separator or _separator(lines)
    header, *_ = _fields(lines[:1], separator)
    if all(NUMBER.fullmatch(name) for name in header):
        header = _header_of(comments, len(header), separator, path)
        lines = ["", *lines]
    refuse_twins(header, path)
    comma = _has_decimal_commas(lines[1:], separator, path) and not as_text
    plain = io.StringIO()
    writer = csv.writer(plain)
    writer.writerow(header)
    for row, fields in enumerate(_fields(lines[1:], separator, path), 1):
        if len(fields) < len(header) or any(fields[len(header) :]):
            raise GeoladderError(
                f"{path}: row {row} has {len(fields)} fields and the header {len(header)}, separated by "
                f"{_spelled(separator)}; mend the row, or quote fields that contain it"
            )
        kept = fields[: len(header)]
        writer.writerow([_with_point(field) for field in kept] if comma else kept)
    plain.seek(0)
    if as_text:
        return pd.read_csv(plain, dtype=str, keep_default_na=False, skip_blank_lines=False)
    return pd.read_csv(plain, low_memory=False, skip_blank_lines=False)


def lines_of(text: str) -> list[str]:
    """Lines of a text as any system ends them."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _without_comments(text: str) -> tuple[list[str], list[str]]:
    """Lines of a table, and those that are comments: of `#`, outside quotes. Blank lines are left out."""
    lines, comments, quotes = list[str](), list[str](), 0
    for line in lines_of(text):
        if quotes % 2 == 0 and line.lstrip().startswith("#"):
            comments.append(line.lstrip().lstrip("#"))
        elif quotes % 2 or line.strip():
            lines.append(line)
            quotes += line.count('"')
    return lines, comments


def _fields(lines: Iterable[str], separator: str, path: Path | str | None = None) -> Iterator[list[str]]:
    """Fields of each row without blanks around them; a separator of one blank is any number of blanks.

    With a `path` quotes must be closed, else GeoladderError names it.
    """
    if separator == " ":
        yield from (line.split() for line in lines)
        return
    ended = (f"{line}\n" for line in lines)  # a quoted field may go on over lines
    rows = csv.reader(ended, delimiter=separator, skipinitialspace=separator != "\t", strict=path is not None)
    whole = 0
    try:
        for row in rows:
            yield [field.strip() for field in row]
            whole += 1
    except csv.Error as problem:
        raise GeoladderError(f"{path}: row {whole + 1} cannot be read: {problem}") from None


def _separator(lines: list[str]) -> str:
    """The one that gives the header most fields, and each of the first rows as many; blanks where there is none."""
    counts = {
        separator: [len(fields) for fields in _fields(lines[:SHOWN_LINES], separator)]
        for separator in (*SEPARATORS, " ")
    }
    whole = {
        separator: rows[0]
        for separator, rows in counts.items()
        if rows[0] > 1 and set(rows) == {rows[0]} and separator != " "
    }
    if whole:
        return max(whole, key=lambda separator: whole[separator])
    fullest = max(SEPARATORS, key=lambda separator: counts[separator][0])
    blanks = counts[" "]
    if counts[fullest][0] == 1 and blanks[0] > 1 and set(blanks) == {blanks[0]}:
        return " "
    return fullest if counts[fullest][0] > 1 else ","


def _spelled(separator: str) -> str:
    return {"\t": "tabs", " ": "blanks"}.get(separator, f"'{separator}'")


def _header_of(comments: list[str], fields: int, separator: str, path: Path | str) -> list[str]:
    """Names in the last comment, as NumPy writes them, of a table whose first line is numbers."""
    header = next(_fields(comments[-1:], separator), [])
    if len(header) != fields or all(NUMBER.fullmatch(name) for name in header):
        raise GeoladderError(
            f"{path} has no header: its first line is numbers; write the columns' names above it"
        )
    return header


def _has_decimal_commas(lines: list[str], separator: str, path: Path | str) -> bool:
    """Whether commas in numbers are decimal; raises GeoladderError where it cannot be told."""
    first: dict[str, str] = {}
    for row, fields in enumerate(_fields(lines, separator, path), 1):
        for field in fields:
            if "," in field or ("point" not in first and "." in field):
                first.setdefault(_kind(field), f"row {row} has {field}")
    if "comma" in first and "point" in first:
        raise GeoladderError(
            f"{path} has decimal commas and decimal points ({first['comma']}, {first['point']}); write one of them"
        )
    if "either" in first and "point" not in first and "comma" not in first and separator != ",":
        raise GeoladderError(
            f"{path}: {first['either']}, which is a number with a decimal comma, or a thousand times that; write it "
            "without thousands separators, and with a decimal point"
        )
    return "comma" in first


def _kind(field: str) -> str:
    """What a field says of decimals: `comma`, `point`, `either` for a comma that may mark thousands, or nothing."""
    if THOUSANDS.fullmatch(field):
        return "either"
    if DECIMAL_COMMA.fullmatch(field):
        return "comma"
    return "point" if DECIMAL_POINT.fullmatch(field) else ""


def _with_point(field: str) -> str:
    return field.replace(",", ".") if DECIMAL_COMMA.fullmatch(field) else field


def refuse_twins(names: Sequence[str], path: Path | str) -> None:
    """Refuse a table with two columns of one name; raises GeoladderError that says which."""
    for name in names:
        if name and names.count(name) > 1:
            places = " and ".join(str(place) for place, other in enumerate(names, 1) if other == name)
            raise GeoladderError(
                f"{path} has {names.count(name)} columns named '{name}' (numbers {places}); rename all but one"
            )
