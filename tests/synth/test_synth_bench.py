"""Synthetic PhilEO Bench: names, shapes, splits and oddities of the real files."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from geoladder.data.bench.files import parse
from geoladder.errors import GeoladderError
from geoladder.study.corpora import Earth
from geoladder.study.downstream import Bench
from geoladder.synth.bench import VALIDATION_SHARE, write_bench
from geoladder.synth.place import Place
from geoladder.synth.regions import REGIONS, plan_tiles

EARTH = Earth()
SETTINGS = Bench(patch_px=16, train_tiles=1, test_tiles=1, patches_per_tile=9, seed=7)
CODES = {0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100}
NO_ROADS = ("denmark", "egypt", "ghana", "isreal", "tanzania", "uganda")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    write_bench(folder, EARTH, SETTINGS, 2)
    return folder


@pytest.fixture(scope="module")
def tiles(bench: Path) -> dict:
    return json.loads((bench / "metadata" / "tiles_metadata.json").read_text())


def test_regions_are_those_of_the_bench() -> None:
    assert {parse(Path(f"{region.name}_1_train_s2.npy")).bucket for region in REGIONS} == {
        "europe", "east-africa", "northwest-africa", "north-america", "south-america", "japan"
    }  # fmt: skip
    assert "isreal-1" in {region.name for region in REGIONS}
    for region in REGIONS:
        assert region.roads == (not region.name.startswith(NO_ROADS))


def test_files_shapes_and_types(bench: Path, tiles: dict) -> None:
    for name, record in tiles.items():
        for split, counts in record["patches"].items():
            images = np.load(bench / f"{name}_{split}_s2.npy")
            assert images.shape == (sum(counts), 16, 16, 10)
            assert images.dtype == np.uint16
            assert images.size == 0 or images.min() >= 1
            labels = {
                label: bench / f"{name}_{split}_label_{label}.npy"
                for label in ("roads", "building", "lc", "kg")
            }
            assert labels["roads"].exists() == (not name.startswith(NO_ROADS))
            for label, path in labels.items():
                if path.exists():
                    array = np.load(path)
                    assert array.shape == (sum(counts), 16, 16, 1)
                    assert array.dtype == (np.uint8 if label in ("lc", "kg") else np.float32)
            cover = set(np.unique(np.load(labels["lc"])))
            assert cover <= CODES
            assert set(np.unique(np.load(labels["kg"]))) <= set(range(31))
            assert np.load(bench / f"{name}_{split}_label_coords.npy").shape == (sum(counts), 3)
            density = np.load(labels["building"])
            assert np.nanmax(density, initial=0) <= record["label_scale"]


def test_splits(tiles: dict) -> None:
    for record in tiles.values():
        if record["split"] == "test":
            assert set(record["patches"]) == {"test"}
            continue
        for train, val in zip(record["patches"]["train"], record["patches"]["val"], strict=True):
            assert val == np.ceil(VALIDATION_SHARE * (train + val))
    cells = [record["grid_cell"] for record in tiles.values()]
    assert len(set(cells)) == len(cells)  # no test tile is a training place


def test_two_dates_show_one_place(bench: Path, tiles: dict) -> None:
    name, record = next(
        (name, record)
        for name, record in tiles.items()
        if record["split"] == "test" and record["patches"]["test"] == [9, 9]
    )
    cover = np.load(bench / f"{name}_test_label_lc.npy")
    np.testing.assert_array_equal(cover[:9], cover[9:])
    images = (
        np.load(bench / f"{name}_test_s2.npy").astype(int)
        - np.repeat(record["offset_dn"], 9)[:, None, None, None]
    )
    assert np.abs(images[:9] - images[9:]).mean() > 50


def test_offsets_are_told_and_true(bench: Path, tiles: dict) -> None:
    offsets = set()
    for name, record in tiles.items():
        split = record["split"]
        images = np.load(bench / f"{name}_{split}_s2.npy")
        stops = np.cumsum([0, *record["patches"][split]])
        for start, stop, offset in zip(stops, stops[1:], record["offset_dn"], strict=False):
            if stop - start >= 4:
                darkest = images[start:stop].min()  # a blue or short-wave infrared pixel
                assert darkest > 600 if offset else darkest < 900, (name, darkest)
                offsets.add(offset)
    assert offsets == {0, 1000}


def test_oddities_occur_over_many_tiles() -> None:
    tiles = [tile for region in REGIONS for tile in plan_tiles(EARTH, region, Bench(train_tiles=4))]
    assert any(tile.square_metres for tile in tiles)
    assert any(tile.nan for tile in tiles)
    assert not any(tile.test for tile in tiles if tile.region.name.startswith(("isreal", "uganda")))
    assert np.mean([Place(EARTH, tile.cell).population for tile in tiles]) > 0.3


def test_counts_file(bench: Path, tiles: dict) -> None:
    (path,) = bench.glob("*_npy_file_info.csv")
    header, *lines = path.read_text().splitlines()
    assert header == ",samples"
    assert len(lines) == sum(len(record["patches"]) for record in tiles.values())
    assert not (bench / ".tiles").exists()


def test_same_bytes_again(bench: Path, tmp_path: Path) -> None:
    write_bench(tmp_path, EARTH, SETTINGS, 1)
    for path in bench.rglob("*.*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(bench)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("change", [{"patch_px": 0}, {"test_tiles": 0}])
def test_bad_settings(change: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        Bench(**change)


def test_patches_must_fit_a_tile(tmp_path: Path) -> None:
    with pytest.raises(GeoladderError, match="1200 patches of 32 px need 1120 px; a tile has 1068"):
        write_bench(tmp_path, EARTH, Bench(patches_per_tile=1200), 1)
