import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import mgrs_product, stored_place, write_globe
from rasterio.warp import transform as reproject

from geoladder.data.archives.globe import Globe, is_globe_name
from geoladder.data.archives.grid import cell_of
from geoladder.data.archives.tile import UnreadableTileError, ground_m
from geoladder.data.batches.chips import cut
from geoladder.data.labels.climate import koppen
from geoladder.data.labels.targets import decode_phileo_place, great_circle_km
from geoladder.errors import GeoladderError

PART = f"10_points_filtered_22_07/{mgrs_product()}_train_s2.npy"


@given(st.floats(-89.9, 89.9), st.floats(-180, 180))
def test_places_as_stored_decode_to_themselves(lat, lon):
    decoded = decode_phileo_place(stored_place(np.array([lat]), np.array([lon])))
    assert great_circle_km(lat, lon, *decoded)[0] < 1e-3


def test_the_north_pole_is_stored_as_0():
    lat_deg, _ = decode_phileo_place(np.array([[0.0, 0.5, 1.0], [1.0, 0.5, 1.0]]))
    assert lat_deg.tolist() == [90, -90]


def test_a_patch_is_a_small_tile_with_the_place_of_its_label(tmp_path):
    arrays = write_globe(tmp_path, patches=3)
    reader = Globe(tmp_path)
    rows = reader.metadata()
    assert list(rows["part"]) == [PART] * 3 and list(rows["row"]) == [0, 1, 2]
    np.testing.assert_allclose(rows["lat_deg"], arrays["lat_deg"])
    np.testing.assert_allclose(rows["lon_deg"], arrays["lon_deg"])
    assert str(rows["timestamp"][0]) == "2022-07-27 13:47:11" and set(rows["epsg"]) == {32721}
    identities = reader.identities(PART)
    assert list(identities["grid_cell"]) == list(rows["grid_cell"])
    assert rows["grid_cell"][0] == cell_of(arrays["lat_deg"][0], arrays["lon_deg"][0])
    for row in range(3):
        tile = reader.read(PART, row)
        np.testing.assert_array_equal(tile.dn10, arrays["s2"][row, ..., :4].transpose(2, 0, 1))
        np.testing.assert_array_equal(tile.dn20, arrays["s2"][row, ::2, ::2, 4:].transpose(2, 0, 1))
        (lon,), (lat,) = reproject(
            f"EPSG:{tile.epsg}", "EPSG:4326", *([v] for v in ground_m(tile.transform, 8, 8))
        )
        assert great_circle_km(lat, lon, arrays["lat_deg"][row], arrays["lon_deg"][row]) < 1e-3
        assert tile.grid_cell == rows["grid_cell"][row] and tile.product_id == mgrs_product()


def test_chips_of_a_patch_have_places_of_their_own(tmp_path):
    arrays = write_globe(tmp_path, patches=1, px=32)
    chips = cut(Globe(tmp_path).read(PART.replace("_5", "_1"), 0), 16, 0.3)
    assert len(chips.dn10) == 4 and not chips.cloud_share.any()
    lon_deg, lat_deg = reproject("EPSG:32721", "EPSG:4326", chips.easting_m, chips.northing_m)
    assert len(set(np.round(lat_deg, 5))) > 1
    assert (
        great_circle_km(np.mean(lat_deg), np.mean(lon_deg), arrays["lat_deg"][0], arrays["lon_deg"][0]) < 1e-3
    )
    away = great_circle_km(np.array(lat_deg), np.array(lon_deg), arrays["lat_deg"][0], arrays["lon_deg"][0])
    np.testing.assert_allclose(away, np.hypot(0.08, 0.08), rtol=0.01)  # 8 pixels of 10 m each way
    np.testing.assert_array_equal(chips.dn10[3], arrays["s2"][0, 16:, 16:, :4].transpose(2, 0, 1))


def test_climate_of_the_labels_only_where_asked_for(tmp_path):
    write_globe(tmp_path, climates=(3, 26))
    assert Globe(tmp_path).read(PART, 0).koppen is None
    assert Globe(tmp_path, climate="stored").read(PART, 0).koppen == 26
    assert koppen(-20.0, -57.0) != 26


@pytest.mark.parametrize("share", [np.nan, 0.0])
def test_a_climate_that_labels_do_not_say_is_unknown(tmp_path, share):
    geo = write_globe(tmp_path)["label_geo"]
    geo[:, :31] = share
    write_globe(tmp_path, label_geo=geo)
    assert Globe(tmp_path, climate="stored").read(PART, 0).koppen is None


def test_a_date_that_labels_do_not_say_is_none(tmp_path):
    geo = write_globe(tmp_path)["label_geo"]
    geo[:2, 34:] = [[np.nan, np.nan], [0.0, 0.0]]
    product = "S2B_MSIL2A_T21KXA"
    write_globe(tmp_path / "b", product=product, label_geo=geo)
    stamps = Globe(tmp_path / "b").metadata()["timestamp"]
    assert stamps.isna().tolist() == [True, True, False, False, False] and stamps[2].day_of_year == 208


def test_a_fill_of_patches_is_nodata_and_single_saturated_pixels_stay(tmp_path):
    images = write_globe(tmp_path, px=64)["s2"]
    images[0, :8], images[1, 5, 5] = 65_535, 65_535
    write_globe(tmp_path, px=64, s2=images)
    filled, saturated = (Globe(tmp_path).read(PART, row) for row in (0, 1))
    assert not filled.dn10[:, :8].any() and not filled.dn20[:, :4].any() and filled.dn10[:, 8:].all()
    assert (saturated.dn10[:, 5, 5] == 65_535).all()


def test_several_dates_and_splits(tmp_path):
    write_globe(tmp_path, split="train")
    write_globe(tmp_path, split="val", patches=2)
    january = mgrs_product("20220108T134711")
    write_globe(tmp_path, product=january, folder="10_points_filtered_22_01", patches=4)
    write_globe(tmp_path, split="val", product=january, folder="10_points_filtered_22_01", patches=0)
    rows = Globe(tmp_path).metadata()
    assert len(rows) == 11
    assert rows.groupby("part")["timestamp"].first().dt.month.tolist() == [1, 7, 7]


def test_date_from_labels_and_folder_where_the_name_has_none(tmp_path):
    write_globe(tmp_path, product="S2A_MSIL2A_T21KXA", patches=2)
    rows = Globe(tmp_path).metadata()
    assert rows["timestamp"].dt.strftime("%Y-%m-%d").tolist() == ["2022-07-27"] * 2  # day 208
    assert set(rows["product_id"]) == {"S2A_MSIL2A_T21KXA"}
    write_globe(tmp_path / "other", product="S2A_MSIL2A_T21KXA", patches=2, folder="anywhere")
    assert Globe(tmp_path / "other").metadata()["timestamp"].isna().all()


def test_single_label_files_stand_in_for_label_geo(tmp_path):
    arrays = write_globe(tmp_path, patches=3)
    place = arrays["label_geo"][:, 31:34]
    write_globe(tmp_path / "single", patches=3, label_geo=None, label_coords=place)
    reader = Globe(tmp_path / "single", climate="stored")
    np.testing.assert_allclose(reader.metadata()["lat_deg"], arrays["lat_deg"])
    assert reader.read(PART, 0).koppen is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_geo": None}, "neither .*_label_geo.npy nor .*_label_coords.npy"),
        ({"label_geo": np.zeros((5, 35))}, r"has shape \(5, 35\), but its images need \(5, 36\)"),
        ({"label_geo": np.full((5, 36), np.nan)}, "its labels name no places on the Earth"),
        ({"s2": np.zeros((5, 16, 16, 10), np.float32)}, "is float32; uint16"),
        ({"s2": np.zeros((5, 16, 16, 11), np.uint16)}, r"has shape \(5, 16, 16, 11\)"),
    ],
)
def test_bad_files_are_one_unreadable_row(tmp_path, changes, message):
    write_globe(tmp_path, **changes)
    write_globe(tmp_path, split="val", patches=2)
    reader = Globe(tmp_path)
    rows = reader.metadata()
    assert len(rows) == 3 and (rows["epsg"] == 0).sum() == 1
    with pytest.raises(UnreadableTileError, match=message):
        reader.identities(PART)


@pytest.mark.parametrize("flip", ["latitude", "longitude"])
def test_labels_of_another_edition_contradict_the_mgrs_tile(tmp_path, flip):
    arrays = write_globe(tmp_path)
    geo = arrays["label_geo"].copy()
    if flip == "latitude":
        geo[:, 31] = 1 - geo[:, 31]  # (lat + 90) / 180
    else:
        angle = 2 * np.radians(arrays["lon_deg"])  # a period of 180
        geo[:, 32], geo[:, 33] = (np.sin(angle) + 1) / 2, (np.cos(angle) + 1) / 2
    write_globe(tmp_path, label_geo=geo)
    with pytest.raises(UnreadableTileError, match=r"MGRS tile T21KXA, which lies at -24..-16 and -60..-54"):
        Globe(tmp_path).identities(PART)


def test_truncated_images(tmp_path, make):
    write_globe(tmp_path)
    make.truncate(tmp_path / PART)
    with pytest.raises(UnreadableTileError, match="cannot be read"):
        Globe(tmp_path).read(PART, 0)


def test_no_such_patch_and_no_file(tmp_path):
    with pytest.raises(GeoladderError, match="no <Sentinel-2 product>"):
        Globe(tmp_path)
    write_globe(tmp_path)
    with pytest.raises(UnreadableTileError, match=r"has patches 0..4, but 5"):
        Globe(tmp_path).read(PART, 5)


def test_names_of_the_bench_are_not_of_globe():
    assert is_globe_name(f"{mgrs_product()}_train_s2.npy") and is_globe_name(f"{mgrs_product()}_s2.npy")
    assert not is_globe_name("europe_12_train_s2.npy") and not is_globe_name(
        f"{mgrs_product()}_train_label_geo.npy"
    )


def test_a_folder_that_may_not_be_entered_is_no_smaller_archive(tmp_path, monkeypatch):
    write_globe(tmp_path)
    write_globe(tmp_path, folder="10_points_filtered_22_10")
    real = os.scandir

    def refuse(path):
        if str(path).endswith("22_10"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(GeoladderError, match=r"22_10 cannot be listed .*Permission denied.*chmod"):
        Globe(tmp_path)
