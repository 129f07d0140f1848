import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from geoladder.errors import GeoladderError
from geoladder.models.heads import PretrainModel
from geoladder.models.ladder import build_backbone
from geoladder.training.checkpoints import load_backbone, load_card, save_model


@pytest.fixture
def asked(finetune_spec):
    return finetune_spec(corpus="majortom", pretrained="0123456789ab")


@pytest.fixture
def saved(tmp_path, asked):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = PretrainModel(build_backbone("unet", "xs"))
    card = {
        "architecture": "unet",
        "size": "xs",
        "model": asked.model,
        "transform": "sqrt",
        "fingerprint": "0123456789ab",
    }
    save_model(model, card, tmp_path)
    return model, tmp_path


def test_every_weight_of_the_backbone_comes_back(saved, asked):
    model, folder = saved
    backbone = build_backbone("unet", "xs")
    load_backbone(backbone, folder, asked)
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value)
    assert load_card(folder)["model"] == asked.model


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pretrained": "ffffffffffff"}, "fingerprint is 0123456789ab, but ffffffffffff is wanted"),
        ({"size": "s"}, "size is xs, but s"),
        ({"architecture": "vit_upernet"}, "architecture is unet, but vit_upernet"),
        ({"transform": "linear"}, "transform is sqrt, but linear"),
        ({"model": {"width": 99}}, "model is"),
    ],
)
def test_another_checkpoint_than_asked_for_is_refused(saved, asked, changes, said):
    with pytest.raises(GeoladderError, match=said):
        load_backbone(build_backbone("unet", "xs"), saved[1], asked.model_copy(update=changes))


def test_weights_that_do_not_fit_are_refused(saved, asked):
    _, folder = saved
    with pytest.raises(GeoladderError, match="does not fit unet-xs"):
        load_backbone(build_backbone("unet", "s"), folder, asked)


def test_a_checkpoint_that_lacks_a_weight_is_refused(saved, asked):
    path = saved[1] / "model.safetensors"
    weights = load_file(path)
    del weights["backbone.encoder.stem.weight"]
    save_file(weights, path)
    with pytest.raises(GeoladderError, match=r"encoder\.stem\.weight"):
        load_backbone(build_backbone("unet", "xs"), saved[1], asked)


def test_a_truncated_file_is_named(saved, asked):
    path = saved[1] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(GeoladderError, match=r"model\.safetensors cannot be read"):
        load_backbone(build_backbone("unet", "xs"), saved[1], asked)


def test_a_missing_or_damaged_card_is_named(tmp_path):
    with pytest.raises(GeoladderError, match=r"model\.json is no model card"):
        load_card(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(GeoladderError, match=r"model\.json is no model card"):
        load_card(tmp_path)


def test_the_card_is_plain_json(saved):
    assert json.loads((saved[1] / "model.json").read_text())["architecture"] == "unet"
