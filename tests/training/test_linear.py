"""Linear heads of one cell: what they learn, what they leave alone, and that each patch is encoded once."""

import json
import shutil

import numpy as np
import pytest
import torch

from geoladder.data.bench.nshot import test_rows as rows_of_test
from geoladder.data.bench.reader import Bench, index_bench
from geoladder.data.bench.split import write_split
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.registry.ladder import rung
from geoladder.study.downstream_specs import LinearCell, LinearSpec, SplitSpec
from geoladder.training import linear
from geoladder.training.linear import fit_linear, frozen_backbone, gather, read_subsets
from geoladder.training.patches import input_of, tile_names
from geoladder.training.score import Score
from geoladder.training.tap_reader import TapReader
from geoladder.training.tuned import load_tuned
from pretraining import STATS

DRAWS, SIZES = 2, [1, 3]


def split_spec(task, draw, n=SIZES):
    drawn = {
        "protocol": "seeded",
        "validation": "adjacent",
        "allow_short": False,
        "indices": [],
        "bench": "0",
    }
    return SplitSpec(task=task, n=n, seed=draw, **drawn)


def linear_spec(task, **changes):
    values = {
        "task": task,
        "corpus": "random",
        "fraction": None,
        "architecture": "unet",
        "size": "xs",
        "model": rung("unet", "xs").kwargs,
        "seed": 0,
        "pretrained": None,
        "n": SIZES,
        "subsets": [[split_spec(task, draw, [n]).fingerprint for n in SIZES] for draw in range(DRAWS)],
        "strengths": [1e-4, 1e-2, 1.0],
        "pixels": 1024,
        "keep": [],
        "bench": "0",
        "harmonise": "baseline",
        "test_patches": 30,
        "stats": STATS,
        "transform": "linear",
        "code": None,
    }
    return LinearSpec(**(values | changes))


@pytest.fixture
def run(bench, corpus, tmp_path):
    """Runs the cell of these tasks on a bench: result by task. `folder` keeps what it wrote."""

    def make(*tasks, on=bench, folder="out", splits=None, checkpoint=None, **changes):
        opened = Bench(on / "archive", on / "index.parquet")
        files = []
        for task in tasks:
            for draw in range(DRAWS):
                files.append(tmp_path / f"{task}{draw}.parquet")
                write_split(split_spec(task, draw), opened, files[-1], [])
        cell = LinearCell(heads=[linear_spec(task, **changes) for task in tasks])
        stats, out = corpus / "stats.json", tmp_path / folder
        used = files if splits is None else files[:splits]
        fit_linear(cell, on / "archive", on / "index.parquet", stats, used, checkpoint, out)
        return {task: json.loads((out / f"{task}.json").read_text()) for task in tasks}

    return make


@pytest.fixture
def relabelled(bench, tmp_path):
    """A copy of the bench whose road densities are `label(images)` of (N, P, P, 10) reflectance."""

    def make(label):
        folder = tmp_path / "relabelled"
        shutil.copytree(bench, folder)
        for path in (folder / "archive").glob("*_s2.npy"):
            density = label(np.load(path) / 10000).astype(np.float32)[..., None]
            np.save(path.with_name(path.name.replace("_s2.npy", "_label_roads.npy")), density)
        index_bench(folder / "archive", folder / "index.parquet")
        return folder

    return make


def points(result, metric):
    return {(point["draw"], point["n"]): point["metrics"][metric] for point in result["points"]}


def test_a_label_that_is_a_band_is_learnt(run, relabelled):
    result = run("roads", on=relabelled(lambda images: images[..., 5]))["roads"]
    assert min(points(result, "r2").values()) > 0.99


def test_shuffled_labels_fall_to_the_mean(run, relabelled):
    rng = np.random.default_rng(0)
    strengths = {"strengths": [1e-2, 1.0, 100.0]}
    result = run(
        "roads",
        on=relabelled(lambda images: rng.permuted(images[..., 5].ravel()).reshape(images.shape[:-1])),
        **strengths,
    )["roads"]
    assert all(abs(r2) < 0.02 for (_, n), r2 in points(result, "r2").items() if n == 3)


def test_every_draw_and_n_of_every_task_has_a_point(run):
    results = run("roads", "landcover")
    for task, result in results.items():
        assert result["spec"]["task"] == task
        assert result["fingerprint"] == linear_spec(task).fingerprint
        assert {(point["draw"], point["n"]) for point in result["points"]} == {(0, 1), (0, 3), (1, 1), (1, 3)}
        for point in result["points"]:
            assert point["strength"] in linear_spec(task).strengths
            assert point["train_patches"] == 6 * point["n"]
            assert set(point["intervals"]) and set(point["by_bucket"])
            assert set(TASKS[task].measures) <= set(point["metrics"])
    assert max(points(results["landcover"], "accuracy").values()) > 0.6


def test_runs_are_equal_whatever_is_kept_at_a_time(run, monkeypatch):
    first = run("roads", "landcover", folder="first")
    monkeypatch.setattr(linear, "SUMS_BYTES", 1)
    second = run("roads", "landcover", folder="second")
    for task in first:
        assert first[task]["points"] == second[task]["points"]


def test_a_kept_model_repeats_its_point(run, corpus, opened, tmp_path):
    results = run("roads", "landcover", keep=[3])
    for name, result in results.items():
        task = TASKS[name]
        model, card = load_tuned(tmp_path / "out" / name / "n3")
        assert card["mode"] == "linear"
        rows = rows_of_test(opened, name, 30)
        images, offset_dn = opened.images(rows)
        pixels = input_of(linear_spec(name), corpus / "stats.json").stats.model_input(
            images, None, offset_dn, "linear"
        )
        with torch.inference_mode():
            predicted = task.prediction(model(pixels))
        score = Score(task)
        labels = torch.from_numpy(opened.labels(name, rows))
        score.update(predicted, labels, rows["bucket"].to_numpy(), tile_names(rows))
        assert score.result()["metrics"][task.error] == pytest.approx(
            points(result, task.error)[0, 3], rel=1e-5
        )
        with np.load(tmp_path / "out" / name / "n3.npz") as shown:
            maps = task.as_map(predicted).numpy()[shown["test_patch"]]
            np.testing.assert_allclose(shown["predicted"], maps, atol=1e-4)
            np.testing.assert_array_equal(shown["label"], labels.numpy()[shown["test_patch"]])


@pytest.fixture
def reader(bench, corpus):
    opened = Bench(bench / "archive", bench / "index.parquet")
    spec = linear_spec("landcover")
    return TapReader(opened, frozen_backbone(spec, None), input_of(spec, corpus / "stats.json"))


def subsets_of(reader, tmp_path, *tasks):
    files = []
    for task in tasks:
        for draw in range(DRAWS):
            files.append(tmp_path / f"{task}{draw}.parquet")
            write_split(split_spec(task, draw), reader.bench, files[-1], [])
    return read_subsets(LinearCell(heads=[linear_spec(task) for task in tasks]), reader.bench, files)


def test_masked_pixels_are_left_out(reader, tmp_path):
    subsets = subsets_of(reader, tmp_path, "landcover")
    for trial, parts in gather(reader, subsets, 10_000).items():
        labels = torch.from_numpy(reader.bench.labels("landcover", subsets[trial]))
        labelled = int(TASKS["landcover"].valid(labels).sum())
        assert sum(part.sums.pixels for part in parts) == labelled
    assert any(
        not TASKS["landcover"].valid(torch.from_numpy(reader.bench.labels("landcover", rows))).all()
        for rows in subsets.values()
    )


def test_a_patch_gives_at_most_so_many_pixels(reader, tmp_path):
    for parts in gather(reader, subsets_of(reader, tmp_path, "roads"), 100).values():
        assert all(part.sums.pixels == 100 for part in parts)


def test_every_patch_is_encoded_once(reader, tmp_path, monkeypatch):
    subsets, encoded, read = subsets_of(reader, tmp_path, "roads", "landcover"), [], reader.bench.images

    def images(rows):
        encoded.extend(zip(rows["entry"], rows["slot"], strict=True))
        return read(rows)

    monkeypatch.setattr(reader.bench, "images", images)
    gather(reader, subsets, 16)
    used = {patch for rows in subsets.values() for patch in zip(rows["entry"], rows["slot"], strict=True)}
    assert len(encoded) == len(set(encoded))
    assert set(encoded) == used


def test_a_cell_that_does_not_fit_into_memory_says_what_to_set(run, monkeypatch, tmp_path):
    monkeypatch.setattr(linear, "judge", lambda *_: torch.empty(1 << 55, dtype=torch.uint8))
    with pytest.raises(GeoladderError, match=r"linear probing of unet-xs does not fit .* smaller linear\.n"):
        run("roads")
    assert not (tmp_path / "out").exists()


def test_too_few_files_of_subsets_are_refused(run):
    with pytest.raises(GeoladderError, match="2 draws of all tasks together, but 1 files"):
        run("roads", splits=1)


def test_a_checkpoint_comes_exactly_with_a_pretrained_cell(run, tmp_path):
    for changes in ({"pretrained": "0123"}, {"checkpoint": tmp_path}):
        with pytest.raises(GeoladderError, match="give --checkpoint exactly for cells that are pretrained"):
            run("roads", **changes)


def test_a_subset_without_a_label_is_named(run, bench, tmp_path):
    folder = tmp_path / "masked"
    shutil.copytree(bench, folder)
    for path in (folder / "archive").glob("*_train_label_lc.npy"):
        np.save(path, np.zeros_like(np.load(path)))
    with pytest.raises(GeoladderError, match=r"none of the 6 patches of landcover \(n=1, draw 0\)"):
        run("landcover", on=folder)


def test_random_encoders_differ_by_seed_alone():
    first, again, other = (
        frozen_backbone(linear_spec("roads", seed=seed), None).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
