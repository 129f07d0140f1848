"""Pretraining on labels of chips: it learns them, goes on after a kill, and leaves a checkpoint like any other."""

import json
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from test_pretrain import equal_weights, log_without_times, shoot

from geoladder.data.batches.batch import PretrainBatch
from geoladder.data.batches.chip_store import ChipStore
from geoladder.errors import GeoladderError
from geoladder.models.build import PretrainOutput, build_backbone
from geoladder.study.pretraining import Objective
from geoladder.training.checkpoints import load_backbone, load_trained
from geoladder.training.job import Hardware
from geoladder.training.objective import pretrain_terms
from geoladder.training.pretrain import pretrain

ORACLE = Objective(mask_ratio=0, masked_weight=0, targets={}, tasks=["landcover", "roads"])
CODES = np.array([10, 20, 30], np.uint8)


@pytest.fixture(scope="session")
def labels(corpus):
    """Labels of the chips of `corpus`: roads where B04 is dark, land cover by its brightness."""
    folder, store = corpus / "labels", ChipStore(corpus / "chips")
    folder.mkdir()
    red = store.read(np.arange(len(store))).dn10[:, 2].astype(np.float32)
    levels = np.quantile(red, [0.3, 0.7])
    cover = CODES[np.digitize(red, levels)]
    cover[:, :2] = 0  # no data
    np.save(folder / "lc.npy", cover)
    np.save(folder / "roads.npy", (red < levels[0]).astype(np.float32))
    (folder / "labels.json").write_text(json.dumps({"fingerprint": "l"}))
    return folder


@pytest.fixture
def oracle_inputs(inputs, labels):
    return replace(inputs, labels=labels)


@pytest.fixture
def oracle_spec(pretrain_spec):
    def make(*names, **changes):
        return pretrain_spec(*names, **({"objective": ORACLE, "labels": "l"} | changes))

    return make


def run(spec, inputs, out, hardware=None):
    pretrain(spec, inputs, hardware or Hardware(), out)
    return json.loads((out / "metrics.json").read_text())["metrics"]


def test_terms_by_hand_leave_unlabelled_pixels_out():
    covers = torch.full((2, 4, 4), 255)
    covers[0, :2] = 1  # a quarter of all pixels
    truth = {"landcover": covers, "roads": torch.full((2, 4, 4), 0.5)}
    batch = PretrainBatch(torch.zeros(2, 10, 4, 4), torch.zeros(2, 1, 4, 4, dtype=torch.bool), truth)
    maps = {"landcover": torch.zeros(2, 11, 4, 4), "roads": torch.zeros(2, 1, 4, 4)}
    terms = pretrain_terms(PretrainOutput(torch.ones(2, 10, 4, 4), {}, maps), batch, ORACLE)
    wanted = {"masked_mse": 0, "visible_mse": 1, "landcover_loss": np.log(11) / 4, "roads_loss": np.log(2)}
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(wanted)
    assert float(terms.total(ORACLE)) == pytest.approx(np.log(11) / 4 + np.log(2))


def test_losses_fall_below_those_of_the_mean_labels(oracle_spec, oracle_inputs, tmp_path):
    metrics = run(oracle_spec(samples=1200), oracle_inputs, tmp_path)
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["loss"].iloc[0] == pytest.approx(log["landcover_loss"].iloc[0] + log["roads_loss"].iloc[0])
    assert log["landcover_loss"].iloc[0] < np.log(
        5
    )  # from the start: the frequencies of three of eleven classes
    assert metrics["val_landcover_loss"] < 0.6 * log["landcover_loss"].iloc[0]
    assert metrics["val_roads_loss"] < 0.6 * log["roads_loss"].iloc[0]


def test_a_killed_run_ends_with_the_same_numbers(oracle_spec, oracle_inputs, tmp_path):
    spec = oracle_spec(samples=400, checkpoint_every=5)
    undisturbed = run(spec, oracle_inputs, tmp_path / "undisturbed")
    assert shoot(spec, oracle_inputs, tmp_path / "shot", signal.SIGKILL) == -signal.SIGKILL
    assert run(spec, oracle_inputs, tmp_path / "shot") == undisturbed
    assert equal_weights(tmp_path / "shot", tmp_path / "undisturbed")
    logs = (log_without_times(tmp_path / name) for name in ("shot", "undisturbed"))
    pd.testing.assert_frame_equal(*logs, check_exact=True)


@pytest.mark.slow
def test_passes_and_ranks_change_nothing_but_rounding(oracle_spec, oracle_inputs, tmp_path):
    """The summary of an image reads no label, so some weights have no gradient; ranks must not wait for it."""
    plain = run(oracle_spec(samples=32), oracle_inputs, tmp_path / "one")
    shared = Hardware(devices=2, micro_batch=2)
    assert run(oracle_spec(samples=32), oracle_inputs, tmp_path / "two", shared) == pytest.approx(
        plain, rel=1e-4
    )


@pytest.mark.parametrize("architecture", ["unet", "vit_upernet"])
def test_the_checkpoint_is_one_like_any_other(
    oracle_spec, oracle_inputs, finetune_spec, tmp_path, architecture
):
    spec = oracle_spec(architecture, samples=16)
    run(spec, oracle_inputs, tmp_path)
    backbone, card = load_trained(tmp_path)
    assert card["objective"]["tasks"] == ["landcover", "roads"]
    started = build_backbone(architecture, "xs")
    load_backbone(started, tmp_path, finetune_spec(architecture, pretrained=spec.fingerprint))
    weights = started.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in backbone.state_dict().items())


def test_a_run_without_its_labels_or_with_others_is_refused(
    oracle_spec, inputs, oracle_inputs, labels, tmp_path
):
    with pytest.raises(GeoladderError, match="give their folder with --labels"):
        run(oracle_spec(), inputs, tmp_path)
    with pytest.raises(GeoladderError, match="has labels of spec l, but other is wanted"):
        run(oracle_spec(labels="other"), oracle_inputs, tmp_path)
    (tmp_path / "labels.json").write_text((labels / "labels.json").read_text())
    for name in ("lc.npy", "roads.npy"):
        np.save(tmp_path / name, np.load(labels / name)[1:])
    with pytest.raises(GeoladderError, match=r"lc.npy has shape \(95, 16, 16\)"):
        run(oracle_spec(), replace(inputs, labels=tmp_path), tmp_path)
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(GeoladderError, match="write the labels with `geoladder make-labels`"):
        run(oracle_spec(), replace(inputs, labels=tmp_path), tmp_path)
