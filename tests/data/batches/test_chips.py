import errno
import itertools
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rasterio.warp import transform

from geoladder.data.archives.majortom import MajorTom
from geoladder.data.batches import shards
from geoladder.data.batches.batch import to_reflectance
from geoladder.data.batches.chip_store import ChipStore, shard_files
from geoladder.data.batches.chips import merge_chips, write_chips, write_group
from geoladder.data.batches.shards import Group
from geoladder.data.index.build import build_index
from geoladder.data.labels.targets import great_circle_km
from geoladder.errors import GeoladderError
from geoladder.runs.digest import seal_path
from geoladder.study.specs import ChipsSpec, IndexSpec

PART = "part_00001.parquet"
FIVE_CHIPS = 5 * 2 * (4 * 16**2 + 6 * 8**2)
CODECS = ("none", "blosc2")
MANIFEST_COLUMNS = [
    *("chip", "shard", "slot", "grid_cell", "product_id", "split", "lat_deg", "lon_deg"),
    *("day_of_year", "koppen", "offset_dn", "cloud_share"),
]


@pytest.fixture
def prepare(tmp_path, no_bench):
    """Index an archive; give what `write_chips` takes."""

    def run(folder, chip_px=16, corrupt=0.1, cloud=0.3, codec="none"):
        limits = {"max_cloud_percent": 100.0, "max_nodata_share": 1.0, "max_corrupt_share": corrupt}
        index_spec = IndexSpec(
            archive="a",
            bench="b",
            one_product_per_cell=True,
            harmonise="baseline",
            validation_share=0.2,
            bench_buffer_km=0.0,
            **limits,
        )
        index = tmp_path / "index.parquet"
        build_index(index_spec, folder, no_bench, index, tmp_path / "ledger.csv")
        spec = ChipsSpec(
            index=index_spec.fingerprint,
            chip_px=chip_px,
            chip_max_cloud_share=cloud,
            max_corrupt_share=corrupt,
            chip_codec=codec,
        )
        return spec, folder, index, tmp_path / "chips"

    return run


@pytest.fixture
def cut(prepare):
    """Index an archive, cut it into chips, and open them."""

    def run(folder, **changes):
        task = prepare(folder, **changes)
        write_chips(*task)
        return ChipStore(task[-1])

    return run


def manifest_of(store):
    return pd.read_parquet(store.manifest)


def read_dropped(store):
    return pd.read_csv(store.folder / "dropped.csv").rename(columns={"count": "n"})


@pytest.mark.parametrize("codec", CODECS)
def test_chips_are_bit_exact_and_cover_the_tile(archive, cut, codec):
    for number in range(3):
        archive.add(f"{number}U_1R", tile_px=40)  # two chips of 16 px a side, 8 px left over
    archive.write()
    store = cut(archive.folder, codec=codec)
    assert list(manifest_of(store).columns) == MANIFEST_COLUMNS
    assert list(manifest_of(store)["chip"]) == list(range(12))
    batch = store.read(np.arange(12))
    assert batch.dn10.shape == (12, 4, 16, 16) and batch.dn20.shape == (12, 6, 8, 8)
    reader = MajorTom(archive.folder)
    for number in range(3):
        tile = reader.read(PART, number)
        for place in range(4):
            down, right = divmod(place, 2)
            rows, columns = slice(16 * down, 16 * down + 16), slice(16 * right, 16 * right + 16)
            np.testing.assert_array_equal(batch.dn10[4 * number + place], tile.dn10[:, rows, columns])
            rows, columns = slice(8 * down, 8 * down + 8), slice(8 * right, 8 * right + 8)
            np.testing.assert_array_equal(batch.dn20[4 * number + place], tile.dn20[:, rows, columns])


def test_reading_any_order_with_repeats_over_shards(archive, cut, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", FIVE_CHIPS)
    for number in range(3):
        archive.add(f"{number}U_1R", tile_px=48)
    archive.write()
    store = cut(archive.folder)
    assert list(manifest_of(store)["shard"].value_counts().sort_index()) == [5, 5, 5, 5, 5, 2]
    everything = store.read(np.arange(27))
    wanted = np.random.default_rng(0).integers(0, 27, 50)
    some = store.read(wanted)
    np.testing.assert_array_equal(some.dn10, everything.dn10[wanted])
    np.testing.assert_array_equal(some.dn20, everything.dn20[wanted])
    tile = MajorTom(archive.folder).read(PART, 2)
    np.testing.assert_array_equal(everything.dn10[26], tile.dn10[:, 32:, 32:])
    assert store.read(np.empty(0, np.int64)).dn20.shape == (0, 6, 8, 8)


def test_centres_are_where_the_projection_says(archive, cut):
    archive.add("1U_1R", tile_px=32).write()
    manifest = manifest_of(cut(archive.folder))
    east = [500_080.0, 500_240.0, 500_080.0, 500_240.0]
    north = [4_999_920.0, 4_999_920.0, 4_999_760.0, 4_999_760.0]
    lon, lat = transform("EPSG:32632", "EPSG:4326", east, north)
    np.testing.assert_allclose(manifest["lat_deg"], lat)
    np.testing.assert_allclose(manifest["lon_deg"], lon)
    assert manifest["day_of_year"].unique() == [181] and manifest["koppen"].between(0, 30).all()
    assert manifest["offset_dn"].unique() == [1000]


def test_nodata_and_cloud_drop_chips_and_are_counted(archive, make, cut):
    one_bad = np.full((32, 32), 2000, np.uint16)
    one_bad[0, 0] = 0  # first chip, one pixel of one 20 m band
    clouds = np.zeros((64, 64), np.uint8)
    clouds[0:16, 16:32] = 2  # second chip, thin cloud all over
    clouds[0:16, 32:36] = 3  # third chip, a quarter in shadow: allowed
    image = {"B11": make.geotiff(one_bad, 20.0), "cloud_mask": make.geotiff(clouds)}
    archive.add("1U_1R", image=image).write()
    store = cut(archive.folder)
    assert len(manifest_of(store)) == 14
    assert manifest_of(store)["cloud_share"][0] == pytest.approx(0.25)
    table = read_dropped(store)
    assert list(zip(table["unit"], table["reason"], table["n"], strict=True)) == [
        ("chip", "cloud", 1),
        ("chip", "nodata", 1),
    ]
    assert "part_00001.parquet row 0 (1U_1R)" in table["first"][0]


def test_corrupt_row_is_dropped_and_counted(archive, cut):
    for number in range(4):
        archive.add(f"{number}U_1R", tile_px=32, image={"B07": b"?"} if number == 2 else None)
    archive.write()
    store = cut(archive.folder, corrupt=0.25)
    assert set(manifest_of(store)["grid_cell"]) == {"0U_1R", "1U_1R", "3U_1R"}
    table = read_dropped(store)
    assert list(table["reason"]) == ["unreadable"] and "row 2 (2U_1R)" in table["first"][0]


def test_too_many_corrupt_rows_stop_the_run_without_a_manifest(archive, cut, tmp_path):
    for number in range(4):
        archive.add(f"{number}U_1R", tile_px=32, image={"B07": b"?"} if number > 1 else None)
    archive.write()
    with pytest.raises(GeoladderError, match=r"1 of the 4 tiles .* the first: .*row 2 \(2U_1R\) band B07"):
        cut(archive.folder)
    assert not (tmp_path / "chips" / "manifest.parquet").exists()


def test_tile_in_another_projection_than_listed_is_dropped(archive, cut):
    archive.add("1U_1R").add("2U_1R", meta={"crs": "EPSG:32733"}).write()
    store = cut(archive.folder)
    assert set(manifest_of(store)["grid_cell"]) == {"1U_1R"}
    assert list(read_dropped(store)["reason"]) == ["metadata mismatch"]


def test_earlier_attempt_is_removed(archive, cut, tmp_path):
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "10m-00007.npy").write_bytes(b"old")
    archive.add("1U_1R").write()
    store = cut(archive.folder)
    assert sorted(path.name for path in store.folder.glob("*.npy")) == ["10m-00000.npy", "20m-00000.npy"]


def fill(archive, tiles=6, parts=3, **changes):
    """Several parts of tiles of nine chips."""
    for number in range(tiles):
        part = f"part_{number * parts // tiles + 1:05d}.parquet"
        archive.add(f"{number}U_1R", tile_px=48, part=part, **changes)
    archive.write()


def contents(store):
    """Everything a store holds, whatever its files are."""
    batch = store.read(np.arange(len(store)))
    return [
        *batch,
        manifest_of(store).drop(columns=["shard", "slot"]).to_dict("list"),
        read_dropped(store).to_csv(),
    ]


def assert_same(one, other):
    for a, b in zip(contents(one), contents(other), strict=True):
        assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


def test_compressed_chips_are_the_same_chips(archive, prepare, tmp_path):
    fill(archive)
    task = prepare(archive.folder)
    write_chips(*task)
    write_chips(task[0].model_copy(update={"chip_codec": "blosc2"}), *task[1:3], tmp_path / "packed")
    assert [path.name for path in (tmp_path / "packed").iterdir() if path.suffix == ".b2frame"] == [
        "chips-00000.b2frame"
    ]
    assert_same(ChipStore(task[-1]), ChipStore(tmp_path / "packed"))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("groups", [1, 2, 3, 5])
def test_groups_in_any_order_give_the_same_chips(archive, prepare, tmp_path, monkeypatch, groups, codec):
    monkeypatch.setattr(shards, "SHARD_BYTES", FIVE_CHIPS // 2)
    fill(archive)
    task = prepare(archive.folder, codec=codec)
    whole = (*task[:3], tmp_path / "whole")
    write_chips(*whole)
    for number in reversed(range(groups)):
        with pytest.raises(GeoladderError, match=r"--parts 1/"):
            merge_chips(*task, groups)
        write_group(*task, Group(number, groups))
    merge_chips(*task, groups)
    assert_same(ChipStore(task[-1]), ChipStore(whole[-1]))
    assert not (task[-1] / "pieces").exists()


def test_shards_of_another_scattering_are_removed_by_the_merge(archive, prepare, tmp_path):
    fill(archive)
    task = prepare(archive.folder)
    write_group(*task, Group(2, 3))
    stale = task[-1] / "10m-200000.npy"
    assert stale.exists()
    for number in range(2):
        write_group(*task, Group(number, 2))
    merge_chips(*task, 2)
    assert not stale.exists()
    assert len(ChipStore(task[-1])) == 54


def test_groups_of_parts_are_read_from_text():
    assert Group.parse("3/16") == Group.parse("3-of-16") == Group(2, 16)
    for bad in ("0/4", "5/4", "3", "a/b", ""):
        with pytest.raises(GeoladderError, match="no group of parts"):
            Group.parse(bad)


def full_disk(monkeypatch, after):
    """Let `after` shard files be written whole; the next gets half its bytes."""
    count = 0
    save, write = np.save, Path.write_bytes

    def half(real, path, data):
        nonlocal count
        count += 1
        if count > after:
            real(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, data)

    monkeypatch.setattr(np, "save", lambda path, data: half(save, path, data))
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: half(write, path, data))


@pytest.mark.parametrize(("codec", "after"), [("none", 0), ("none", 11), ("blosc2", 0), ("blosc2", 6)])
def test_a_full_disk_leaves_no_half_shard_and_cutting_goes_on_from_there(
    archive, prepare, tmp_path, monkeypatch, codec, after
):
    monkeypatch.setattr(shards, "SHARD_BYTES", FIVE_CHIPS // 2)
    one_bad = {"B07": b"?"}
    for number in range(6):
        archive.add(f"{number}U_1R", tile_px=48, image=one_bad if number == 1 else None)
    archive.write()
    task = prepare(archive.folder, corrupt=0.5, codec=codec)
    whole = (*task[:3], tmp_path / "whole")
    write_chips(*whole)
    with monkeypatch.context() as patch:
        full_disk(patch, after)
        with pytest.raises(
            GeoladderError, match=r"shard \d+ .* No space left .* free some disk space and run again"
        ):
            write_chips(*task)
    (task[-1] / "pieces").mkdir(exist_ok=True)
    (task[-1] / "pieces/.00000.1.tmp.parquet").write_bytes(b"half of one, of a killed job")
    safe = [path for path in sorted(task[-1].iterdir()) if path.is_file() and path.suffix != ".seal"]
    assert all(path.name[0] != "." for path in safe) and not (task[-1] / "manifest.parquet").exists()
    assert {path.name for path in task[-1].glob(".*")} == {f".{path.name}.seal" for path in safe}
    per_shard = 2 if codec == "none" else 1
    assert len(safe) == after // per_shard * per_shard
    times = [path.stat().st_mtime_ns for path in safe]
    read, real = [], MajorTom.read
    monkeypatch.setattr(MajorTom, "read", lambda self, *place: read.append(place) or real(self, *place))
    write_chips(*task)
    assert [path.stat().st_mtime_ns for path in safe] == times  # what was safe was not written again
    assert len(read) == 6 if after == 0 else len(read) < 6
    assert_same(ChipStore(task[-1]), ChipStore(whole[-1]))


class Killed(BaseException):
    """What comes where a process would be gone."""


def kill_at(monkeypatch, operation):
    """Let so many files be renamed or removed, and none after them: not even what cleans up runs in a killed job."""
    count = 0

    def counted(real, *arguments, **named):
        nonlocal count
        count += 1
        if count > operation:
            raise Killed
        return real(*arguments, **named)

    for name in ("replace", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, partial(counted, getattr(os, name)))


@pytest.mark.slow
@pytest.mark.parametrize("other_first", [False, True])
def test_a_job_killed_between_any_two_steps_is_gone_on_with(
    archive, prepare, tmp_path, monkeypatch, other_first
):
    """Also one that removed the chips of other settings, which are then wanted again."""
    monkeypatch.setattr(shards, "SHARD_BYTES", FIVE_CHIPS // 2)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the machine itself goes on
    fill(archive, tiles=1, parts=1)
    task = prepare(archive.folder)
    write_chips(*task[:3], tmp_path / "whole")
    whole = ChipStore(tmp_path / "whole")
    other = task[0].model_copy(update={"chip_px": 24})
    for operation in itertools.count():
        out = tmp_path / f"killed{operation}"
        if other_first:
            write_group(*task[:3], out, Group())
        with monkeypatch.context() as patch:
            kill_at(patch, operation)
            try:
                write_chips(other if other_first else task[0], *task[1:3], out)
            except Killed:
                is_killed = True
            else:
                is_killed = False
        write_chips(*task[:3], out)
        assert_same(ChipStore(out), whole)
        if not is_killed:
            break
        shutil.rmtree(out)
    assert operation > 20


def test_an_attempt_with_other_settings_is_not_gone_on_with(archive, prepare, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", FIVE_CHIPS)
    fill(archive)
    task = prepare(archive.folder)
    with monkeypatch.context() as patch:
        full_disk(patch, 4)
        with pytest.raises(GeoladderError):
            write_chips(*task)
    write_chips(task[0].model_copy(update={"chip_px": 24}), *task[1:])
    assert len(ChipStore(task[-1])) == 6 * 4 and ChipStore(task[-1]).chip_px == 24


def test_a_folder_that_cannot_be_written_to_is_named(archive, prepare, tmp_path):
    fill(archive, tiles=1, parts=1)
    task = prepare(archive.folder)
    (tmp_path / "chips").write_text("a file")
    with pytest.raises(GeoladderError, match=r"chips cannot be prepared for chips"):
        write_chips(*task)


def test_bad_parts_count_over_all_groups(archive, prepare):
    """One bad part of three is within the limit of all tiles, though it is all of its group; two are not."""
    fill(archive)
    task = prepare(archive.folder, corrupt=0.4)
    images = archive.folder / "images"
    (images / "part_00002.parquet").unlink()
    for number in range(3):
        write_group(*task, Group(number, 3))
    merge_chips(*task, 3)
    assert len(ChipStore(task[-1])) == 36
    assert read_dropped(ChipStore(task[-1]))["n"].tolist() == [2]
    (images / "part_00003.parquet").unlink()
    for number in range(3):
        write_group(*task, Group(number, 3))
    with pytest.raises(GeoladderError, match="4 of the 6 tiles"):
        merge_chips(*task, 3)


def test_no_chip_left(archive, cut):
    archive.add("1U_1R", tile_px=32).write()
    with pytest.raises(GeoladderError, match="no chip of 64 px left"):
        cut(archive.folder, chip_px=64)


def test_store_with_missing_or_damaged_files(archive, make, cut, tmp_path):
    archive.add("1U_1R").write()
    folder = cut(archive.folder).folder
    make.truncate(folder / "20m-00000.npy")
    with pytest.raises(GeoladderError, match=r"20m-00000.npy cannot be read"):
        ChipStore(folder).read(np.array([0]))
    with pytest.raises(GeoladderError, match=r"manifest.parquet is missing"):
        ChipStore(tmp_path)


@pytest.mark.parametrize("codec", CODECS)
def test_one_flipped_bit_in_any_shard_is_named_before_a_chip_is_read(archive, cut, codec):
    archive.add("1U_1R").write()
    folder = cut(archive.folder, codec=codec).folder
    for path in shard_files(folder, 0, codec):
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        with pytest.raises(GeoladderError, match=rf"{path.name} cannot be read .*digest .*make it again"):
            ChipStore(folder).read(np.array([0]))
        path.write_bytes(whole)
    assert len(ChipStore(folder).read(np.array([0])).dn10) == 1


@pytest.mark.parametrize("change", [{"slot": -1}, {"slot": 10**6}, {"shard": -1}, "short"])
def test_a_manifest_that_does_not_fit_its_shards_is_refused(archive, cut, change):
    archive.add("1U_1R").write()
    store = cut(archive.folder)
    if change == "short":
        store.manifest.write_bytes(store.manifest.read_bytes()[:-50])
    else:
        manifest_of(store).assign(**change).to_parquet(store.manifest)
    seal_path(store.manifest).unlink()
    with pytest.raises(
        GeoladderError,
        match=r"manifest\.parquet (is no manifest|has no readable column)|10m-00000\.npy cannot be read",
    ):
        ChipStore(store.folder).read(np.array([0]))


def test_chips_of_another_study_are_refused(archive, cut):
    archive.add("1U_1R").write()
    with pytest.raises(GeoladderError, match=r"of another study .* but 0123456789ab is wanted"):
        ChipStore(cut(archive.folder).folder, "0123456789ab")


def test_damaged_compressed_shards_are_named(archive, make, cut):
    archive.add("1U_1R").write()
    folder = cut(archive.folder, codec="blosc2").folder
    path = folder / "chips-00000.b2frame"
    frame = path.read_bytes()
    for damaged in (frame[: len(frame) // 2], b"nothing of the kind", b""):
        path.write_bytes(damaged)
        with pytest.raises(GeoladderError, match=r"chips-00000.b2frame cannot be read"):
            ChipStore(folder).read(np.array([15]))


def test_real_samples(samples, cut):
    """Index to reflectance on real pixels: harmonised, both cells have dark pixels near zero."""
    store = cut(samples, chip_px=32)
    manifest = manifest_of(store)
    assert manifest["grid_cell"].nunique() == 2 and len(manifest) >= 2 * 25
    reflectance = to_reflectance(*store.read(manifest["chip"].to_numpy()))
    assert 0 <= float(reflectance.min()) and 0.01 < float(reflectance.mean()) < 0.5
    for _, chips in manifest.groupby("grid_cell").groups.items():
        assert float(reflectance[list(chips), :4].quantile(0.01)) < 0.04
    for cell, lat, lon in (("433D_629L", -38.85, -72.52), ("637U_59R", 57.26, 9.87)):
        centres = manifest[manifest["grid_cell"] == cell]
        assert great_circle_km(centres["lat_deg"], centres["lon_deg"], lat, lon).max() < 8
