import numpy as np
import pandas as pd
import pytest

from geoladder.data.bench.files import BUCKETS, parse
from geoladder.data.bench.reader import Bench, index_bench
from geoladder.data.index.evidence import read_evidence
from geoladder.errors import GeoladderError


def test_regions_by_prefix_and_own_spelling(tmp_path):
    cases = {
        "europe_12_train_s2.npy": ("europe", "europe", "12", "train"),
        "denmark-2_4_test_s2.npy": ("europe", "denmark-2", "4", "test"),
        "isreal-1_7_val_s2.npy": ("northwest-africa", "isreal-1", "7", "val"),
        "tanzania-3_0_test_s2.npy": ("east-africa", "tanzania-3", "0", "test"),
        "eq-guinea_1_train_s2.npy": ("northwest-africa", "eq-guinea", "1", "train"),
    }
    for name, expected in cases.items():
        file = parse(tmp_path / name)
        assert (file.bucket, file.region, file.tile, file.split) == expected
    assert list(BUCKETS) == [
        "europe",
        "east-africa",
        "northwest-africa",
        "north-america",
        "south-america",
        "japan",
    ]


@pytest.mark.parametrize("name", ["israel-1_7_val_s2.npy", "S2A_MSIL2A_2022_train_s2.npy", "europe_s2.npy"])
def test_foreign_names_are_refused(bench_folder, tmp_path, name):
    np.save(bench_folder.folder / name, np.zeros((1, 4, 4, 10), np.uint16))
    with pytest.raises(GeoladderError, match=f"{name} is no file of PhilEO Bench"):
        index_bench(bench_folder.folder, tmp_path / "index.parquet")


def test_index_of_each_file(full_bench, opened):
    index = opened(full_bench).index.set_index(["region", "split"])
    assert len(index) == 19 and (index["patch_px"] == 16).all()
    europe = index.loc["europe", "train"]
    assert europe["patches"] == 40 and europe["bucket"] == "europe" and europe["tile"] == "3"
    assert europe["lat_deg"] == pytest.approx(50) and europe["lon_deg"] == pytest.approx(-120)
    assert index["has_landcover"].all() and list(index.index[~index["has_roads"]]) == [("denmark-1", "train")]
    assert np.isnan(index.loc["denmark-1", "train"]["roads_scale"])


def test_positions_count_as_the_bench_does(bench_folder, opened):
    """Regions in the order of the bucket, files in the order of their names: europe_10 before europe_9."""
    for region, tile, patches in [
        ("denmark-1", "2", 3),
        ("europe", "9", 4),
        ("europe", "10", 5),
        ("japan", "1", 2),
    ]:
        bench_folder.add(region, tile, "train", patches, labels=("lc",))
    bench = opened(bench_folder)
    pool = bench.pool("landcover", "train")
    files = bench.index["file"].to_numpy()[pool["entry"]]
    in_europe = (
        ["europe_10_train_s2.npy"] * 5 + ["europe_9_train_s2.npy"] * 4 + ["denmark-1_2_train_s2.npy"] * 3
    )
    assert list(files) == [*in_europe, *["japan_1_train_s2.npy"] * 2]
    assert list(pool["position"]) == [*range(12), 0, 1]
    assert list(pool["slot"]) == [*range(5), *range(4), *range(3), 0, 1]
    assert bench.pool("roads", "train").empty


def test_reading_gives_what_was_stored_in_any_order(full_bench, opened):
    bench = opened(full_bench)
    pool = bench.pool("landcover", "train")
    rows = pool.sample(60, replace=True, random_state=1)
    batch = bench.read("landcover", rows)
    assert batch.images.shape == (60, 10, 16, 16) and batch.images.dtype == np.uint16
    assert batch.images.flags.c_contiguous
    codes = np.array([10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100])
    for k, row in enumerate(rows.itertuples()):
        stem = bench.archive / bench.index.at[row.entry, "file"]
        np.testing.assert_array_equal(batch.images[k], np.load(stem)[row.slot].transpose(2, 0, 1))
        stored = np.load(str(stem).replace("_s2", "_label_lc"))[row.slot, ..., 0]
        np.testing.assert_array_equal(codes[batch.labels[k]], stored)


def test_label_scale_is_found_by_file(bench_folder, opened):
    bench_folder.add("europe", "1", "train", 5, scale=1.0).add("japan", "1", "train", 5, scale=100.0)
    bench = opened(bench_folder)
    assert list(bench.index["roads_scale"]) == [1.0, 0.01]
    labels = bench.labels("roads", bench.pool("roads", "train"))
    assert labels.dtype == np.float32 and labels.shape == (10, 16, 16)
    np.testing.assert_allclose(labels[:5], labels[5:], atol=1e-6)


def test_density_within_0_1_and_nan_where_there_is_none(bench_folder, opened):
    density = np.zeros((2, 16, 16, 1), np.float32)
    density[0, 0, :8, 0] = [np.nan, 1.2, -0.1, 0.25, np.inf, 255, -9999, -1e-6]
    bench_folder.add("europe", "1", "train", 2, label_roads=density)
    bench = opened(bench_folder)
    labels = bench.labels("roads", bench.pool("roads", "train"))
    np.testing.assert_allclose(labels[0, 0, :8], [np.nan, 1, np.nan, 0.25, np.nan, np.nan, np.nan, 0])
    assert bench.index["roads_unlabelled"].item() == pytest.approx(5 / 512)


def test_landcover_nodata_is_ignored_and_foreign_codes_named(bench_folder, opened):
    codes = np.full((2, 16, 16, 1), 30, np.uint8)
    codes[0, 0, 0] = 0
    bench_folder.add("europe", "1", "train", 2, label_lc=codes)
    bench = opened(bench_folder)
    rows = bench.pool("landcover", "train")
    labels = bench.labels("landcover", rows)
    assert labels.dtype == np.int64 and labels[0, 0, 0] == 255 and (labels.flatten()[1:] == 2).all()
    codes[1, 3, 3] = 33
    bench_folder.add("europe", "1", "train", 2, label_lc=codes)
    with pytest.raises(GeoladderError, match=r"europe_1_train_label_lc.npy: land cover code 33 "):
        bench.labels("landcover", rows)


def test_offset_by_date_where_stated_else_from_pixels(bench_folder, opened):
    bright = np.full((3, 16, 16, 10), 2000, np.uint16)
    for tile in ("1", "2"):
        bench_folder.add("europe", tile, "train", 3, s2=bright)
    bench_folder.add("europe", "3", "train", 3)
    record = {"offset_dn": [1000, 0], "patches": {"train": [2, 1]}}
    bench_folder.tiles_metadata({"europe_1": record, "europe_2": {"date": "2020-01-01"}})
    bench = opened(bench_folder)
    assert list(bench.index["offset_source"]) == ["metadata", "pixels", "pixels"]
    rows = bench.pool("roads", "train")
    by_patch = [1000, 1000, 0, 1000, 1000, 1000, 0, 0, 0]
    np.testing.assert_array_equal(bench.read("roads", rows).offset_dn, by_patch)
    np.testing.assert_array_equal(bench.read("roads", rows[::-1]).offset_dn, by_patch[::-1])
    assert bench.read("roads", rows).offset_dn.dtype == np.int64
    assert not opened(bench_folder, harmonise="none").read("roads", rows).offset_dn.any()


def test_record_that_counts_other_patches_is_refused(bench_folder, tmp_path):
    bench_folder.add("europe", "1", "train", 3)
    bench_folder.tiles_metadata({"europe_1": {"offset_dn": [1000, 0], "patches": {"train": [2, 2]}}})
    with pytest.raises(
        GeoladderError, match=r"has 3 patches, but metadata/tiles_metadata.json counts \[2, 2\]"
    ):
        index_bench(bench_folder.folder, tmp_path / "index.parquet")


def test_files_of_a_tile_share_a_scale(bench_folder, opened):
    """The validation file has nothing above 1.5 and would pass for fractions."""
    faint = np.full((2, 16, 16, 1), 0.8, np.float32)
    bench_folder.add("europe", "1", "train", 5, scale=100.0).add("europe", "1", "val", 2, label_roads=faint)
    bench_folder.add("europe", "2", "val", 2, label_roads=faint)
    index = opened(bench_folder).index.set_index("file")
    assert index.loc["europe_1_val_s2.npy", "roads_scale"] == 0.01
    assert index.loc["europe_2_val_s2.npy", "roads_scale"] == 1.0


def test_file_without_patches_is_no_trouble(bench_folder, opened):
    bench_folder.add("europe", "1", "val", 0).add("europe", "2", "val", 2)
    bench = opened(bench_folder)
    assert list(bench.index["patches"]) == [0, 2]
    assert len(bench.read("landcover", bench.pool("landcover", "val")).labels) == 2


def test_damaged_files_are_named(bench_folder, make, tmp_path):
    def refused(message):
        with pytest.raises(GeoladderError, match=message):
            index_bench(bench_folder.folder, tmp_path / "index.parquet")
        assert not (tmp_path / "index.parquet").exists()

    refused(r"no \*_s2.npy in .*zip -s 0")
    bench_folder.add("europe", "1", "train", 4, s2=np.zeros((4, 16, 16, 11), np.uint16))
    refused(r"europe_1_train_s2.npy has shape \(4, 16, 16, 11\)")
    bench_folder.add("europe", "1", "train", 4, s2=np.zeros((4, 10, 16, 16), np.uint16))
    refused(r"europe_1_train_s2.npy has shape \(4, 10, 16, 16\); .* bands last")
    bench_folder.add("europe", "1", "train", 4, s2=np.zeros((4, 16, 16, 10), np.float32))
    refused("europe_1_train_s2.npy is float32")
    bench_folder.add("europe", "1", "train", 4, label_building=np.zeros((5, 16, 16, 1), np.float32))
    refused(
        r"europe_1_train_label_building.npy has shape \(5, 16, 16, 1\), but its images need \(4, 16, 16, 1\)"
    )
    bench_folder.add("europe", "1", "train", 4, label_coords=np.zeros((5, 3)))
    refused(r"europe_1_train_label_coords.npy has shape \(5, 3\)")
    bench_folder.add("europe", "1", "train", 4)
    make.truncate(bench_folder.folder / "europe_1_train_s2.npy")
    refused(r"europe_1_train_s2.npy cannot be read")
    bench_folder.add("europe", "1", "train", 4)
    (bench_folder.folder / "metadata").mkdir()
    (bench_folder.folder / "metadata" / "tiles_metadata.json").write_text("{")
    refused(r"tiles_metadata.json is no readable JSON")


def test_mixed_patch_sizes_are_refused(bench_folder, tmp_path):
    bench_folder.add("europe", "1", "train", 2)
    bench_folder.patch_px = 32
    bench_folder.add("japan", "1", "train", 2)
    with pytest.raises(GeoladderError, match=r"16 px \(europe_1_train_s2.npy\), 32 px \(japan_1"):
        index_bench(bench_folder.folder, tmp_path / "index.parquet")


def test_no_index_and_no_rows(full_bench, opened, tmp_path):
    with pytest.raises(GeoladderError, match="is no bench index"):
        Bench(full_bench.folder, tmp_path / "absent.parquet")
    bench = opened(full_bench)
    with pytest.raises(GeoladderError, match="no patches to read"):
        bench.read("roads", bench.pool("roads", "train").iloc[:0])


def test_index_feeds_the_buffer_around_test_tiles(full_bench, opened, tmp_path):
    opened(full_bench)
    index = pd.read_parquet(tmp_path / "index.parquet", columns=["split", "lat_deg", "lon_deg"])
    assert (index["split"] == "test").sum() == 6 and index.notna().all(axis=None)


def test_zips_not_unpacked_are_named(tmp_path):
    for name in ("downstream.z01", "downstream.zip"):
        (tmp_path / name).write_bytes(b"0")
    with pytest.raises(
        GeoladderError, match=r"2 file.s. of a zip .*`cd .* && zip -s 0 downstream.zip --out one.zip"
    ):
        index_bench(tmp_path, tmp_path / "index.parquet")


def test_the_real_patch_size_and_the_bench_s_own_spelling(bench_folder, opened):
    """128 px; isreal counts in its bucket after egypt and before nigeria, as the published positions do."""
    bench_folder.patch_px = 128
    for region, patches in (("nigeria", 2), ("isreal-2", 3), ("isreal-1", 1), ("egypt-1", 2)):
        bench_folder.add(region, "1", "train", patches, labels=("building", "lc"))
    bench = opened(bench_folder)
    assert set(bench.index["patch_px"]) == {128} and set(bench.index["bucket"]) == {"northwest-africa"}
    pool = bench.pool("buildings", "train")
    regions = bench.index["region"].to_numpy()[pool["entry"]]
    assert list(regions) == ["egypt-1"] * 2 + ["isreal-1"] + ["isreal-2"] * 3 + ["nigeria"] * 2
    assert bench.read("buildings", pool).images.shape == (8, 10, 128, 128)
    assert bench.pool("roads", "train").empty


def test_a_tile_without_land_cover_is_skipped_for_that_task_only(bench_folder, opened):
    bench_folder.add("south-america", "6", "train", 3, labels=("roads", "building"))
    bench_folder.add("south-america", "7", "train", 2)
    bench = opened(bench_folder)
    assert [len(bench.pool(task, "train")) for task in ("roads", "buildings", "landcover")] == [5, 5, 2]


def test_a_scale_is_told_by_one_pixel_in_the_last_patch(bench_folder, opened):
    """Square metres in whole numbers, in a file with a single building."""
    sparse = np.zeros((70, 16, 16, 1), np.uint8)
    sparse[-1, -1, -1] = 60
    bench_folder.add("europe", "1", "train", 70, label_building=sparse, labels=("roads", "lc"))
    bench = opened(bench_folder)
    assert list(bench.index["buildings_scale"]) == [0.01]
    labels = bench.labels("buildings", bench.pool("buildings", "train"))
    assert labels.max() == pytest.approx(0.6) and labels.dtype == np.float32


@pytest.mark.parametrize("stored", [1.0, 100.0])
@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, -1, -9999, 255, 65535, 1e30])
def test_rows_without_label_change_neither_scale_nor_densities(bench_folder, opened, stored, fill):
    fractions = np.random.default_rng(0).random((6, 16, 16, 1)).astype(np.float32) ** 4
    density = fractions * np.float32(stored)
    density[:, :5] = fill
    bench_folder.add("europe", "1", "train", 6, label_roads=density)
    bench = opened(bench_folder)
    assert bench.index["roads_scale"].item() == 1 / stored
    assert bench.index["roads_unlabelled"].item() == pytest.approx(5 / 16)
    labels = bench.labels("roads", bench.pool("roads", "train"))
    assert np.isnan(labels[:, :5]).all()
    np.testing.assert_allclose(labels[:, 5:], fractions[:, 5:, :, 0], rtol=1e-6)


@pytest.mark.parametrize("fill", [99.0, 100.0])
def test_one_large_number_beside_fractions_is_no_label(bench_folder, opened, fill):
    density = np.random.default_rng(0).random((6, 16, 16, 1)).astype(np.float32)
    density[:, :10] = fill
    bench_folder.add("europe", "1", "train", 6, label_roads=density)
    assert opened(bench_folder).index["roads_scale"].item() == 1


def test_a_file_of_both_scales_is_named(bench_folder, opened):
    density = np.random.default_rng(0).random((6, 16, 16, 1)).astype(np.float32)
    density[:, 0] *= 100
    bench_folder.add("europe", "1", "train", 6, label_roads=density)
    with pytest.raises(
        GeoladderError, match=r"europe_1_train_label_roads.npy: the scale of roads labels is unclear"
    ):
        opened(bench_folder)


def test_a_stray_number_changes_no_scale(bench_folder, opened):
    density = np.random.default_rng(0).random((6, 16, 16, 1)).astype(np.float32)
    density[0, 0, 0] = 60
    bench_folder.add("europe", "1", "train", 6, label_roads=density)
    bench = opened(bench_folder)
    assert bench.index["roads_scale"].item() == 1
    assert np.isnan(bench.labels("roads", bench.pool("roads", "train"))).sum() == 1


def test_an_image_that_may_not_be_read_is_named(bench_folder, tmp_path, monkeypatch):
    bench_folder.add("europe", "1", "train", 2)

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("geoladder.data.archives.npy.np.lib.format.open_memmap", refuse)
    with pytest.raises(
        GeoladderError, match=r"europe_1_train_s2.npy cannot be read .*give the right to read it"
    ):
        index_bench(bench_folder.folder, tmp_path / "index.parquet")


@pytest.mark.parametrize("lon_deg", [9.0, -180.0])
def test_a_footprint_holds_every_patch_even_across_the_date_line(bench_folder, opened, lon_deg):
    """Three by three patches of 16 px, 1.6 km apart; and nine of one place, a square of them."""
    lat_deg = 45.0 + np.repeat([-0.0144, 0, 0.0144], 3)
    east = np.radians(lon_deg + np.tile([-0.02, 0, 0.02], 3))
    coords = np.stack([(90 - lat_deg) / 180, (np.sin(east) + 1) / 2, (np.cos(east) + 1) / 2], axis=1)
    bench_folder.add("japan", "1", "train", 9, label_coords=coords)
    bench_folder.add("japan", "2", "train", 9, label_coords=coords[[4] * 9])
    spread, square = (row for _, row in opened(bench_folder).index.iterrows())
    for row, half_deg in ((spread, 0.0144 + 80 / 111_320), (square, 240 / 111_320)):
        assert row["north_deg"] - row["south_deg"] == pytest.approx(2 * half_deg, rel=1e-3)
        assert row["lat_deg"] == pytest.approx(45)
    assert spread["east_deg"] - spread["west_deg"] == pytest.approx(0.04 + 160 / 78_710, rel=1e-2)


DENSITY = np.random.default_rng(0).random((6, 16, 16, 1)).astype(np.float32) ** 4


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (np.where(DENSITY > 0.5, 127, 100 * DENSITY), "127 is above the whole pixel"),
        (
            np.where(DENSITY > 0.5, 101, (100 * DENSITY).round()).astype(np.uint8),
            "101 is above the whole pixel",
        ),
        ((255 * DENSITY).round().astype(np.uint8), "numbers run up to 25[0-9]"),
        ((10_000 * DENSITY).round().astype(np.int16), "numbers run up to 9"),
    ],
)
def test_labels_of_another_scale_or_with_a_mark_just_above_it_are_refused(bench_folder, opened, stored, why):
    bench_folder.add("europe", "1", "train", 6, label_roads=stored)
    with pytest.raises(
        GeoladderError, match=rf"label_roads.npy: the scale of roads labels is unclear: {why}"
    ):
        opened(bench_folder)


@pytest.mark.parametrize(
    ("stored", "scale"),
    [
        (np.random.default_rng(0).choice([0, 1, 50, 100], (6, 16, 16, 1)).astype(np.uint8), 0.01),
        ((DENSITY > 0.5).astype(np.uint8), 1.0),
        (np.select([DENSITY < 0.1, DENSITY < 0.2, DENSITY < 0.3], [50, 99, 100], DENSITY), 1.0),
        (np.where(DENSITY < 0.1, 254, np.where(DENSITY < 0.2, 255, 100 * DENSITY)), 0.01),
    ],
)
def test_whole_numbers_and_several_marks_tell_a_scale(bench_folder, opened, stored, scale):
    bench_folder.add("europe", "1", "train", 6, label_roads=stored)
    assert opened(bench_folder).index["roads_scale"].item() == scale


def test_labels_that_are_no_numbers_are_named(bench_folder, opened):
    bench_folder.add("europe", "1", "train", 2, label_roads=np.full((2, 16, 16, 1), "a"))
    with pytest.raises(GeoladderError, match=r"label_roads.npy holds <U1; numbers are expected"):
        opened(bench_folder)


def test_a_bench_keeps_the_evidence_of_its_labels(bench_folder, opened, tmp_path):
    roads = DENSITY.copy()
    roads[:, 0] = np.repeat([np.nan, np.inf, -1, 255], 4)[:, None]
    codes = np.full((6, 16, 16, 1), 10, np.int16)
    codes[:, 0, :8, 0] = [0, 255, -1, -9999, 32767, 20, 20, 20]
    bench_folder.add("europe", "1", "train", 6, label_roads=roads, label_lc=codes)
    bench = opened(bench_folder)
    findings = {finding.question: finding for finding in read_evidence(tmp_path / "evidence.json").findings}
    assert findings["labels of roads"].says["pixels"] == {
        "with a label": 6 * 240,
        "NaN, in 1 files": 24,
        "infinite, in 1 files": 24,
        "negative, in 1 files": 24,
        "0, 255, too large or of no class, in 1 files": 24,
    }
    assert findings["labels of landcover"].says["pixels"]["negative, in 1 files"] == 12
    assert bench.index["landcover_unlabelled"].item() == pytest.approx(5 / 256)


def test_metadata_that_pixels_deny_stop_the_index_unless_the_study_says_who_is_right(bench_folder, tmp_path):
    dark = np.full((3, 16, 16, 10), 200, np.uint16)
    bench_folder.add("europe", "1", "train", 3, s2=dark)
    bench_folder.tiles_metadata({"europe_1": {"offset_dn": [1000], "patches": {"train": [3]}}})
    out = tmp_path / "index.parquet"
    with pytest.raises(
        GeoladderError, match=r"0 of 1 agree, not europe_1_train_s2.npy .* bench.harmonise: `pixels`"
    ):
        index_bench(bench_folder.folder, out)
    assert not out.exists() and not (tmp_path / "evidence.json").exists()
    for harmonise, offset in (("baseline", 1000), ("pixels", 0)):
        index_bench(bench_folder.folder, out, harmonise)
        assert pd.read_parquet(out)["offset_dn"][0].tolist() == [offset]


@pytest.mark.parametrize(
    ("offset", "dark", "agreeing"),
    [(0, 1500, 0), (5000, 1500, 0), (0, 200, 8), (1000, 1500, 8), (1000, 700, 8)],
)
def test_offsets_of_many_files_are_held_against_their_pixels(bench_folder, opened, offset, dark, agreeing):
    tiles = [str(number) for number in range(8)]
    for tile in tiles:
        bench_folder.add("europe", tile, "train", 1, s2=np.full((1, 16, 16, 10), dark, np.uint16))
    record = {"offset_dn": [offset], "patches": {"train": [1]}}
    bench_folder.tiles_metadata({f"europe_{tile}": record for tile in tiles})
    if agreeing:
        assert opened(bench_folder).index["offset_dn"].str[0].tolist() == [offset] * 8
        return
    with pytest.raises(GeoladderError, match=rf"DN offset of dates: .*; {agreeing} of 8 agree"):
        opened(bench_folder)


def test_a_mask_of_0_and_255_has_labels(bench_folder, opened):
    buildings = np.zeros((6, 16, 16, 1), np.uint8)
    buildings[:, :4] = 255
    bench_folder.add("europe", "1", "train", 6, label_building=buildings)
    with pytest.raises(GeoladderError, match=r"labels of buildings: .* none is above 0; .*fractions or m2"):
        opened(bench_folder)


def test_files_of_a_tile_in_two_units_are_refused(bench_folder, opened):
    bench_folder.add("europe", "1", "train", 12, scale=1.0).add("europe", "1", "val", 12, scale=100.0)
    with pytest.raises(
        GeoladderError, match=r"scales of \w+ within tiles: .*1 of 2 agree, not europe_1_train"
    ):
        opened(bench_folder)


@pytest.mark.parametrize("coords", [[50.0, 10.0, 0.0], [0.0, 0.0, 0.0], [np.nan] * 3, [-1.0, 0.5, 1.0]])
def test_numbers_of_no_place_are_none(bench_folder, opened, tmp_path, coords, caplog):
    bench_folder.add("europe", "1", "train", 3, label_coords=np.tile(coords, (3, 1)))
    assert opened(bench_folder).index["lat_deg"].isna().all() and "numbers of no place" in caplog.text
    findings = read_evidence(tmp_path / "evidence.json").findings
    (place,) = [finding for finding in findings if finding.question == "place"]
    assert place.says["labels"] == {"a place": 0, "none, or numbers of none": 1}


def test_a_stated_scale_that_labels_deny_stops_the_index(bench_folder, opened):
    bench_folder.add("europe", "1", "train", 3, scale=1.0)
    bench_folder.tiles_metadata({"europe_1": {"label_scale": 100}})
    with pytest.raises(
        GeoladderError, match=r"scale of \w+: by the bulk of the labels; 0 of 1 agree, not europe_1"
    ):
        opened(bench_folder)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"offset_dn": ["1000"], "patches": {"train": [3]}}, r"offset_dn \['1000'\]"),
        ({"offset_dn": [1000], "patches": 3}, "has patches 3"),
        ({"offset_dn": [True], "patches": {"train": [3]}}, "whole numbers"),
        ({"label_scale": "100"}, "label_scale of '100'"),
    ],
)
def test_records_that_are_none_are_named(bench_folder, opened, record, message):
    bench_folder.add("europe", "1", "train", 3).tiles_metadata({"europe_1": record})
    with pytest.raises(GeoladderError, match=message):
        opened(bench_folder)
