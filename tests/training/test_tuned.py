"""Tuned models: saved and loaded they predict the same, and what is no tuned model is refused by name."""

import json

import pytest
import torch

from geoladder.data.batches.batch import BandStats
from geoladder.errors import GeoladderError
from geoladder.models.build import FinetuneModel, build_backbone
from geoladder.registry import TASKS
from geoladder.registry.ladder import rung
from geoladder.runs.atomic import write_json
from geoladder.training.checkpoints import save_model
from geoladder.training.tuned import load_tuned, save_tuned
from pretraining import STATS


@pytest.fixture
def tuned(corpus, finetune_spec, tmp_path):
    """Saves a model of random weights: (model, folder)."""

    def make(task="roads", architecture="unet"):
        spec = finetune_spec(architecture, "mlp" if architecture == "pixel" else "xs", task=task)
        torch.manual_seed(3)
        model = FinetuneModel(build_backbone(architecture, spec.size), TASKS[task].outputs).eval()
        torch.nn.init.normal_(model.head.weight)
        save_tuned(model, spec, BandStats.load(corpus / "stats.json", STATS), 32, tmp_path / "tuned")
        return model, tmp_path / "tuned"

    return make


@pytest.mark.parametrize("task", ["roads", "landcover"])
def test_a_saved_model_predicts_the_same(tuned, corpus, task):
    model, folder = tuned(task)
    before = torch.get_rng_state()
    loaded, card = load_tuned(folder)
    assert torch.equal(torch.get_rng_state(), before)
    pixels = torch.randn(2, 10, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded(pixels), model(pixels))
    assert not loaded.training
    assert (card["task"], card["mode"], card["harmonise"], card["patch_px"]) == (task, "full", "baseline", 32)
    assert BandStats.from_dict(card["statistics"]) == BandStats.load(corpus / "stats.json", STATS)


def test_a_run_without_a_task_is_refused_by_name(tmp_path):
    card = {"architecture": "unet", "size": "xs"}
    save_model({"backbone.a": torch.zeros(1)}, card, tmp_path)
    with pytest.raises(GeoladderError, match=r"pretrained unet-xs without a task; .*finetune\.keep"):
        load_tuned(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "floods"}, "unknown task 'floods'"),
        ({"categories": [[1, "land"], [2, "sea"]]}, "was trained for the classes"),
        ({"model": rung("unet", "s").kwargs}, "does not fit unet-xs"),
        ({"statistics": None}, "nothing says what pixels"),
        ({"transform": None}, "nothing says what pixels"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(tuned, change, message):
    _, folder = tuned("landcover")
    card = json.loads((folder / "model.json").read_text()) | change
    write_json(folder / "model.json", card)
    with pytest.raises(GeoladderError, match=message):
        load_tuned(folder)


def test_damaged_weights_are_named(tuned):
    _, folder = tuned()
    (folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(GeoladderError, match="cannot be read"):
        load_tuned(folder)
