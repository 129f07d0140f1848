import numpy as np
import pandas as pd
import pytest

from geoladder.data.bench import nshot
from geoladder.data.bench.split import read_subset, write_split
from geoladder.errors import GeoladderError
from geoladder.study.downstream_specs import SplitSpec

TASK = "landcover"


def spec(**changes):
    values = {
        "task": TASK,
        "n": [2, 5],
        "protocol": "seeded",
        "seed": 3,
        "validation": "apart",
        "allow_short": False,
        "indices": [],
        "bench": "b",
    }
    return SplitSpec(**(values | changes))


@pytest.fixture
def tiles(bench_folder, opened):
    """Five tiles in japan, the last two over one another; two in europe; one in nigeria."""
    places = {"japan": [30, 31, 32, 33, 33.0005], "europe": [50, 51], "nigeria": [9]}
    for region, lats in places.items():
        for tile, lat_deg in enumerate(lats):
            coords = np.tile([(90 - lat_deg) / 180, 0.5, 1.0], (12, 1))
            bench_folder.add(region, str(tile), "train", 12, seed=tile, label_coords=coords)
            bench_folder.add(region, str(tile), "val", 2, seed=tile, label_coords=coords[:2])
    return opened(bench_folder)


def names(rows):
    return set(rows["bucket"] + "/" + rows["region"] + "_" + rows["tile"])


@pytest.mark.parametrize("task", ["roads", TASK])
def test_validation_lies_in_tiles_that_training_does_not_touch(tiles, task, caplog):
    chosen = set()
    for seed in range(12):
        subset = nshot.draw(tiles, task, 8, seed)
        assert not names(subset.train_rows) & names(subset.val_rows) - {"northwest-africa/nigeria_0"}
        japan = {name for name in names(subset.val_rows) if "japan" in name}
        overlapping = {"japan/japan_3", "japan/japan_4"}
        assert overlapping <= japan or not overlapping & (japan | set())
        assert not overlapping & names(subset.train_rows) or not overlapping & japan
        chosen.add(frozenset(japan))
        nigeria = subset.val_rows[subset.val_rows["region"] == "nigeria"]
        assert (tiles.index["split"].to_numpy()[nigeria["entry"]] == "val").all()
    assert len(chosen) > 2
    assert "one training tile of" in caplog.text and "northwest-africa" in caplog.text


def test_tiles_set_aside_are_the_same_for_every_n(tiles):
    sides = nshot.sides_of(tiles, TASK, 5, "apart")
    for n in (1, 4, 10):
        subset = nshot.draw(tiles, TASK, n, 5)
        assert names(subset.train_rows) <= names(sides.train) and names(subset.val_rows) <= names(sides.val)
    japan = sides.val[sides.val["region"] == "japan"]
    assert 12 <= len(japan) <= 30 and len(sides.train) + len(japan) >= 60


def test_adjacent_patches_are_the_benchs_own(tiles):
    subset = nshot.draw(tiles, TASK, 8, 0, validation="adjacent")
    splits = tiles.index["split"].to_numpy()
    assert (splits[subset.train_rows["entry"]] == "train").all()
    assert (splits[subset.val_rows["entry"]] == "val").all()


@pytest.mark.parametrize("protocol", ["seeded", "philEO"])
@pytest.mark.parametrize("task", ["roads", TASK])
def test_a_file_gives_back_every_subset(tiles, tmp_path, protocol, task):
    node = spec(task=task, protocol=protocol, validation="apart" if protocol == "seeded" else "adjacent")
    write_split(node, tiles, tmp_path / "s.parquet", [])
    for n in node.n:
        subset = read_subset(tmp_path / "s.parquet", tiles, task, n, node.subset(n))
        assert (subset.train_rows["bucket"].value_counts() == n).all()
        if protocol == "seeded":
            for rows, drawn in zip(subset, nshot.draw(tiles, task, n, 3), strict=True):
                pd.testing.assert_frame_equal(rows, drawn)
    table = pd.read_parquet(tmp_path / "s.parquet")
    first = table.iloc[0]
    assert table.attrs["spec"] == node.model_dump(mode="json")
    assert (
        first["file"] == f"{first['tile']}_train_s2.npy" and first["n"] in (2, 5) and first["side"] == "train"
    )


def test_a_subset_is_named_by_itself_alone(tiles, tmp_path):
    """More n beside it, or another order of writing, are the same subset; another protocol is not."""
    assert spec().subset(5) == spec(n=[5]).fingerprint == spec(n=[5000]).subset(5)
    assert spec(indices=["a", "b"]).subset(5) == spec(n=[5], indices=["b"]).fingerprint
    assert len({spec(**change).subset(5) for change in ({}, {"seed": 1}, {"validation": "adjacent"})}) == 3
    for name in ("one", "two"):
        write_split(spec(), tiles, tmp_path / f"{name}.parquet", [])
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_a_file_of_another_bench_is_refused(tiles, tmp_path, bench_folder, opened):
    write_split(spec(), tiles, tmp_path / "s.parquet", [])
    for label in bench_folder.folder.glob("japan_*label_lc.npy"):
        label.unlink()
    other = opened(bench_folder)
    with pytest.raises(
        GeoladderError, match=r"names patches that .* does not have for landcover, .*geoladder split"
    ):
        read_subset(tmp_path / "s.parquet", other, TASK, 5, spec().subset(5))


def test_official_files_come_exactly_with_a_spec_that_has_them(tiles, tmp_path):
    for node, files in ((spec(), [tmp_path / "i.json"]), (spec(protocol="official", indices=["0", "1"]), [])):
        with pytest.raises(GeoladderError, match="give --indices FILE once for each n"):
            write_split(node, tiles, tmp_path / "s.parquet", files)
    assert not (tmp_path / "s.parquet").exists()


def test_a_short_bucket_is_an_error_or_gives_all_it_has(tiles, tmp_path):
    write_split(spec(n=[50]), tiles, tmp_path / "s.parquet", [])
    with pytest.raises(GeoladderError, match=r"n = 40 for landcover .*bench.allow_short: true"):
        read_subset(tmp_path / "s.parquet", tiles, TASK, 40, spec(n=[50]).subset(40))
    assert len(read_subset(tmp_path / "s.parquet", tiles, TASK, 5, spec(n=[50]).subset(5)).train_rows) == 15
    node = spec(n=[50], allow_short=True)
    write_split(node, tiles, tmp_path / "s.parquet", [])
    rows = read_subset(tmp_path / "s.parquet", tiles, TASK, 50, node.subset(50)).train_rows
    assert rows["bucket"].value_counts().to_dict()["europe"] == 12


def test_files_that_changed_after_indexing_are_named(tiles, bench_folder):
    path = bench_folder.folder / "japan_0_train_label_roads.npy"
    labels = np.load(path)
    rows = tiles.pool("roads", "train").query("region == 'japan' and tile == '0'")
    np.save(path, labels[:5])
    with pytest.raises(GeoladderError, match=r"japan_0_train_label_roads.npy has shape \(5, 16, 16, 1\)"):
        tiles.labels("roads", rows)
    path.unlink()
    with pytest.raises(GeoladderError, match=r"japan_0_train_label_roads.npy cannot be read"):
        nshot.draw(tiles, "roads", 12, 0, validation="adjacent")
    images = bench_folder.folder / "japan_0_train_s2.npy"
    np.save(images, np.load(images)[:5])
    with pytest.raises(GeoladderError, match=r"japan_0_train_s2.npy has 5 patches, .* counts 12"):
        tiles.read(TASK, rows)


def test_a_tile_is_on_one_side(bench_folder, opened):
    bench_folder.add("japan", "1", "train", 3).add("japan", "1", "test", 3)
    with pytest.raises(
        GeoladderError, match=r"tile japan_1 .* has files of test and train: what is tested would"
    ):
        opened(bench_folder)


def test_a_label_file_that_one_split_lacks_is_named(bench_folder, opened):
    bench_folder.add("japan", "1", "train", 3).add("japan", "1", "val", 3, labels=("lc",))
    with pytest.raises(
        GeoladderError, match=r"japan_1_val_label_building.npy is missing, .* unpack the bench"
    ):
        opened(bench_folder)


def test_patches_without_any_label_are_never_drawn(bench_folder, opened):
    roads = np.full((30, 16, 16, 1), np.nan, np.float32)
    roads[:10] = 0.5
    bench_folder.add("japan", "1", "train", 30, label_roads=roads).add("japan", "1", "val", 6)
    bench = opened(bench_folder)
    if not np.isnan(bench.labels("roads", bench.pool("roads", "train"))).any():
        pytest.skip("pixels without label are read as 0")
    assert set(nshot.draw(bench, "roads", 10, 0).train_rows["slot"]) == set(range(10))
    with pytest.raises(
        GeoladderError, match=r"its pool is 30 training patches, of which 10 are drawn, never"
    ):
        nshot.draw(bench, "roads", 11, 0)
