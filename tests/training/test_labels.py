"""Classes of further maps as targets: read at each chip's place, learned, judged, kept with the weights."""

import json
import math

import pytest
import torch
from pydantic import ValidationError

from geoladder.data.labels.label_rasters import UNKNOWN, label_classes
from geoladder.errors import GeoladderError
from geoladder.study.pretraining import LabelRaster, Objective
from geoladder.training.checkpoints import load_trained
from geoladder.training.pretrain import Hardware, pretrain


@pytest.fixture
def run(inputs):
    def start(spec, out, **computing):
        pretrain(spec, inputs, Hardware(**computing), out)
        return json.loads((out / "metrics.json").read_text())["metrics"]

    return start


def test_classes_are_positions_of_codes(bands):
    reverse = bands.model_copy(update={"codes": bands.codes[::-1]})
    found = label_classes({"a": bands, "b": reverse}, [50, 0, -40, 85], [10, -179, 179, 0])
    assert found.tolist() == [[1, 1], [0, 2], [UNKNOWN, UNKNOWN], [UNKNOWN, UNKNOWN]]
    assert label_classes({}, [1, 2], [3, 4]).shape == (2, 0)


def test_labels_are_learned_judged_and_change_nothing_else(run, pretrain_spec, bands, tmp_path):
    long = {"samples": 960, "lr": 0.01}
    plain = run(pretrain_spec(**long), tmp_path / "plain")
    objective = Objective(labels={"band": bands}, label_weight=0.5)
    spec = pretrain_spec(**long, objective=objective)
    found = run(spec, tmp_path / "labelled")
    assert set(found) - set(plain) == {"val_label_cross_entropy", "val_band_accuracy"}
    # Latitude follows brightness, so that a model can tell; guessing the commoner class is right for about a half.
    assert found["val_band_accuracy"] > 0.85
    assert found["val_label_cross_entropy"] < 0.5 * math.log(3)
    backbone, card = load_trained(tmp_path / "labelled")
    assert card["objective"]["labels"]["band"]["codes"] == bands.codes
    assert backbone(torch.rand(1, 10, 16, 16)).dense.shape[0] == 1


def test_a_map_that_knows_no_chip_counts_for_nothing(run, pretrain_spec, bands, tmp_path):
    elsewhere = bands.model_copy(update={"codes": [100, 101]})
    found = run(pretrain_spec(objective=Objective(labels={"none": elsewhere})), tmp_path / "none")
    plain = run(pretrain_spec(), tmp_path / "plain")
    assert found["val_label_cross_entropy"] == 0 and "val_none_accuracy" not in found
    assert found["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-6)


def test_two_processes_with_passes_equal_one(run, pretrain_spec, bands, tmp_path):
    """Also where chips without a label are not spread evenly: the south has none."""
    some = bands.model_copy(update={"codes": [20, 90]})
    spec = pretrain_spec(objective=Objective(labels={"a": bands, "b": some}))
    plain = run(spec, tmp_path / "one")
    shared = run(spec, tmp_path / "two", devices=2, micro_batch=2)
    for name in ("val_loss", "val_label_cross_entropy"):
        assert shared[name] == pytest.approx(plain[name], rel=1e-5)


def test_specs_without_labels_are_what_they_were():
    assert not {"labels", "label_weight"} & set(Objective().model_dump())


def test_bad_labels(run, pretrain_spec, bands, tmp_path):
    with pytest.raises(ValidationError, match="must differ"):
        LabelRaster(raster="x.tif", codes=[1, 1])
    with pytest.raises(ValidationError, match="at least 2 items"):
        LabelRaster(raster="x.tif", codes=[1])
    with pytest.raises(ValidationError, match="String should match pattern"):
        Objective(labels={"land cover": bands})
    missing = LabelRaster(raster=tmp_path / "missing.tif", codes=bands.codes)
    with pytest.raises(GeoladderError, match=r"missing.tif is no readable raster"):
        run(pretrain_spec(objective=Objective(labels={"x": missing})), tmp_path / "run")
