import json
import math
import os
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from geoladder.data.batches.batch import BandStats
from geoladder.data.bench.nshot import draw, test_rows
from geoladder.data.bench.reader import Bench, index_bench
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.training import patches
from geoladder.training import starting_model as start
from geoladder.training import tuning as evaluation
from geoladder.training.augmentation import Augmentation, turned
from geoladder.training.criterion import Criterion
from geoladder.training.density import Density
from geoladder.training.finetune import BenchFiles, finetune
from geoladder.training.job import Hardware
from geoladder.training.patches import Patches, check_labelled, patch_batches, read_patches, subset_of
from geoladder.training.pretrain import pretrain
from geoladder.training.starting_model import frozen_parts
from geoladder.training.tuning import Tuning, outputs_of
from pretraining import STATS

test_rows.__test__ = False  # a function of the package, not a test


@pytest.fixture
def run(bench, corpus, split, tmp_path):
    def start(spec, checkpoint=None, name="n2.json", **how):
        out, index = tmp_path / name, bench / "index.parquet"
        files = BenchFiles(bench / "archive", index, corpus / "stats.json", split(spec))
        finetune(spec, files, checkpoint, out, **how)
        return json.loads(out.read_text())

    return start


def build_model(spec, checkpoint, labels):
    return start.build_model(spec, checkpoint, Criterion(TASKS[spec.task], spec, labels).prior)


def tuning(model, spec, train):
    criterion = Criterion(TASKS[spec.task], spec, train.labels)
    return Tuning(model, spec, criterion, turns(spec.seed), Hardware())


def train_best(model, spec, train, val):
    return tuning(model, spec, train).train(train, val)


def turns(seed):
    return Augmentation("turns", seed, torch.zeros(10), True)


@pytest.fixture
def sets(opened, corpus):
    """Training and validation patches of a spec."""

    def read(spec):
        subset = draw(opened, spec.task, spec.n, spec.seed)
        stats = BandStats.load(corpus / "stats.json", STATS)
        return [read_patches(opened, rows, spec, stats) for rows in subset]

    return read


@pytest.fixture(scope="session")
def pretrained(corpus, tmp_path_factory):
    """Folder of a pretraining run of unet-xs, by a spec the tests can ask for."""
    return tmp_path_factory.mktemp("pretrained")


@pytest.fixture
def checkpoint(pretrained, inputs, pretrain_spec):
    spec = pretrain_spec()
    if not (pretrained / "metrics.json").exists():
        pretrain(spec, inputs, Hardware(), pretrained)
    return pretrained, spec.fingerprint


@pytest.mark.parametrize("task", ["roads", "buildings", "landcover"])
def test_what_a_run_leaves(run, finetune_spec, tmp_path, task):
    spec = finetune_spec(task=task)
    result = run(spec)
    assert result["fingerprint"] == spec.fingerprint
    names = set(TASKS[task].measures)
    assert set(result["metrics"]) == names
    assert len(result["by_bucket"]) == 6
    assert all(set(values) == names for values in result["by_bucket"].values())
    assert (result["train_patches"], result["val_patches"], result["test_patches"]) == (12, 6, 40)
    assert [entry["step"] for entry in result["validation"]] == [0, 5, 10]
    counted = result["parameters"]
    assert counted["total"] == counted["encoder"] + counted["decoder"] + counted["heads"]
    with np.load(tmp_path / "n2.npz") as shown:
        assert shown["predicted"].shape == shown["label"].shape == (8, 16, 16)
        assert (np.diff(shown["test_patch"]) > 0).all()
        if task != "landcover":
            assert shown["predicted"].min() >= 0
            assert shown["predicted"].max() <= 1
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["n2.json", "n2.npz"]


def test_shown_predictions_are_those_of_the_metrics(run, finetune_spec, tmp_path, opened):
    spec = finetune_spec(test_patches=8)
    result = run(spec)
    with np.load(tmp_path / "n2.npz") as shown:
        assert result["metrics"]["mse"] == pytest.approx(
            np.mean((shown["predicted"] - shown["label"]) ** 2), rel=1e-5
        )
        rows = test_rows(opened, "roads", 8)
        assert (opened.labels("roads", rows) == shown["label"]).all()


@pytest.mark.parametrize("task", ["roads", "landcover"])
def test_an_easy_task_is_learnt(run, finetune_spec, task):
    spec = finetune_spec("pixel", "mlp", task=task, steps=100, n=8, lr=0.02)
    result = run(spec)
    losses = [entry["val_loss"] for entry in result["validation"]]
    assert losses[-1] < losses[0]
    assert result["metrics"]["r2" if task == "roads" else "accuracy"] > 0.7


def test_the_same_numbers_twice_and_others_with_another_seed(run, finetune_spec):
    torch.manual_seed(1)
    first = run(finetune_spec())
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = run(finetune_spec())
    assert torch.equal(torch.get_rng_state(), before)
    assert (first["metrics"], first["validation"]) == (second["metrics"], second["validation"])
    assert run(finetune_spec(seed=1))["metrics"] != first["metrics"]


def test_a_pretrained_arm_starts_from_the_checkpoint(run, finetune_spec, checkpoint):
    folder, fingerprint = checkpoint
    spec = finetune_spec(corpus="majortom", pretrained=fingerprint)
    assert run(spec, folder)["metrics"] != run(finetune_spec())["metrics"]


def test_arms_differ_in_the_backbone_alone(finetune_spec, checkpoint, sets):
    folder, fingerprint = checkpoint
    scratch, warm = finetune_spec(), finetune_spec(corpus="majortom", pretrained=fingerprint)
    (train, _), (same, _) = sets(scratch), sets(warm)
    assert torch.equal(train.pixels(), same.pixels())
    for a, b in zip(*(_first_batches(spec, train) for spec in (scratch, warm)), strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
    models = build_model(scratch, None, train.labels), build_model(warm, folder, train.labels)
    heads = [model.head.state_dict() for model in models]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    weights = [next(model.backbone.parameters()) for model in models]
    assert not torch.equal(*weights)


def _first_batches(spec, train):
    batches = patch_batches(train, spec.batch, turns(spec.seed))
    return [next(batches) for _ in range(4)]


def test_the_initial_head_follows_the_seed_and_nothing_else(finetune_spec, sets):
    labels = sets(finetune_spec())[0].labels

    def head(seed):
        return build_model(finetune_spec(seed=seed), None, labels).head.weight

    assert torch.equal(head(0), head(0))
    assert not torch.equal(head(0), head(1))


def test_the_initial_head_of_a_pretrained_arm_follows_the_seed_as_well(finetune_spec, checkpoint, sets):
    folder, fingerprint = checkpoint
    labels = sets(finetune_spec())[0].labels
    models = [
        build_model(finetune_spec(corpus="majortom", pretrained=fingerprint, seed=seed), folder, labels)
        for seed in (0, 1)
    ]
    assert not torch.equal(models[0].head.weight, models[1].head.weight)
    first, second = (model.backbone.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_dates_of_another_dn_offset_give_the_same_pixels(finetune_spec, corpus, tmp_path):
    """Three patches of a date with offset 1000 and the same three without, in one file."""
    ground = np.random.default_rng(0).integers(100, 4000, (3, 16, 16, 10), dtype=np.uint16)
    np.save(tmp_path / "japan_1_train_s2.npy", np.concatenate([ground + 1000, ground]))
    np.save(tmp_path / "japan_1_train_label_roads.npy", np.full((6, 16, 16, 1), 0.5, np.float32))
    (tmp_path / "metadata").mkdir()
    record = {"offset_dn": [1000, 0], "patches": {"train": [3, 3]}}
    (tmp_path / "metadata/tiles_metadata.json").write_text(json.dumps({"japan_1": record}))
    index_bench(tmp_path, tmp_path / "index.parquet")
    stats = BandStats.load(corpus / "stats.json", STATS)

    def pixels(harmonise):
        bench = Bench(tmp_path, tmp_path / "index.parquet", harmonise)
        return read_patches(bench, bench.pool("roads", "train"), finetune_spec(), stats).pixels()

    harmonised, stored = pixels("baseline"), pixels("none")
    assert torch.equal(harmonised[:3], harmonised[3:])
    assert torch.equal(harmonised[3:], stored[3:])
    assert (stored[:3] - stored[3:]).abs().mean() > 0.1


def test_patches_without_any_label_are_refused(finetune_spec, tmp_path):
    np.save(tmp_path / "japan_1_train_s2.npy", np.full((2, 16, 16, 10), 500, np.uint16))
    np.save(tmp_path / "japan_1_train_label_lc.npy", np.zeros((2, 16, 16, 1), np.uint8))
    index_bench(tmp_path, tmp_path / "index.parquet")
    bench = Bench(tmp_path, tmp_path / "index.parquet")
    with pytest.raises(GeoladderError, match=r"none of the 2 patches of landcover .*\*_label_lc\.npy"):
        check_labelled(bench, bench.pool("landcover", "train"), finetune_spec(task="landcover"))


def test_patches_made_in_parts_are_those_made_at_once(opened, finetune_spec, corpus, monkeypatch):
    rows, stats = (
        opened.pool("roads", "train").sample(13, random_state=0),
        BandStats.load(corpus / "stats.json", STATS),
    )
    whole = read_patches(opened, rows, finetune_spec(), stats)
    monkeypatch.setattr(patches, "AT_ONCE", 5)
    in_parts = read_patches(opened, rows, finetune_spec(), stats)
    assert torch.equal(in_parts.pixels(), whole.pixels()) and torch.equal(in_parts.labels, whole.labels)


def test_patches_are_kept_as_stored_and_are_the_same_in_every_batch(opened, finetune_spec, corpus):
    rows, stats = opened.pool("roads", "train").head(9), BandStats.load(corpus / "stats.json", STATS)
    read = read_patches(opened, rows, finetune_spec(), stats)
    images, offset_dn = opened.images(rows)
    made = stats.model_input(images, None, offset_dn, finetune_spec().transform)
    assert read.dn.dtype == torch.uint16 and (len(read), read.side_px) == (9, made.shape[-1])
    for which in (slice(None), slice(2, 5), torch.tensor([8, 0, 0])):
        assert torch.equal(read.pixels(which), made[which])


def test_test_patches_are_read_in_parts_which_change_no_number(run, finetune_spec, monkeypatch):
    spec, read = finetune_spec(steps=1), Bench.images
    whole = run(spec)
    sizes = []
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 7)
    monkeypatch.setattr(Bench, "images", lambda bench, rows: sizes.append(len(rows)) or read(bench, rows))
    in_parts = run(spec)
    train, val, *test = sizes
    assert (train, val, test) == (12, 6, [7, 7, 7, 7, 7, 5, 8])  # and eight to be shown
    for name, value in in_parts["metrics"].items():
        assert value == pytest.approx(whole["metrics"][name], rel=1e-5)


def test_all_arms_read_one_file_and_no_other_is_taken(opened, finetune_spec, trivial_spec, split, tmp_path):
    path = split(trivial_spec())
    for rows, other in zip(
        subset_of(opened, finetune_spec(), path), draw(opened, "roads", 2, 0), strict=True
    ):
        pd.testing.assert_frame_equal(rows, other)
    with pytest.raises(
        GeoladderError, match=r"does not hold the subset of roads, n = 2, .* it has fingerprint"
    ):
        subset_of(opened, finetune_spec(seed=1), path)
    with pytest.raises(GeoladderError, match=r"n = 3, .* it has only n = 2; delete it"):
        subset_of(opened, finetune_spec(n=3), path)
    with pytest.raises(GeoladderError, match=r"absent.parquet is no file of subsets .*geoladder split"):
        subset_of(opened, finetune_spec(), tmp_path / "absent.parquet")


def test_spec_and_checkpoint_must_agree(finetune_spec, checkpoint, sets):
    folder, fingerprint = checkpoint
    train, _ = sets(finetune_spec())
    for spec, offered in ((finetune_spec(), folder), (finetune_spec(pretrained=fingerprint), None)):
        with pytest.raises(GeoladderError, match="--checkpoint"):
            build_model(spec, offered, train.labels)


@pytest.mark.parametrize("task", ["roads", "landcover"])
def test_the_first_prediction_is_the_training_mean(finetune_spec, sets, task):
    spec = finetune_spec(task=task)
    train, _ = sets(spec)
    model = build_model(spec, None, train.labels)
    torch.nn.init.zeros_(model.head.weight)
    guess = TASKS[task].prediction(outputs_of(model, train.pixels()))
    if task == "roads":
        assert guess.numpy() == pytest.approx(float(train.labels.mean()), rel=1e-4)
    else:
        counts = torch.bincount(train.labels[train.labels != 255], minlength=11) + 1
        wanted = (counts / counts.sum()).view(1, 11, 1, 1).expand_as(guess)
        assert torch.allclose(guess.exp(), wanted, atol=1e-5)


def test_a_prior_exists_even_for_all_zero_or_all_one_labels():
    assert TASKS["roads"].prior(torch.zeros(2, 4, 4)) == pytest.approx([math.log(1e-4 / (1 - 1e-4))])
    assert math.isfinite(TASKS["roads"].prior(torch.ones(2, 4, 4))[0])
    assert len(TASKS["landcover"].prior(torch.full((2, 4, 4), 255))) == 11


def test_the_state_of_lowest_validation_loss_is_restored(finetune_spec, sets, monkeypatch):
    """Validation losses are planted; the states at each validation are noted as they are."""
    spec = finetune_spec(steps=12, validations=4, lr=0.05)
    train, val = sets(spec)
    model = build_model(spec, None, train.labels)
    planted = iter([0.6, 0.5, 0.2, 0.4, 0.2])
    states = []

    def validation(run, step, _):
        states.append({name: value.clone() for name, value in run.model.state_dict().items()})
        return {"step": step, "val_loss": next(planted)}

    monkeypatch.setattr(Tuning, "_validation", validation)
    curve = train_best(model, spec, train, val)
    assert [entry["val_loss"] for entry in curve] == [0.6, 0.5, 0.2, 0.4, 0.2]
    restored = model.state_dict()
    assert all(torch.equal(restored[name], value) for name, value in states[2].items())
    assert not all(torch.equal(restored[name], value) for name, value in states[4].items())
    assert not model.training


def test_the_tested_state_has_the_best_validation_loss(finetune_spec, sets):
    """Without planting losses: validation labels are inverted, so that training only makes them worse."""
    spec = finetune_spec(steps=30, validations=10)
    train, val = sets(spec)
    val = replace(val, labels=0.9 - val.labels)
    model = build_model(spec, None, train.labels)
    losses = [entry["val_loss"] for entry in train_best(model, spec, train, val)]
    assert min(losses) < losses[-1]
    loss = float(TASKS["roads"].loss(outputs_of(model, val.pixels()), val.labels))
    assert loss == pytest.approx(min(losses), rel=1e-6)


def test_the_loss_is_of_logits_of_32_bit_whatever_the_model_computes_in(finetune_spec, sets, monkeypatch):
    spec = finetune_spec(precision="bf16-mixed")
    train, val = sets(spec)
    dtypes, true_loss = set(), Density.loss

    def loss(task, logits, labels, weights=None):
        dtypes.add(logits.dtype)
        return true_loss(task, logits, labels)

    monkeypatch.setattr(Density, "loss", loss)
    train_best(build_model(spec, None, train.labels), spec, train, val)
    assert dtypes == {torch.float32}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_after_a_whole_step(finetune_spec, sets, monkeypatch, number):
    spec = finetune_spec()
    train, val = sets(spec)
    model = build_model(spec, None, train.labels)
    before, true_loss = signal.getsignal(number), Density.loss

    def loss(task, logits, labels, weights=None):
        if logits.requires_grad:
            os.kill(os.getpid(), number)
        return true_loss(task, logits, labels)

    monkeypatch.setattr(Density, "loss", loss)
    with pytest.raises(SystemExit) as stop:
        train_best(model, spec, train, val)
    assert stop.value.code == 143
    assert signal.getsignal(number) == before


class Drifting(torch.nn.Module):
    """A backbone whose encoder has a batch norm, which drifts in training mode even without gradients."""

    dense_channels = 10

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.BatchNorm2d(10)
        self.decoder = torch.nn.Conv2d(10, 10, 1)

    def forward(self, x, mask=None):
        from geoladder.models.backbone import Features

        return Features(self.decoder(self.encoder(x)), x.mean(dim=(2, 3)))


@pytest.mark.parametrize("mode", ["full", "frozen", "probe"])
def test_modes_change_what_they_say_and_nothing_else(finetune_spec, sets, monkeypatch, mode):
    monkeypatch.setattr(start, "build_backbone", lambda *_: Drifting())
    spec = finetune_spec(mode=mode)
    train, val = sets(spec)
    model = build_model(spec, None, train.labels)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_best(model, spec, train, val)
    changed = {
        name.split(".")[1] if name.startswith("backbone") else "head"
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    expected = {"full": {"encoder", "decoder", "head"}, "frozen": {"decoder", "head"}, "probe": {"head"}}
    assert changed == expected[mode]


@pytest.mark.parametrize("architecture", ["unet", "vit_upernet", "mamba_upernet", "pixel"])
def test_every_architecture_has_an_encoder_to_freeze(finetune_spec, sets, architecture):
    size = "mlp" if architecture == "pixel" else "xs"
    spec = finetune_spec(architecture, size, mode="frozen", steps=2)
    train, val = sets(spec)
    model = build_model(spec, None, train.labels)
    (encoder,) = frozen_parts(model, "frozen")
    before = [value.clone() for value in encoder.state_dict().values()]
    train_best(model, spec, train, val)
    assert before
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.state_dict().values(), strict=True))


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_nothing(run, finetune_spec, tmp_path):
    with pytest.raises(
        GeoladderError, match=r"unet-xs from scratch on roads \(n=2, seed 0\).*finetune\.lr\.unet"
    ):
        run(finetune_spec(lr=1e30))
    assert list(tmp_path.iterdir()) == []


def test_an_update_that_breaks_the_model_after_its_last_loss_is_noticed(run, finetune_spec, tmp_path):
    with pytest.raises(GeoladderError, match=r"validation loss of unet-xs from scratch .* at step 1 of 1"):
        run(finetune_spec(lr=1e30, steps=1, validations=1))
    assert list(tmp_path.iterdir()) == []


def test_an_n_above_the_pool_is_refused_and_leaves_nothing(run, finetune_spec, tmp_path):
    with pytest.raises(GeoladderError, match="25"):
        run(finetune_spec(n=25, task="landcover"))
    assert list(tmp_path.iterdir()) == []


def test_losses_by_hand():
    logits = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2)
    labels = torch.tensor([0.25, 1.0]).view(1, 1, 2)
    wanted = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    assert float(TASKS["roads"].loss(logits, labels)) == pytest.approx(wanted)
    scores = torch.zeros(1, 11, 1, 2)
    assert float(TASKS["landcover"].loss(scores, torch.tensor([[[3, 255]]]))) == pytest.approx(math.log(11))
    assert float(TASKS["landcover"].loss(scores, torch.tensor([[[255, 255]]]))) == 0


def test_batches_turn_labels_with_their_images(corpus):
    """The label of each patch is a copy of its first band, and stays one in every batch."""
    dn = torch.randint(5000, (6, 10, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint16)
    stats = BandStats.load(corpus / "stats.json", STATS)
    labels = stats.model_input(dn, None, 0, "sqrt")[:, 0]
    names = (np.array(["japan"] * 6),) * 2
    patches = Patches(dn, torch.zeros(6, dtype=torch.int64), labels, *names, stats, "sqrt")
    batches = patch_batches(patches, 6, turns(3))
    for images, labels in (next(batches) for _ in range(8)):
        assert torch.equal(images[:, 0], labels)
        assert sum(any(torch.equal(label, other) for other in patches.labels) for label in labels) < 6


def test_the_eight_turns_differ_and_each_image_has_its_own():
    images = torch.arange(16).view(1, 4, 4).expand(8, 4, 4)
    made = turned(images, np.arange(8))
    assert len({tuple(image.flatten().tolist()) for image in made}) == 8
    assert torch.equal(made[0], images[0])
    assert torch.equal(made[2], images[0].rot90(1, (0, 1)))
    assert torch.equal(made[1], images[0].flip(1))
    assert all(sorted(image.flatten().tolist()) == list(range(16)) for image in made)


def test_each_patch_comes_once_an_epoch(finetune_spec, sets):
    spec = finetune_spec(batch=6)
    train, _ = sets(spec)
    batches = patch_batches(train, 6, turns(0))
    seen = torch.cat([next(batches)[0] for _ in range(2)]).mean(dim=(1, 2, 3))
    assert torch.allclose(seen.sort().values, train.pixels().mean(dim=(1, 2, 3)).sort().values, atol=1e-6)


def test_subsets_of_a_seed_are_nested(opened):
    def places(n):
        return set(draw(opened, "landcover", n, 3).train_rows[["bucket", "position"]].itertuples(index=False))

    assert places(1) < places(4) < places(16)
    assert isinstance(draw(opened, "roads", 1, 0).val_rows, pd.DataFrame)
