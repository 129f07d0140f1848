"""Columns of metadata as other writers have them."""

import datetime

import numpy as np
import pandas as pd
import pytest
from rasterio.crs import CRS

from geoladder.data.archives.columns import epsg_codes, longitudes, row_numbers, shares, timestamps, within

DAYS = pd.to_datetime(["2020-01-30", "2018-10-18", "2024-12-31"])
EPOCH = pd.Timestamp("1970-01-01")


@pytest.mark.parametrize(
    ("written", "form"),
    [
        (DAYS.strftime("%Y%m%d").astype(int), "%Y%m%d (3)"),
        (DAYS.strftime("%Y%m%d"), "%Y%m%d (3)"),
        (DAYS.strftime("%Y%m%d").astype(float), "%Y%m%d (3)"),
        (DAYS.strftime("%Y%m%d000000").astype(int), "%Y%m%d%H%M%S (3)"),
        ((DAYS - EPOCH).days, "D since 1970 (3)"),
        *(
            ((DAYS - EPOCH) // pd.Timedelta(1, unit), f"{unit} since 1970 (3)")
            for unit in ("s", "ms", "us", "ns")
        ),
        (((DAYS - EPOCH) // pd.Timedelta(1, "ms")).astype(str), "ms since 1970 (3)"),
        (DAYS.strftime("%d.%m.%Y"), "text, day first (3)"),
        (DAYS.strftime("%m/%d/%Y"), "text or dates (3)"),
        (DAYS.strftime("%Y-%m-%dT%H:%M:%SZ"), "text or dates (3)"),
        (DAYS.tz_localize("UTC"), "text or dates (3)"),
        ([day.date() for day in DAYS], "text or dates (3)"),
    ],
)
def test_times_of_any_unit(written, form):
    stamps, told = timestamps(pd.Series(written))
    assert stamps.tolist() == DAYS.tolist() and told == form


def test_a_day_comes_first_in_all_texts_where_most_say_so():
    stamps, _ = timestamps(pd.Series(["03/04/2020", "30/01/2020", "25/12/2019"]))
    assert stamps[0] == pd.Timestamp("2020-04-03")


@pytest.mark.parametrize(
    "strange", ["never", None, 5, -1, 1e300, "1066-10-14", "2199-01-01", "2020", np.inf, True]
)
def test_what_is_no_time_is_missing(strange):
    stamps, told = timestamps(pd.Series([strange, "2020-01-30"], dtype=object))
    assert pd.isna(stamps[0]) and stamps[1] == DAYS[0] and "(1)" in told


def test_other_types_of_days():
    assert timestamps(pd.Series([datetime.datetime(2020, 1, 30, tzinfo=datetime.UTC)]))[0][0] == DAYS[0]
    assert timestamps(pd.Series([None, None], dtype=object))[1] == "nothing that is a time"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "EPSG:32733",
            "EPSG:EPSG:32733",
            "epsg:32733",
            "32733",
            "EPSG:32733.0",
            "urn:ogc:def:crs:EPSG::32733",
        ),
        *(32733, 32733.0, CRS.from_epsg(32733).to_wkt(), CRS.from_epsg(32733).to_wkt(version="WKT2_2019")),
        CRS.from_epsg(32733).to_dict(projjson=True).__repr__().replace("'", '"'),
    ],
)
def test_coordinate_systems_of_any_form(text):
    codes, strange = epsg_codes(pd.Series([text]))
    assert codes.tolist() == [32733] and not strange


@pytest.mark.parametrize(
    "text", ["?", "", None, "PROJCS[", "{", "+proj=utm +zone=33", "/etc/passwd", "EPSG:1", "9" * 20]
)
def test_texts_that_are_no_coordinate_system_are_shown(text):
    codes, strange = epsg_codes(pd.Series([text, "EPSG:32733"]))
    assert codes.tolist() == [0, 32733] and strange.startswith("'")


def test_shares_percents_and_fills():
    known, unit = shares(pd.Series([0.0, 0.4, 1.0000001, -9999, None]))
    np.testing.assert_array_equal(known, [0, 0.4, 1, np.nan, np.nan])
    assert unit == "shares"
    known, unit = shares(pd.Series(["0", "37.5", "text"]))
    np.testing.assert_array_equal(known, [0, 0.375, np.nan])
    assert unit == "percents, since numbers run to 37.5"
    np.testing.assert_array_equal(within(pd.Series([-91.0, 45, 1e9]), -90, 90), [np.nan, 45, np.nan])
    np.testing.assert_array_equal(longitudes(pd.Series([181.0, -180, 360, 999])), [-179, -180, 0, np.nan])


def test_a_stray_makes_no_percents_of_shares():
    known, unit = shares(pd.Series([0.0, *[0.9] * 30, 37.5]))
    np.testing.assert_array_equal(known, [0, *[0.9] * 30, np.nan])
    assert unit == "shares, but for 1 numbers above 1"
    known, unit = shares(pd.Series([*[0.9] * 30, *[37.5] * 3]))
    assert known[0] == pytest.approx(0.009) and unit.startswith("percents")


def test_row_numbers_are_whole():
    strange = pd.Series([0, "2", 1.5, -1, np.inf, None, "one", 1e30], dtype=object)
    assert row_numbers(strange).tolist() == [0, 2, -1, -1, -1, -1, -1, -1]
