"""Runs of fine-tuning from files to the result: sanity, interruption, several processes, transfer, chosen rates."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from geoladder.data.batches.batch import BandStats
from geoladder.data.bench import nshot
from geoladder.data.bench.reader import Bench, index_bench
from geoladder.errors import GeoladderError
from geoladder.models.build import build_backbone
from geoladder.registry import TASKS
from geoladder.study.downstream_specs import RateSpec
from geoladder.study.recipe import PAPER, Recipe
from geoladder.training import tuning
from geoladder.training.baselines import trivial
from geoladder.training.choose_rate import MOST_WIDENINGS, choose_rate
from geoladder.training.criterion import Criterion
from geoladder.training.density import Density
from geoladder.training.finetune import BenchFiles, finetune
from geoladder.training.job import Hardware
from geoladder.training.patches import read_patches
from geoladder.training.starting_model import build_model
from geoladder.training.tuned import load_tuned
from pretraining import PX

UNTIMED = {"seconds", "provenance"}


@pytest.fixture
def files_of(bench, corpus, split):
    """Files of a spec's run, on another bench if its folder is given."""

    def make(spec, folder=bench):
        opened = Bench(folder / "archive", folder / "index.parquet")
        return BenchFiles(
            opened.archive, folder / "index.parquet", corpus / "stats.json", split(spec, opened)
        )

    return make


@pytest.fixture
def run(files_of, bench, tmp_path):
    def start(spec, checkpoint=None, name="n2.json", folder=bench, **how):
        finetune(spec, files_of(spec, folder), checkpoint, tmp_path / name, **how)
        return json.loads((tmp_path / name).read_text())

    return start


def timeless(result):
    return {key: value for key, value in result.items() if key not in UNTIMED}


def write_bench(folder, label):
    """Ten bands of noise, and a label that is a function of them and the patch's number."""
    rng = np.random.default_rng(0)
    (folder / "archive").mkdir(parents=True)
    for tile, (split, count) in enumerate((("train", 48), ("val", 12), ("test", 12))):
        bands = rng.uniform(0.02, 0.4, (count, PX, PX, 10)).astype(np.float32)
        np.save(folder / f"archive/japan_{tile}_{split}_s2.npy", (bands * 10000).astype(np.uint16))
        np.save(folder / f"archive/japan_{tile}_{split}_label_roads.npy", label(bands, rng)[..., None])
    index_bench(folder / "archive", folder / "index.parquet")
    return folder


SETTLING = {"steps": None, "epochs": 100, "min_steps": 20, "validations": 40, "n": 48, "batch": 16}


def test_a_label_that_is_a_band_is_learnt(run, finetune_spec, tmp_path):
    folder = write_bench(tmp_path / "bench", lambda bands, _: bands[..., 3] * 2)
    result = run(finetune_spec(**SETTLING, lr=0.02), folder=folder)
    assert result["metrics"]["r2"] > 0.99
    assert result["steps"] <= 300


def test_shuffled_labels_fall_to_the_mean_and_the_run_ends_early(
    run, files_of, finetune_spec, trivial_spec, tmp_path
):
    def shuffled(bands, rng):
        return rng.permutation(bands[..., 3].ravel()).reshape(bands.shape[:3]) * 2

    folder = write_bench(tmp_path / "bench", shuffled)
    result = run(finetune_spec(**SETTLING, lr=0.01), folder=folder)
    files = files_of(trivial_spec(n=(48,)), folder)
    trivial(trivial_spec(n=(48,)), files.archive, files.index, files.split, tmp_path / "trivial.json")
    mean = json.loads((tmp_path / "trivial.json").read_text())["points"][0]["metrics"]
    assert result["metrics"]["rmse"] == pytest.approx(mean["mean_rmse"], rel=0.005)
    assert result["settled"] and result["steps"] < 300
    assert result["best_step"] in [row["step"] for row in result["validation"]]


def test_a_run_says_whether_it_had_settled(run, finetune_spec):
    rushed = run(finetune_spec(n=8, lr=0.001))
    assert not rushed["settled"]
    assert (rushed["steps"], rushed["samples_seen"]) == (10, 80)
    assert rushed["best_step"] == min(rushed["validation"], key=lambda row: row["val_loss"])["step"]
    assert [set(row) for row in rushed["validation"]] == [
        {"step", "val_loss"},
        *[{"step", "val_loss", "train_loss", "lr"}] * 2,
    ]


@pytest.mark.parametrize(
    "length", [{"steps": 24, "validations": 6}, SETTLING | {"n": 2, "epochs": 14, "batch": 8}]
)
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(run, finetune_spec, tmp_path, monkeypatch, length):
    """SIGTERM once, after it a kill at a later step; the result must not notice, to the last bit."""
    spec = finetune_spec(task="landcover", augmentation="paper", keep=True, **length)
    undisturbed = timeless(run(spec))
    weights = load_file(tmp_path / "n2/model.safetensors")
    monkeypatch.setattr(tuning, "SAVE_EVERY_S", -1.0)
    true_step, shots = tuning.Tuning._step, {7: SystemExit, 13: ZeroDivisionError}

    def step(self, number, *arguments):
        shot = shots.pop(number, None)
        if shot is ZeroDivisionError:
            raise shot
        if shot is SystemExit:
            os.kill(os.getpid(), signal.SIGTERM)
        return true_step(self, number, *arguments)

    monkeypatch.setattr(tuning.Tuning, "_step", step)
    for shot in (SystemExit, ZeroDivisionError):
        with pytest.raises(shot):
            run(spec, name="again.json")
        assert list(tmp_path.glob("state/*/step-*.ckpt"))
        assert not (tmp_path / "again.json").exists()
    assert timeless(run(spec, name="again.json")) == undisturbed
    again = load_file(tmp_path / "again/model.safetensors")
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
def test_two_processes_equal_one(run, finetune_spec):
    """With an odd batch, passes of unequal size, pixels without a label, and weights that no loss needs."""
    spec = finetune_spec("vit_upernet", task="landcover", batch=7, lr=0.002, steps=6, test_patches=40)
    plain = run(spec)
    shared = run(spec, name="two.json", hardware=Hardware(devices=2, strategy="fsdp", micro_batch=3))
    assert not torch.distributed.is_initialized()
    for one, two in zip(plain["validation"], shared["validation"], strict=True):
        assert one == pytest.approx(two, rel=1e-4)
    for metrics, others in (
        (plain["metrics"], shared["metrics"]),
        *zip(plain["by_bucket"].values(), shared["by_bucket"].values(), strict=True),
    ):
        assert metrics == pytest.approx(others, abs=2e-3)
    assert plain["test_patches"] == shared["test_patches"] == 40


def test_an_encoder_alone_is_taken_over(pretrained_unet, finetune_spec):
    folder, fingerprint = pretrained_unet
    warm = {"corpus": "majortom", "pretrained": fingerprint}
    whole, part, scratch = (
        build_model(finetune_spec(**keys), checkpoint, [0.0]).backbone.state_dict()
        for keys, checkpoint in (
            (warm, folder),
            (warm | {"transfer": "encoder"}, folder),
            ({}, None),
        )
    )
    for name, value in part.items():
        assert torch.equal(value, (whole if name.startswith("encoder") else scratch)[name])
    assert not all(torch.equal(part[name], whole[name]) for name in part)
    assert not all(torch.equal(part[name], scratch[name]) for name in part)


@pytest.fixture
def pretrained_unet(tmp_path):
    """A folder with weights as pretraining leaves them, and the fingerprint of their run."""
    from geoladder.registry.ladder import rung
    from geoladder.training.checkpoints import save_model

    torch.manual_seed(99)
    backbone = build_backbone("unet", "xs")
    weights = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    card = {"architecture": "unet", "size": "xs", "model": rung("unet", "xs").kwargs, "transform": "sqrt"}
    save_model(weights, card | {"fingerprint": "abc", "statistics": {}}, tmp_path / "pretrained")
    return tmp_path / "pretrained", "abc"


@pytest.mark.parametrize("loss", ["task", "mse"])
def test_a_kept_model_gives_the_predictions_of_its_run(run, files_of, finetune_spec, tmp_path, loss):
    spec = finetune_spec(keep=True, loss=loss)
    run(spec)
    model, card = load_tuned(tmp_path / "n2")
    files = files_of(spec)
    opened, stats = Bench(files.archive, files.index), BandStats.from_dict(card["statistics"])
    rows = nshot.test_rows(opened, "roads", spec.test_patches)
    with np.load(tmp_path / "n2.npz") as shown:
        pixels = read_patches(opened, rows.iloc[shown["test_patch"]], spec, stats).pixels()
        predicted = TASKS["roads"].prediction(tuning.outputs_of(model, pixels)).numpy()
        assert np.allclose(predicted, shown["predicted"].clip(0, 1), atol=2e-4)
    run(finetune_spec(), name="other.json")
    assert not (tmp_path / "other").exists()


def test_the_papers_recipe_runs(run, finetune_spec, tmp_path):
    values = {key: value for key, value in PAPER.items() if key in Recipe.model_fields}
    values |= {"steps": None, "epochs": 12, "validations": 12, "batch": 12, "lr": 0.01}
    spec = finetune_spec(**values)
    result = run(spec)
    rates = [row["lr"] for row in result["validation"][1:]]
    assert result["steps"] == 12
    assert rates[:6] == pytest.approx([1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
    assert 0 <= result["metrics"]["rmse"] < 1


@pytest.fixture
def rate_spec(finetune_spec):
    def make(**changes):
        spec = finetune_spec(**{"steps": 6, "validations": 2} | changes).model_dump()
        return RateSpec.model_validate({"factors": [0.5, 1.0, 2.0]} | spec | changes)

    return make


def chosen(spec, files_of, out):
    choose_rate(spec, files_of(spec), None, out)
    return json.loads(out.read_text())


def planted(monkeypatch, best_lr, limit=float("inf")):
    """Validation losses are a parabola in the logarithm of the rate, and not finite above a limit."""

    def validation(run, step, _):
        lr = run._spec.lr
        if lr > limit:
            raise tuning.Diverged("planted")
        return {"step": step, "val_loss": 1 + float(np.log(lr / best_lr)) ** 2 if step else 99.0}

    monkeypatch.setattr(tuning.Tuning, "_validation", validation)
    monkeypatch.setattr(tuning.Tuning, "_step", lambda *_: 0.0)


@pytest.mark.parametrize(
    ("best_lr", "factor", "tried", "inside"),
    [
        (0.01, 1, 3, True),
        (0.018, 2, 4, True),  # one beyond the upper end has it inside, though that run diverges
        (0.0013, 0.125, 6, True),
        (1e-6, 0.5 ** (1 + MOST_WIDENINGS), 3 + MOST_WIDENINGS, False),
    ],
)
def test_a_grid_widens_until_its_best_lies_inside(
    rate_spec, files_of, tmp_path, monkeypatch, best_lr, factor, tried, inside
):
    planted(monkeypatch, best_lr, limit=0.035)
    choice = chosen(rate_spec(lr=0.01), files_of, tmp_path / "n2.json")
    assert (choice["factor"], choice["lr"]) == (factor, pytest.approx(0.01 * factor))
    assert (len(choice["tried"]), choice["inside"]) == (tried, inside)
    factors = [one["factor"] for one in choice["tried"]]
    assert np.allclose(np.diff(np.log2(factors)), 1)
    assert all((one["val_loss"] is None) == (one["lr"] > 0.035) for one in choice["tried"])


def test_rates_that_all_diverge_are_refused(rate_spec, files_of, tmp_path, monkeypatch):
    planted(monkeypatch, 0.01, limit=0)
    with pytest.raises(GeoladderError, match=r"unet-xs from scratch on roads \(n=2\) diverged at every rate"):
        chosen(rate_spec(lr=0.01), files_of, tmp_path / "n2.json")
    assert not (tmp_path / "n2.json").exists()


def test_a_choice_sees_no_test_patch_and_is_taken_up_where_it_stopped(
    rate_spec, files_of, tmp_path, monkeypatch
):
    spec = rate_spec()
    undisturbed = chosen(spec, files_of, tmp_path / "n2.json")
    true_train, trained = tuning.Tuning.train, []

    def train(self, *arguments):
        trained.append(self._spec.lr)
        if len(trained) == 2:
            raise SystemExit
        return true_train(self, *arguments)

    monkeypatch.setattr(tuning.Tuning, "train", train)
    with pytest.raises(SystemExit):
        chosen(spec, files_of, tmp_path / "again.json")
    assert timeless(chosen(spec, files_of, tmp_path / "again.json")) == timeless(undisturbed)
    assert trained.count(trained[0]) == 1  # what was tried before is not tried again
    assert not (tmp_path / "state").exists()


def test_a_run_takes_the_rate_chosen_and_records_it(run, rate_spec, files_of, finetune_spec, tmp_path):
    spec = rate_spec()
    choice = chosen(spec, files_of, tmp_path / "rate.json")
    tuned = finetune_spec(steps=6, validations=2, choice=spec.fingerprint)
    result = run(tuned, choice=tmp_path / "rate.json")
    assert result["lr"] == choice["lr"]
    assert result["rate_choice"] == {"inside": choice["inside"], "tried": choice["tried"]}
    by_hand = run(finetune_spec(steps=6, validations=2, lr=choice["lr"]), name="hand.json")
    assert result["metrics"] == by_hand["metrics"]
    tried = next(one for one in choice["tried"] if one["lr"] == choice["lr"])
    assert tried["val_loss"] == min(row["val_loss"] for row in result["validation"])
    for other, file, words in (
        (finetune_spec(), tmp_path / "rate.json", "give --rate exactly"),
        (tuned, None, "give --rate exactly"),
        (finetune_spec(choice="0"), tmp_path / "rate.json", "another choice"),
        (tuned, tmp_path / "none.json", "holds no choice"),
    ):
        with pytest.raises(GeoladderError, match=words):
            run(other, choice=file, name="bad.json")
    assert not (tmp_path / "bad.json").exists()


def test_a_models_first_outputs_are_the_mean_for_every_loss(finetune_spec):
    labels = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.3
    for loss in ("task", "mse"):
        criterion = Criterion(TASKS["roads"], finetune_spec(loss=loss), labels)
        model = build_model(finetune_spec(loss=loss), None, criterion.prior)
        torch.nn.init.zeros_(model.head.weight)
        with torch.inference_mode():
            predicted = criterion.prediction(model(torch.zeros(1, 10, 16, 16)))
        assert predicted.numpy() == pytest.approx(float(labels.mean()), rel=1e-4)
    assert isinstance(TASKS["roads"], Density)
