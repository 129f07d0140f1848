"""Classes of further maps as targets: read at each chip's place, learned, judged, kept with the weights."""

import json
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from geoladder.errors import GeoladderError
from geoladder.registry.target import Places
from geoladder.study.accumulation import accumulation
from geoladder.study.pretraining import Objective, TargetUse
from geoladder.training.checkpoints import load_trained
from geoladder.training.pretrain import Hardware, pretrain
from geoladder.training.targets.raster import UNKNOWN

PAPER = Objective().targets


@pytest.fixture
def run(inputs):
    def start(spec, out, micro_batch=None, **computing):
        passes = accumulation(spec.batch, computing.get("devices", 1), micro_batch)
        pretrain(spec, inputs, Hardware(passes=passes, **computing), out)
        return json.loads((out / "metrics.json").read_text())["metrics"]

    return start


def test_classes_are_positions_of_codes(bands):
    places = Places(np.array([50, 0, -40, 85]), np.array([10, -179, 179, 0]), np.zeros(4, np.int64))
    classes = bands.entry.encode(bands.settings, places)
    assert classes.tolist() == [1, 0, UNKNOWN, UNKNOWN]
    reverse = TargetUse(kind="raster", raster=bands.raster, codes=bands.codes[::-1], weight=1)
    assert reverse.entry.encode(reverse.settings, places).tolist() == [1, 2, UNKNOWN, UNKNOWN]


def test_labels_are_learned_judged_and_change_nothing_else(run, pretrain_spec, bands, tmp_path):
    long = {"samples": 960, "lr": 0.01}
    plain = run(pretrain_spec(**long), tmp_path / "plain")
    objective = Objective(targets=PAPER | {"band": bands.model_copy(update={"weight": 0.5})})
    spec = pretrain_spec(**long, objective=objective)
    metrics = run(spec, tmp_path / "labelled")
    assert set(metrics) - set(plain) == {"val_band_cross_entropy", "val_band_accuracy"}
    # Latitude follows brightness, so that a model can tell; guessing the commoner class is right for about a half.
    assert metrics["val_band_accuracy"] > 0.85
    assert metrics["val_band_cross_entropy"] < 0.5 * math.log(3)
    backbone, card = load_trained(tmp_path / "labelled")
    assert card["objective"]["targets"]["band"]["codes"] == bands.codes
    assert backbone(torch.rand(1, 10, 16, 16)).dense.shape[0] == 1


def test_a_map_that_knows_no_chip_counts_for_nothing(run, pretrain_spec, bands, tmp_path):
    elsewhere = TargetUse(kind="raster", raster=bands.raster, codes=[100, 101], weight=0.02)
    metrics = run(pretrain_spec(objective=Objective(targets=PAPER | {"none": elsewhere})), tmp_path / "none")
    plain = run(pretrain_spec(), tmp_path / "plain")
    assert metrics["val_none_cross_entropy"] == 0 and "val_none_accuracy" not in metrics
    assert metrics["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-6)


def test_two_processes_with_passes_equal_one(run, pretrain_spec, bands, tmp_path):
    """Also where chips without a label are not spread evenly: the south has none."""
    some = TargetUse(kind="raster", raster=bands.raster, codes=[20, 90], weight=0.02)
    spec = pretrain_spec(objective=Objective(targets=PAPER | {"a": bands, "b": some}))
    plain = run(spec, tmp_path / "one")
    shared = run(spec, tmp_path / "two", devices=2, micro_batch=2)
    for name in ("val_loss", "val_a_cross_entropy", "val_b_cross_entropy"):
        assert shared[name] == pytest.approx(plain[name], rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codes": [1, 1]}, "must differ"),
        ({"codes": [1]}, "at least 2 items"),
        ({"raster": None}, "raster: raster Input is not a valid path"),
        ({"code": [1, 2]}, "unknown key 'code'; did you mean 'codes'"),
    ],
)
def test_bad_settings_are_named(changes, words):
    with pytest.raises(ValidationError, match=words):
        Objective(
            targets={"x": {"kind": "raster", "raster": "x.tif", "codes": [1, 2], "weight": 1} | changes}
        )


def test_a_map_that_is_missing_is_named(run, pretrain_spec, bands, tmp_path):
    missing = TargetUse(kind="raster", raster=tmp_path / "missing.tif", codes=bands.codes, weight=0.02)
    with pytest.raises(GeoladderError, match=r"missing.tif is no readable raster"):
        run(pretrain_spec(objective=Objective(targets={"x": missing})), tmp_path / "run")
