"""Columns of an archive's metadata, whatever their writer thought of: times, coordinate systems, shares, percents.

Nothing is refused here: a value that says nothing is missing, and its row is dropped later with its reason. A unit is
told by the bulk of a column, and said in words for the evidence beside the index.
"""

import re
from typing import Literal

import pandas as pd
from rasterio.crs import CRS
from rasterio.errors import CRSError

YEARS = (2015, 2035)
"""Of acquisitions by Sentinel-2, the last of them to be on the safe side; other years are no dates but mistakes."""
FIRST_S, END_S = (int(pd.Timestamp(f"{year}-01-01").timestamp()) for year in (YEARS[0], YEARS[1] + 1))
EPOCHS: dict[Literal["D", "s", "ms", "us", "ns"], float] = {
    "D": 1 / 86_400,
    "s": 1,
    "ms": 10**3,
    "us": 10**6,
    "ns": 10**9,
}
"""Units of whole numbers since 1970, by how many make a second. Their ranges of numbers do not meet."""
CALENDARS = {"%Y%m%d": 10**4, "%Y%m%d%H%M%S": 10**10}
"""Dates written as one number, such as 20200130, by the number that a year is multiplied with."""
_DAY_MONTH_YEAR = re.compile(r"^\s*(\d{1,2})[./-](\d{1,2})[./-]\d{4}")
_EPSG = re.compile(r"^\s*(?:\w+:)*:?(\d{4,5})(?:\.0*)?\s*$")
"""`EPSG:32701`, and what occurs instead: `EPSG:EPSG:32701`, `32701`, `32701.0`, `urn:ogc:def:crs:EPSG::32701`."""
LONGEST_CRS = 20_000
"""Characters of a coordinate system as text; a longer one is none."""
ROUNDING = 1e-3
"""By which a share may leave 0..1."""
STRAY_SHARE = 0.05
"""Of the positive numbers of a column of shares, so many may be larger: faults of single rows."""


def timestamps(column: pd.Series) -> tuple[pd.Series, str]:
    """Times in UTC without zone, NaT where a value is none or lies outside `YEARS`; and how they are written.

    Texts of any order, dates, times with or without zone, and numbers: 20200130 and 20200130101500 as they look,
    others as days, seconds, ms, us or ns since 1970, whichever gives a year that can be. In texts like 3/4/2020 the
    day comes first where most of the column's texts that tell it say so.
    """
    numbers = _numbers(column)
    texts = column.astype(object).where(numbers.isna()) if numbers.notna().any() else column
    day_first = _day_first(texts)
    stamps = pd.to_datetime(texts, format="mixed", utc=True, errors="coerce", dayfirst=day_first)
    forms = {"text, day first" if day_first else "text or dates": stamps.notna()}
    for form, of_year in CALENDARS.items():
        forms[form] = numbers.between(YEARS[0] * of_year, (YEARS[1] + 1) * of_year, inclusive="left")
        written = numbers[forms[form]].astype("int64").astype(str)
        stamps = stamps.fillna(pd.to_datetime(written, format=form, utc=True, errors="coerce"))
    for unit, per_second in EPOCHS.items():
        form = f"{unit} since 1970"
        forms[form] = numbers.between(FIRST_S * per_second, END_S * per_second, inclusive="left")
        stamps = stamps.fillna(pd.to_datetime(numbers[forms[form]], unit=unit, utc=True))
    stamps = stamps.where(stamps.dt.year.between(*YEARS)).dt.tz_localize(None)
    return stamps, _bulk({form: int((where & stamps.notna()).sum()) for form, where in forms.items()})


def _numbers(column: pd.Series) -> pd.Series:
    """Numbers, also in texts, float64; times are none."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return pd.Series(float("nan"), column.index)
    return pd.to_numeric(column, errors="coerce").astype("float64")


def _day_first(texts: pd.Series) -> bool:
    matches = texts.astype(str).str.extract(_DAY_MONTH_YEAR).dropna().astype(int)
    return bool((matches[0] > 12).sum() > (matches[1] > 12).sum())


def _bulk(counts: dict[str, int]) -> str:
    """Forms that occur, the commonest first: `text or dates (12), s since 1970 (1)`."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{form} ({count})" for form, count in ordered if count) or "nothing that is a time"


def epsg_codes(column: pd.Series) -> tuple[pd.Series, str]:
    """EPSG codes, int64, 0 where there is none; and what those texts look like that have none.

    A code may be a number or stand in a text; a coordinate system may also be WKT or PROJJSON.
    """
    texts = column.astype(object).fillna("").map(str)
    codes = {text: _epsg(text) for text in texts.unique()}
    strange = [f"'{text[:60]}'" for text, code in codes.items() if not code]
    return texts.map(codes).astype("int64"), ", ".join(strange[:3])


def _epsg(text: str) -> int:
    if match := _EPSG.match(text):
        return int(match[1])
    if len(text) > LONGEST_CRS or not text.lstrip().startswith(("{", "PROJC", "GEOGC")):
        return 0
    try:
        return CRS.from_user_input(text).to_epsg() or 0
    except (CRSError, ValueError):
        return 0


def within(column: pd.Series, low: float, high: float, rounding: float = 0.0) -> pd.Series:
    """Numbers float64 in `low`..`high`; not a number where a value is none or lies outside, such as a fill of -9999.

    What lies outside by no more than `rounding` is cut to the limit.
    """
    values = pd.to_numeric(column, errors="coerce").astype("float64")
    return values.where(values.between(low - rounding, high + rounding)).clip(low, high)


def row_numbers(column: pd.Series) -> pd.Series:
    """Whole numbers from 0 on, int64; -1 where there is none."""
    numbers = within(column, 0, 2**31)
    return numbers.where(numbers % 1 == 0, -1).astype("int64")


def shares(column: pd.Series) -> tuple[pd.Series, str]:
    """Shares 0..1, not a number where unknown; and their unit: percents, if more than strays lie above 1."""
    percents = within(column, 0, 100, 100 * ROUNDING)
    if not seem_shares(percents):
        return percents / 100, f"percents, since numbers run to {percents.max():.4g}"
    known = within(column, 0, 1, ROUNDING)
    strays = int((percents.notna() & known.isna()).sum())
    return known, f"shares, but for {strays} numbers above 1" if strays else "shares"


def seem_shares(percents: pd.Series) -> bool:
    """Whether numbers 0..100 are shares and not percents by their bulk: few of the positive ones are above 1."""
    positive = percents[percents > 0]
    return bool((positive > 1 + ROUNDING).sum() <= STRAY_SHARE * len(positive))


def longitudes(column: pd.Series) -> pd.Series:
    """Degrees in -180..180, of numbers that may run to 360 instead."""
    lon_deg = within(column, -180, 360)
    return lon_deg.where(~(lon_deg > 180), lon_deg - 360)
