"""Whole pretraining runs, small ones, and what happens to them when they are shot."""

import json
import math
import multiprocessing
import os
import signal
import time
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from geoladder.data.batches.batch import BandStats
from geoladder.data.batches.chip_store import validation_chips
from geoladder.data.batches.stats import write_stats
from geoladder.data.labels.targets import great_circle_km
from geoladder.errors import GeoladderError
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.runs import atomic as lock
from geoladder.study.specs import StatsSpec
from geoladder.training import objective
from geoladder.training.checkpoints import newest_checkpoint
from geoladder.training.job import Hardware
from geoladder.training.objective import pretrain_terms, validate
from geoladder.training.pretrain import pretrain
from pretraining import STATS, write_chip_folder


@pytest.fixture
def run(inputs):
    def start(spec, out):
        pretrain(spec, inputs, Hardware(), out)
        return json.loads((out / "metrics.json").read_text())

    return start


def equal_weights(a, b):
    first, second = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def log_without_times(folder):
    return pd.read_csv(folder / "log.csv").drop(columns="samples_per_second")


def test_what_a_run_leaves(run, pretrain_spec, tmp_path):
    spec = pretrain_spec(samples=90)  # 12 steps, the last one is whole, too
    result = run(spec, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == [
        "log.csv",
        "metrics.json",
        "model.json",
        "model.safetensors",
    ]
    assert result["fingerprint"] == result["provenance"]["fingerprint"] == spec.fingerprint
    assert (result["steps"], result["samples_seen"]) == (12, 96)
    assert (result["unique_chips"], result["unique_pixels"]) == (72, 72 * 16 * 16)
    assert (
        2.5 < result["gflops_train"] / (96 * result["gflops_fwd"]) < 3.1
    )  # forward, and backward as counted
    counted = result["parameters"]
    weights = load_file(tmp_path / "model.safetensors")
    assert sum(value.numel() for value in weights.values()) == counted["total"]
    assert {"val_masked_mse", "val_visible_mse", "val_geo_km", "val_climate_accuracy", "val_loss"} <= set(
        result["metrics"]
    )
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["model"] == spec.model
    assert card["statistics"]["bands"] == card["bands"]
    assert card["objective"]["mask_ratio"] == 0.6


def test_the_log_has_every_step_and_four_probes(run, pretrain_spec, tmp_path):
    run(pretrain_spec(), tmp_path)
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["step"].tolist() == list(range(1, 13))
    assert (log["samples"] == 8 * log["step"]).all()
    assert log.loc[log["val_loss"].notna(), "step"].tolist() == [3, 6, 9, 12]
    assert log["lr"].iloc[:2].tolist() == pytest.approx([0.005, 0.01])  # one step of warm-up
    assert (log["lr"].iloc[1:].diff().dropna() < 0).all()
    assert (log["samples_per_second"] > 0).all()


def test_the_model_learns_to_fill_in_what_is_hidden(run, pretrain_spec, tmp_path):
    spec = pretrain_spec(samples=1200)
    result = run(spec, tmp_path)
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["masked_mse"].iloc[0] > 0.7  # the mean explains nothing
    assert result["metrics"]["val_masked_mse"] < 0.25
    assert result["metrics"]["val_climate_accuracy"] > 0.6
    assert result["metrics"]["val_geo_mse"] < 0.2


def test_the_same_numbers_twice_and_others_with_another_seed(run, pretrain_spec, tmp_path):
    torch.manual_seed(1)
    first = run(pretrain_spec(), tmp_path / "a")
    torch.manual_seed(2)  # global random state must not matter
    before = torch.get_rng_state()
    second = run(pretrain_spec(), tmp_path / "b")
    assert torch.equal(torch.get_rng_state(), before)
    assert first["metrics"] == second["metrics"]
    assert equal_weights(tmp_path / "a", tmp_path / "b")
    third = run(pretrain_spec(seed=1), tmp_path / "c")
    assert third["metrics"] != first["metrics"]


@pytest.mark.parametrize("architecture", ["vit_upernet", "mamba_upernet"])
def test_token_models_train_too(run, pretrain_spec, tmp_path, architecture):
    result = run(pretrain_spec(architecture, lr=0.003), tmp_path)
    assert math.isfinite(result["metrics"]["val_loss"])


def test_bf16_on_request(run, pretrain_spec, tmp_path):
    result = run(pretrain_spec(precision="bf16-mixed"), tmp_path)
    assert math.isfinite(result["metrics"]["val_loss"])
    assert all(value.dtype == torch.float32 for value in load_file(tmp_path / "model.safetensors").values())


def test_a_loss_that_is_no_number_stops_the_run(run, pretrain_spec, tmp_path):
    with pytest.raises(GeoladderError) as problem:
        run(pretrain_spec(lr=1e30), tmp_path)
    message = str(problem.value)
    for part in ("unet-xs on majortom", "seed 0", "at step", "last finite loss", "pretrain.rungs.unet-xs.lr"):
        assert part in message
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert not list(tmp_path.rglob("lock"))


def test_an_update_that_breaks_the_model_after_its_last_loss_is_noticed(run, pretrain_spec, tmp_path):
    with pytest.raises(GeoladderError, match=r"validation loss of unet-xs on majortom .* at step 1 of 1"):
        run(pretrain_spec(samples=8, lr=1e30), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_second_job_is_refused_and_does_not_disturb_the_first(run, pretrain_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LEASE_S", 1.0)
    spec = pretrain_spec()
    state = tmp_path / "state" / spec.fingerprint
    with lock.only_job(state), pytest.raises(GeoladderError, match="another job works on this run"):
        run(spec, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert list(state.iterdir()) == []
    assert run(spec, tmp_path)["steps"] == 12


@pytest.mark.skipif(bool(find_spec("tensorboard")), reason="TensorBoard is installed")
def test_a_missing_tensorboard_is_named(run, pretrain_spec, tmp_path):
    with pytest.raises(GeoladderError, match="pip install"):
        run(pretrain_spec(tensorboard=True), tmp_path)


@pytest.mark.skipif(not find_spec("tensorboard"), reason="TensorBoard is not installed")
def test_tensorboard_on_request(run, pretrain_spec, tmp_path):
    run(pretrain_spec(tensorboard=True), tmp_path)
    assert list(tmp_path.glob("tensorboard/events*"))


def shoot(spec, inputs, out, number):
    """Run in a child process until a checkpoint exists, then send a signal; return its exit status."""
    arguments = (spec, inputs, Hardware(), out)
    child = multiprocessing.get_context("fork").Process(target=pretrain, args=arguments)
    child.start()
    state = out / "state" / spec.fingerprint
    deadline = time.monotonic() + 60
    while newest_checkpoint(state) is None:
        assert child.is_alive(), "the run ended before it could be shot"
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.002)
    os.kill(child.pid, number)
    child.join(60)
    return child.exitcode


def step_of(checkpoint):
    return int(checkpoint.stem.partition("-")[2])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_shot_run_goes_on_and_ends_with_the_same_numbers(
    run, inputs, pretrain_spec, tmp_path, number, caplog
):
    spec = pretrain_spec(samples=800, checkpoint_every=10)
    undisturbed = run(spec, tmp_path / "undisturbed")
    out = tmp_path / "shot"
    status = shoot(spec, inputs, out, number)
    assert not (out / "metrics.json").exists()
    state = out / "state" / spec.fingerprint
    checkpoint = newest_checkpoint(state)
    assert len(list(state.glob("step-*.ckpt"))) <= 2  # the older one may not have been removed yet
    assert 10 <= step_of(checkpoint) < 100
    if number == signal.SIGTERM:
        assert status == 143
        assert not (state / "lock").exists()
    else:
        assert status == -signal.SIGKILL
        assert step_of(checkpoint) % 10 == 0
    with caplog.at_level("INFO"):
        resumed = run(spec, out)
    assert f"resuming from {checkpoint}" in caplog.text
    assert resumed["metrics"] == undisturbed["metrics"]
    assert equal_weights(out, tmp_path / "undisturbed")
    pd.testing.assert_frame_equal(
        log_without_times(out), log_without_times(tmp_path / "undisturbed"), check_exact=True
    )
    assert not (out / "state").exists()


def test_sigterm_saves_the_very_step_and_twice_is_no_worse(run, inputs, pretrain_spec, tmp_path):
    """No periodic checkpoint is due in this run: what it goes on from was saved because of the signal."""
    spec = pretrain_spec("vit_upernet", lr=0.003, samples=800, checkpoint_every=1000)
    undisturbed = run(spec, tmp_path / "undisturbed")
    out = tmp_path / "shot"
    state = out / "state" / spec.fingerprint
    process = multiprocessing.get_context("fork").Process
    arguments = (spec, inputs, Hardware(), out)
    steps = []
    for _ in range(2):
        (state / "log.csv").unlink(missing_ok=True)
        child = process(target=pretrain, args=arguments)
        child.start()
        while not (state / "log.csv").exists():  # written after the first step that is logged
            assert child.is_alive()
            time.sleep(0.002)
        os.kill(child.pid, signal.SIGTERM)
        child.join(60)
        steps.append(step_of(newest_checkpoint(state)))
    assert 1 <= steps[0] < steps[1] < 100
    assert run(spec, out)["metrics"] == undisturbed["metrics"]
    assert equal_weights(out, tmp_path / "undisturbed")


def test_the_journal_can_be_watched_while_the_run_lasts(inputs, pretrain_spec, tmp_path, monkeypatch):
    """A run stopped by a signal leaves its log beside the checkpoint."""
    monkeypatch.setattr(objective, "WRITE_EVERY_S", 0.0)
    spec = pretrain_spec(samples=800, checkpoint_every=10)
    assert shoot(spec, inputs, tmp_path, signal.SIGTERM) == 143
    log = pd.read_csv(tmp_path / "state" / spec.fingerprint / "log.csv")
    assert log["step"].tolist() == list(range(1, len(log) + 1))
    assert len(log) >= 10


def test_the_highest_checkpoint_counts_not_the_newest_file(tmp_path):
    for step in (100, 20, 90):
        (tmp_path / f"step-{step:09d}.ckpt").write_text("")
    assert newest_checkpoint(tmp_path).name == "step-000000100.ckpt"
    assert newest_checkpoint(tmp_path / "nothing") is None


def test_a_damaged_checkpoint_is_named(run, pretrain_spec, tmp_path):
    spec = pretrain_spec()
    state = tmp_path / "state" / spec.fingerprint
    state.mkdir(parents=True)
    (state / "step-000000005.ckpt").write_bytes(b"half a checkpoint")
    with pytest.raises(GeoladderError, match=r"step-000000005\.ckpt cannot be read .*delete it"):
        run(spec, tmp_path)


def test_state_of_another_spec_is_not_resumed(run, pretrain_spec, tmp_path):
    other = pretrain_spec(lr=0.02)
    (tmp_path / "state" / other.fingerprint).mkdir(parents=True)
    (tmp_path / "state" / other.fingerprint / "step-000000005.ckpt").write_bytes(b"of another run")
    run(pretrain_spec(), tmp_path)
    assert not (tmp_path / "state").exists()


def test_validation_against_chip_by_chip(corpus, pretrain_spec):
    spec = pretrain_spec(validation_chips=24)
    chips = validation_chips(spec, corpus / "chips", BandStats.load(corpus / "stats.json", STATS))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PretrainModel(build_backbone("unet", "xs")).train()
    modes = []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    errors = validate(model, chips, spec.objective)
    assert modes == [False]
    assert model.training
    (whole,) = chips.validation_batches(spec.objective, np.arange(24))
    hidden, visible, right, km = [], [], [], []
    lats, lons, _ = chips.places(np.arange(24))
    model.eval()
    for i in range(24):
        with torch.no_grad():
            output = model(whole.pixels[i : i + 1], whole.mask[i : i + 1])
        error = (output.reconstruction[0] - whole.pixels[i]) ** 2
        mask = whole.mask[i].expand(10, -1, -1)
        hidden.append(float(error[mask].double().mean()))
        visible.append(float(error[~mask].double().mean()))
        right.append(int(output.targets["climate"].argmax()) == int(whole.targets["climate"][i]))
        sin_lon, cos_lon, sin_lat, cos_lat = output.targets["geo"][0].double().tolist()
        lat = math.degrees(math.atan2(sin_lat, max(cos_lat, 0)))
        km.append(great_circle_km(lat, math.degrees(math.atan2(sin_lon, cos_lon)), lats[i], lons[i]))
    assert errors["val_masked_mse"] == pytest.approx(np.mean(hidden), rel=1e-5)
    assert errors["val_visible_mse"] == pytest.approx(np.mean(visible), rel=1e-5)
    assert errors["val_climate_accuracy"] == pytest.approx(np.mean(right))
    assert errors["val_geo_km"] == pytest.approx(np.median(km), rel=1e-5)
    o = spec.objective
    assert errors["val_loss"] == pytest.approx(
        errors["val_masked_mse"] * o.masked_weight
        + errors["val_visible_mse"] * o.visible_weight
        + errors["val_geo_mse"] * o.targets["geo"].weight
        + errors["val_climate_cross_entropy"] * o.targets["climate"].weight
    )


def test_validation_counts_chips_and_not_batches(tmp_path, pretrain_spec):
    """150 chips are a batch of 128 and one of 22."""
    write_chip_folder(tmp_path / "chips", cells=152)
    write_stats(StatsSpec(chips="0"), tmp_path / "chips", tmp_path / "stats.json")
    spec = pretrain_spec(validation_chips=150)
    chips = validation_chips(spec, tmp_path / "chips", BandStats.load(tmp_path / "stats.json", STATS))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PretrainModel(build_backbone("unet", "xs")).eval()
    metrics = validate(model, chips, spec.objective)
    parts = []
    with torch.no_grad():
        for batch in chips.validation_batches(spec.objective, np.arange(150)):
            parts += [
                pretrain_terms(model(one.pixels, one.mask), one, spec.objective).stacked().double()
                for one in batch.chunk(len(batch.pixels))
            ]
    terms = torch.stack(parts)
    names = ("masked_mse", "visible_mse", "geo_mse", "climate_cross_entropy")
    by_chip = dict(zip(names, terms.mean(0).tolist(), strict=True))
    by_batch = dict(zip(names, ((terms[:128].mean(0) + terms[128:].mean(0)) / 2).tolist(), strict=True))
    for name in names:
        assert metrics[f"val_{name}"] == pytest.approx(by_chip[name], rel=1e-5)
    assert abs(by_batch["masked_mse"] / by_chip["masked_mse"] - 1) > 1e-3
