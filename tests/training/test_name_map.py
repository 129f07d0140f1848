"""Names and layouts of other code's weights: what a map does to them, and the maps that come with the package."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.models.build import build_backbone
from geoladder.training.hub import load_model
from geoladder.training.import_weights import cast_weights, import_weights
from geoladder.training.name_map import MAPS, NameMap, rename


def brought(theirs, *rules, tmp_path=None):
    return rename(theirs, NameMap.model_validate({"rules": list(rules)}), tmp_path).weights


def test_layouts_become_ours():
    weights = torch.arange(2 * 10 * 3 * 3).view(2, 10, 3, 3).float()
    theirs = list(reversed(BANDS))
    flat = {"theirs": "conv", "ours": "linear", "bands": theirs, "shape": [0, -1]}
    assert torch.equal(brought({"conv": weights}, flat)["linear"], weights.flip(1).flatten(1))
    turned = brought({"conv": weights}, {"theirs": "conv", "ours": "last", "permute": [0, 2, 3, 1]})["last"]
    assert torch.equal(turned, weights.movedim(1, 3))
    rule = {"theirs": "stack", "ours": "projs.{}.weight", "unstack": True}
    entries = brought({"stack": weights}, rule)
    assert entries.keys() == {"projs.0.weight", "projs.1.weight"}
    assert torch.equal(entries["projs.1.weight"], weights[1])
    names = "abcdefghijkl"  # more than ten, whose numbers do not sort as words
    parts = {name: torch.full((2, 3), float(number)) for number, name in enumerate(names)}
    rules = [{"theirs": name, "ours": "all", "part": number} for number, name in enumerate(names)]
    joined = torch.arange(float(len(names))).repeat_interleave(2)[:, None].expand(-1, 3)
    assert torch.equal(brought(parts, *rules)["all"], joined)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"theirs": "w", "ours": "x", "permute": [0, 1, 2]}], r"does not fit w of shape \(2, 10\)"),
        ([{"theirs": "w", "ours": "x", "shape": [3, 3]}], "does not fit w"),
        ([{"theirs": "w", "ours": "x", "shape": [0, 0, 0]}], "does not fit w"),
        ([{"theirs": "[wv]", "ours": "x"}], "given twice"),
        ([{"theirs": "w", "ours": "x", "part": 0}, {"theirs": "v", "ours": "x", "part": 2}], "given twice"),
        (
            [{"theirs": "w", "ours": "x", "part": 0}, {"theirs": "v", "ours": "x", "part": 1}],
            "do not fit together",
        ),
        ([{"theirs": "(w|ww)+x", "ours": "x"}], "neither mapped nor ignored"),
    ],
)
def test_layouts_that_do_not_fit_are_named(rules, message):
    with pytest.raises(GeoladderError, match=message):
        brought({"w": torch.zeros(2, 10), "v": torch.zeros(3)}, *rules)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"theirs": "w", "ours": "x", "bands": ["B02"]}, "bands.*are the ten"),
        ({"theirs": "w", "ours": "x.{}"}, "belong together"),
        ({"theirs": "w", "ours": "x", "unstack": True}, "belong together"),
        ({"theirs": "w", "ours": "x", "permut": [0]}, "permut"),
    ],
)
def test_rules_that_say_nothing_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        NameMap.model_validate({"rules": [rule]})


def test_a_pattern_that_never_ends_is_refused(monkeypatch):
    monkeypatch.setattr("geoladder.training.name_map.PATIENCE_S", 0.05)
    with pytest.raises(GeoladderError, match="no repeats in repeats"):
        brought({"a" * 60 + "b": torch.zeros(1)}, {"theirs": "(a|aa)+", "ours": "x"})


@pytest.fixture
def mamba(tmp_path):
    """A backbone of ours, its blocks by the names of mamba-ssm in a Lightning checkpoint, and the map for it."""
    torch.manual_seed(3)
    backbone = build_backbone("mamba_upernet", "xs")
    theirs = {"model.backbone.embedding.weight": torch.zeros(5, 2), "lm_head.weight": torch.zeros(5, 2)}
    for name, value in backbone.state_dict().items():
        new = re.sub(r"encoder\.blocks\.", "model.backbone.layers.", name)
        new = new.replace(".norm1.", ".norm.").replace(".fc1.", ".mlp.fc1.").replace(".fc2.", ".mlp.fc2.")
        theirs[new.replace("encoder.norm.", "model.backbone.norm_f.")] = value
    return backbone, theirs


def save(theirs, folder, key="state_dict"):
    torch.save({key: theirs, "epoch": 3}, folder / "last.ckpt")


def test_blocks_of_mamba_ssm_are_ours(mamba, tmp_path):
    backbone, theirs = mamba
    save(theirs, tmp_path)
    shipped = (MAPS / "mamba-ssm.yaml").read_text("utf-8")
    (tmp_path / "map.yaml").write_text(f"key: state_dict\n{shipped}", "utf-8")
    taken, ignored = import_weights(
        tmp_path / "last.ckpt", tmp_path / "map.yaml", "mamba_upernet", "xs", tmp_path / "out"
    )
    again, card = load_model(tmp_path / "out")
    state = backbone.state_dict()
    assert (taken, ignored) == (len(state), 2) and card["provenance"]["initial"] == []
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())


def test_what_mamba_ssm_has_no_place_for_starts_alike_each_time(mamba, tmp_path):
    _, theirs = mamba
    blocks = {name: value for name, value in theirs.items() if "mixer" in name or ".norm" in name}
    torch.save(blocks, tmp_path / "state.pt")
    cards = []
    for out in ("one", "two"):
        import_weights(tmp_path / "state.pt", Path("mamba-ssm"), "mamba_upernet", "xs", tmp_path / out)
        cards.append(load_model(tmp_path / out))
    (one, card), (two, _) = cards
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
    initial = card["provenance"]["initial"]
    assert "encoder.patches.embed.weight" in initial and not any("mixer" in name for name in initial)
    without_bias = {name: value for name, value in blocks.items() if not name.endswith("norm.bias")}
    torch.save(without_bias, tmp_path / "rms.pt")
    with pytest.raises(GeoladderError, match=r"missing \(encoder\.blocks\.0\.norm1\.bias"):
        import_weights(tmp_path / "rms.pt", Path("mamba-ssm"), "mamba_upernet", "xs", tmp_path / "three")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update(x=torch.zeros(2, dtype=torch.int8)), r"another kind of number.*\(.*x\)"),
        (lambda w: w.update(x=torch.zeros(2, dtype=torch.complex64)), r"another kind of number.*\(.*x\)"),
        (lambda w: w.update(x=torch.zeros(2).to_sparse()), r"another kind of number.*\(.*x\)"),
        (lambda w: w.update(x=torch.tensor([1.0, float("inf")])), r"NaN or infinite.*\(.*x\)"),
        (lambda w: w.update(x=torch.tensor([1.0, 1e300], dtype=torch.float64)), r"NaN or infinite.*\(.*x\)"),
    ],
)
def test_weights_that_are_no_numbers_of_ours_are_refused_by_name(change, message, tmp_path):
    weights = {"y": torch.ones(3)}
    change(weights)
    with pytest.raises(GeoladderError, match=message):
        cast_weights(tmp_path, weights, {"x": torch.zeros(2), "y": torch.zeros(3)})


def test_half_precision_is_taken(tmp_path):
    half = {"x": torch.ones(2, dtype=torch.bfloat16)}
    assert cast_weights(tmp_path, half, {"x": torch.zeros(2)})["x"].dtype == torch.float32


def test_nests_are_named(mamba, tmp_path):
    _, theirs = mamba
    (tmp_path / "map.yaml").write_text(yaml.safe_dump({"key": "module.weights"}))
    arguments = (tmp_path / "last.ckpt", tmp_path / "map.yaml", "mamba_upernet", "xs", tmp_path / "out")
    save(theirs, tmp_path, "module")
    with pytest.raises(GeoladderError, match="no key 'weights', but model"):
        import_weights(*arguments)
    (tmp_path / "map.yaml").write_text("")
    with pytest.raises(GeoladderError, match="write `key: module` into the map"):
        import_weights(*arguments)
