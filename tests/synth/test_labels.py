"""Labels of chips of a synthetic archive are the generator's own, to the pixel."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geoladder.data.batches.chip_store import ChipStore
from geoladder.data.batches.chips import write_chips
from geoladder.data.index.build import build_index
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.study.corpora import Corpus, Earth
from geoladder.study.load import load_study
from geoladder.study.specs import ChipsSpec, IndexSpec, LabelsSpec
from geoladder.synth import labels
from geoladder.synth.archive import write_archive
from geoladder.synth.encode import quantise
from geoladder.synth.labels import labels_of, write_labels
from geoladder.synth.regions import REGIONS, plan_tiles
from geoladder.synth.rows import plan_rows
from geoladder.synth.scene import render

PX = 16
EARTH = {"majortom": Earth(tile_px=60), "fasttom": Earth(tile_px=96)}
TASK_LABELS = {"roads": "roads", "buildings": "building", "landcover": "lc"}


INDEX = IndexSpec(
    archive="a", bench="b", one_product_per_cell=False, max_cloud_percent=100, max_nodata_share=1,
    max_corrupt_share=0.1, harmonise="baseline", validation_share=0.2, bench_buffer_km=0,
    exclude_bench="none",
)  # fmt: skip
CHIPS = ChipsSpec(index=INDEX.fingerprint, chip_px=PX, chip_max_cloud_share=0.9, max_corrupt_share=0.1)


def spec(like, **changes):
    return LabelsSpec(**({"earth": EARTH[like], "chips": CHIPS.pixels, "tasks": list(TASK_LABELS)} | changes))


def cut(folder, like):
    """An archive with its index and chips."""
    write_archive(folder / "archive", EARTH[like], Corpus(like=like, tiles=16, seed=1), 1)
    pd.DataFrame(columns=["split", "lat_deg", "lon_deg"]).to_parquet(folder / "bench.parquet")
    files = [folder / name for name in ("bench.parquet", "index.parquet", "ledger.csv")]
    build_index(INDEX, folder / "archive", *files)
    write_chips(CHIPS, folder / "archive", files[1], folder / "chips")


@pytest.fixture(scope="module", params=EARTH)
def labelled(request, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    cut(folder, request.param)
    write_labels(spec(request.param), folder / "chips", folder / "labels", 1)
    return request.param, folder


def place_in(tile, chip):
    """Where the pixels of a chip lie in a tile's, by looking for them everywhere."""
    side = chip.shape[-1]
    starts = np.argwhere((tile[:, : 1 - side, : 1 - side] == chip[:, :1, :1]).all(0))
    fits = [(y, x) for y, x in starts if (tile[:, y : y + side, x : x + side] == chip).all()]
    assert len(fits) == 1
    return fits[0]


def test_they_are_those_of_the_pixels_a_chip_shows(labelled):
    """Labels are found by coordinates; here, by the pixels that the generator makes on the chip's own date."""
    like, folder = labelled
    manifest = pd.read_parquet(folder / "chips/manifest.parquet")
    store, places = ChipStore(folder / "chips"), set()
    stored = {name: np.load(folder / f"labels/{name}.npy") for name in TASK_LABELS.values()}
    assert all(len(of_chips) == len(manifest) for of_chips in stored.values())
    some = np.linspace(0, len(manifest) - 1, 12).astype(int)
    for number, dn in zip(some, store.read(some).dn10, strict=True):
        chip = manifest.iloc[number]
        date = re.sub(r".*_MSIL2A_(\d{4})(\d\d)(\d\d)T.*", r"\1-\2-\3", chip.product_id)
        scene = render(EARTH[like], chip.grid_cell, date, EARTH[like].tile_px)
        y, x = place_in(quantise(scene.reflectance[:4], chip.offset_dn), dn)
        places.add((y, x))
        for name, truth in labels_of(scene).items():
            np.testing.assert_array_equal(stored[name][number], truth[y : y + PX, x : x + PX])
    assert len(places) > 3  # chips from inside of tiles, too
    assert np.ptp(stored["lc"]) > 0


def test_tasks_can_read_them(labelled):
    _, folder = labelled
    for task, name in TASK_LABELS.items():
        of_chips = TASKS[task].read(np.load(folder / f"labels/{name}.npy"), 1.0)
        assert of_chips.shape[1:] == (PX, PX)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(labelled, tmp_path, monkeypatch):
    like, folder = labelled
    with monkeypatch.context() as patch:
        calls = iter(range(5))
        patch.setattr(labels, "render", lambda *scene: render(*scene) if next(calls) < 4 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_labels(spec(like), folder / "chips", tmp_path, 1)
    assert not (tmp_path / "labels.json").exists()
    write_labels(spec(like), folder / "chips", tmp_path, 1)
    names = sorted(path.name for path in tmp_path.glob("[!.]*"))
    assert names == ["building.npy", "labels.json", "lc.npy", "roads.npy"]
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / "labels" / name).read_bytes()
    assert json.loads((tmp_path / "labels.json").read_text())["fingerprint"] == spec(like).fingerprint


def test_chips_of_another_earth_are_refused(labelled, tmp_path):
    like, folder = labelled
    with pytest.raises(GeoladderError, match="do not lie on the pixels of its synthetic tile of 48 px"):
        write_labels(spec(like, earth=Earth(tile_px=48)), folder / "chips", tmp_path, 1)
    assert not list(tmp_path.glob("*.npy"))


def test_a_task_the_earth_has_no_label_of_is_named(labelled, tmp_path, monkeypatch):
    like, folder = labelled
    monkeypatch.setattr(labels, "labels_of", lambda scene: {"roads": scene.roads})
    with pytest.raises(GeoladderError, match=r"draws roads, but no building, lc; leave out of oracle\.tasks"):
        write_labels(spec(like), folder / "chips", tmp_path, 1)


def test_tiles_of_the_default_study_are_none_of_the_bench_that_tests():
    study = load_study(Path(__file__).parents[2] / "config.yaml")
    corpus = study.corpora[study.validation.corpus]
    rows = plan_rows(study.earth, corpus.like, corpus.tiles, corpus.seed)
    trained = {cell for row in rows for cell, _ in row.candidates}
    tested = {
        tile.cell for region in REGIONS for tile in plan_tiles(study.earth, region, study.bench) if tile.test
    }
    assert tested
    assert not trained & tested
