import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from geoladder.errors import GeoladderError
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.runs.atomic import write_json
from geoladder.runs.digest import seal_path
from geoladder.training.checkpoints import load_backbone, load_card, load_trained, save_model


@pytest.fixture
def spec(finetune_spec):
    return finetune_spec(corpus="majortom", pretrained="0123456789ab")


@pytest.fixture
def saved(tmp_path, spec):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = PretrainModel(build_backbone("unet", "xs"))
    card = {
        "architecture": "unet",
        "size": "xs",
        "model": spec.model,
        "transform": "sqrt",
        "fingerprint": "0123456789ab",
    }
    save_model(model.state_dict(), card, tmp_path)
    return model, tmp_path


def test_every_weight_of_the_backbone_comes_back(saved, spec):
    model, folder = saved
    backbone = build_backbone("unet", "xs")
    load_backbone(backbone, folder, spec)
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value)
    assert load_card(folder)["model"] == spec.model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrained": "ffffffffffff"}, "fingerprint is 0123456789ab, but ffffffffffff is wanted"),
        ({"size": "s"}, "size is xs, but s"),
        ({"architecture": "vit_upernet"}, "architecture is unet, but vit_upernet"),
        ({"transform": "linear"}, "transform is sqrt, but linear"),
        ({"model": {"width": 99}}, "model is"),
    ],
)
def test_another_checkpoint_than_asked_for_is_refused(saved, spec, changes, message):
    with pytest.raises(GeoladderError, match=message):
        load_backbone(build_backbone("unet", "xs"), saved[1], spec.model_copy(update=changes))


def test_weights_that_do_not_fit_are_refused(saved, spec):
    _, folder = saved
    with pytest.raises(GeoladderError, match="does not fit unet-xs"):
        load_backbone(build_backbone("unet", "s"), folder, spec)


def test_a_checkpoint_that_lacks_a_weight_is_refused(saved, spec):
    path = saved[1] / "model.safetensors"
    weights = load_file(path)
    del weights["backbone.encoder.stem.weight"]
    seal_path(path).unlink()
    save_file(weights, path)
    with pytest.raises(GeoladderError, match=r"encoder\.stem\.weight"):
        load_backbone(build_backbone("unet", "xs"), saved[1], spec)


def test_equal_weights_are_equal_files(saved, tmp_path):
    weights, card = load_file(saved[1] / "model.safetensors"), load_card(saved[1])
    for copy in range(4):
        save_model(weights, card, tmp_path / f"{copy}")
    assert len({(tmp_path / f"{copy}/model.safetensors").read_bytes() for copy in range(4)}) == 1


def test_weights_of_another_run_are_refused_though_they_fit(saved, spec, tmp_path):
    weights, card = load_file(saved[1] / "model.safetensors"), load_card(saved[1])
    save_model(weights, card | {"fingerprint": "ffffffffffff"}, tmp_path / "other")
    for name in ("model.safetensors", ".model.safetensors.seal"):
        shutil.copy(tmp_path / "other" / name, saved[1] / name)
    with pytest.raises(GeoladderError, match=r"made from ffffffffffff, but 0123456789ab is wanted"):
        load_backbone(build_backbone("unet", "xs"), saved[1], spec)


def test_a_truncated_file_is_named(saved, spec):
    path = saved[1] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(GeoladderError, match=r"model\.safetensors cannot be read"):
        load_backbone(build_backbone("unet", "xs"), saved[1], spec)


def test_a_missing_or_damaged_card_is_named(tmp_path):
    with pytest.raises(GeoladderError, match=r"model\.json is no model card"):
        load_card(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(GeoladderError, match=r"model\.json is no model card"):
        load_card(tmp_path)


def test_the_card_is_plain_json(saved):
    assert json.loads((saved[1] / "model.json").read_text())["architecture"] == "unet"


def test_a_model_written_before_targets_were_entries_still_loads(saved, spec):
    """Its heads had names of their own, and its card weights and maps in place of targets."""
    _, folder = saved
    labels = {"band": {"raster": "x.tif", "codes": [1, 2, 3]}}
    weights = {
        name.removeprefix("heads."): value for name, value in load_file(folder / "model.safetensors").items()
    }
    summary = weights["geo.weight"].shape[1]
    weights |= {"labels.band.weight": torch.zeros(3, summary), "labels.band.bias": torch.zeros(3)}
    seal_path(folder / "model.safetensors").unlink()
    save_file(weights, folder / "model.safetensors")
    objective = {"geo_weight": 0.05, "climate_weight": 0.02, "labels": labels, "label_weight": 0.1}
    card = {"architecture": "unet", "size": "xs", "model": spec.model, "bands": ["B"] * 10}
    write_json(folder / "model.json", card | {"objective": objective})
    backbone, read = load_trained(folder)
    assert torch.equal(backbone.state_dict()["encoder.stem.weight"], weights["backbone.encoder.stem.weight"])
    assert read["objective"]["targets"]["band"] == {"kind": "raster", "weight": 0.1, **labels["band"]}
    del weights["labels.band.bias"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(
        GeoladderError, match=r"heads in .* do not fit unet-xs: 1 missing \(heads\.band\.bias"
    ):
        load_trained(folder)
