"""Released weights, as files of the same layout: taken whole or not at all, and used by every arm."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from geoladder.data.batches.batch import Moments
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.models.build import build_from
from geoladder.registry import ARCHITECTURES
from geoladder.study.downstream_specs import ReleasedSpec
from geoladder.study.load import parse_study
from geoladder.training.checkpoints import load_trained, statistics_of
from geoladder.training.export import export_model
from geoladder.training.hub import load_model
from geoladder.training.patches import released_stats
from geoladder.training.released import import_released

SMALL = {"width": 32, "depth": 4, "heads": 2}


def spec_of(architecture, size, weights):
    entry = ARCHITECTURES[architecture]
    model = entry.rungs[size] | SMALL
    return ReleasedSpec(
        architecture=architecture,
        size=size,
        model=model,
        weights=str(weights),
        input=entry.input,
        release=entry.release,
    )


def any_study():
    grid = [{"corpora": ["majortom"], "architectures": ["unet"], "sizes": ["xs"]}]
    finetune = {"grid": grid, "pretrain_seed": 0}
    return parse_study(
        {"corpora": {"majortom": {"tiles": 20}}, "pretrain": {"grid": grid}, "finetune": finetune}
    )


def their_names(architecture, name):
    """The released name of one of our weights."""
    name = name.removeprefix("encoder.")
    if architecture == "terramind":
        name = name.replace("patches.modality", "encoder_embeddings.untok_sen2l2a@224.mod_emb")
        name = name.replace("patches.embed", "encoder_embeddings.untok_sen2l2a@224.proj")
        name = name.replace("blocks.", "encoder.") if name.startswith("blocks.") else name
        name = "encoder_norm.weight" if name == "norm.weight" else name
    else:
        name = name.replace("patches.embed", "patch_embed.proj").replace("cls", "cls_token")
        name = name.replace("patches.time_and_place.time_scale", "temporal_embed_enc.scale")
        name = name.replace("patches.time_and_place.place_scale", "location_embed_enc.scale")
        name = "encoder." + name
    for part, layers in {"attn": ("qkv", "proj"), "mlp": ("fc1", "fc2", "fc3")}.items():
        for layer in layers:
            if ".blocks." in f".{name}" or name.startswith("encoder."):
                name = name.replace(f".{layer}.", f".{part}.{layer}.") if "embed" not in name else name
    return name


def released(architecture, size):
    """A backbone, and its encoder's weights by the released names and in the released shapes, with all the rest."""
    torch.manual_seed(0)
    backbone = build_from(architecture, ARCHITECTURES[architecture].rungs[size] | SMALL)
    encoder = {name: w for name, w in backbone.state_dict().items() if name.startswith("encoder.")}
    theirs = {their_names(architecture, name): value.clone() for name, value in encoder.items()}
    if architecture == "terramind":
        place = "encoder_embeddings.untok_sen2l2a@224."
        theirs[place + "mod_emb"] = theirs[place + "mod_emb"].view(1, 1, -1)
        theirs |= {place + "pos_emb": torch.zeros(1, 196, 32), "mask_token": torch.zeros(1, 1, 32)}
        theirs |= {f"encoder.{i}.norm{k}.bias": torch.zeros(32) for i in range(4) for k in (1, 2)}
        theirs |= {"encoder_norm.bias": torch.zeros(32), "decoder.0.self_attn.qkv.weight": torch.zeros(3)}
        theirs["encoder_embeddings.untok_dem@224.proj.weight"] = torch.zeros(3)
    else:
        patch = ARCHITECTURES[architecture].rungs[size]["patch"]
        kernel = theirs["encoder.patch_embed.proj.weight"]
        theirs["encoder.patch_embed.proj.weight"] = kernel.view(32, 6, 1, patch, patch)
        theirs["encoder.cls_token"] = theirs["encoder.cls_token"].view(1, 1, -1)
        theirs |= {"encoder.pos_embed": torch.zeros(1, 197, 32), "decoder.mask_token": torch.zeros(1, 1, 32)}
        theirs |= {"decoder.decoder_blocks.0.attn.qkv.weight": torch.zeros(3)}
    return backbone, theirs


@pytest.fixture(params=[("terramind", "base"), ("terramind", "large-paper"), ("prithvi", "600M-TL")])
def file(request, tmp_path):
    """Architecture, size, backbone, released weights and the file they lie in."""
    architecture, size = request.param
    backbone, theirs = released(architecture, size)
    path = tmp_path / ARCHITECTURES[architecture].release.files[size].rpartition("/")[2]
    torch.save(theirs, path)
    return architecture, size, backbone, theirs, path


def test_a_released_file_becomes_a_checkpoint_with_its_pixels(file, tmp_path):
    architecture, size, backbone, theirs, path = file
    spec = spec_of(architecture, size, path)
    taken, ignored = import_released(spec, tmp_path / "out")
    ours = {k: v for k, v in backbone.state_dict().items() if k.startswith("encoder.")}
    assert (taken, ignored) == (len(ours), len(theirs) - len(ours))
    loaded, card = load_trained(tmp_path / "out")
    for name, value in ours.items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert card["fingerprint"] == spec.fingerprint and card["transform"] == "linear"
    blue = ARCHITECTURES[architecture].input.bands["B02"]
    assert [card["statistics"]["linear"][key][0] * 1e4 for key in ("mean", "std")] == pytest.approx(blue)
    again, _ = load_trained(tmp_path / "out")
    assert torch.equal(again(torch.ones(1, 10, 32, 32)).dense, loaded(torch.ones(1, 10, 32, 32)).dense)


def test_released_weights_can_be_exported_under_a_licence(file, tmp_path):
    architecture, size, backbone, _, path = file
    import_released(spec_of(architecture, size, path), tmp_path / "run")
    study = any_study()
    with pytest.raises(GeoladderError, match="name that of the weights"):
        export_model(tmp_path / "run", tmp_path / "out", study)
    export_model(tmp_path / "run", tmp_path / "out", study, "apache-2.0")
    again, card = load_model(tmp_path / "out")
    assert card["licence"] == "apache-2.0"
    assert torch.equal(next(again.encoder.parameters()), next(backbone.encoder.parameters()))
    words = (tmp_path / "out/README.md").read_text()
    assert "license: apache-2.0" in words and card["provenance"]["sha256"] in words


def test_a_folder_and_safetensors_do_as_well(file, tmp_path):
    architecture, size, _, theirs, path = file
    import_released(spec_of(architecture, size, path.parent), tmp_path / "one")
    save_file(theirs, tmp_path / "weights.safetensors")
    import_released(spec_of(architecture, size, tmp_path / "weights.safetensors"), tmp_path / "two")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one) and one.keys() == two.keys()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w, name: w.pop(name), ["1 missing"]),
        (lambda w, name: w.update(strange=torch.zeros(2)), ["1 extra, neither mapped nor ignored (strange)"]),
        (lambda w, name: w.update({name: torch.zeros(3, 3)}), ["of another shape"]),
        (lambda w, name: w[name].view(-1)[:1].fill_(float("nan")), ["NaN or infinite", "1 not finite"]),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(file, change, words, tmp_path):
    architecture, size, _, theirs, path = file
    change(theirs, next(name for name in theirs if name.endswith("qkv.weight") and "decoder" not in name))
    torch.save(theirs, path)
    with pytest.raises(GeoladderError) as problem:
        import_released(spec_of(architecture, size, path), tmp_path / "out")
    for word in words:
        assert word in str(problem.value)
    assert not (tmp_path / "out").exists()


def test_a_pickle_of_more_than_tensors_is_refused(tmp_path):
    path = tmp_path / "TerraMind_v1_base.pt"
    torch.save({"model": np.array([object()], dtype=object)}, path)
    with pytest.raises(GeoladderError, match="no torch file of tensors alone"):
        import_released(spec_of("terramind", "base", path), tmp_path / "out")


@pytest.mark.parametrize(
    "weights", ["weights/TerraMind_v1_base.pt", "hf://ibm-esa-geospatial/TerraMind-1.0-base@0123abc"]
)
def test_missing_weights_name_the_command_that_gets_them(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GeoladderError) as problem:
        import_released(spec_of("terramind", "base", weights), tmp_path / "out")
    assert "hf download ibm-esa-geospatial/TerraMind-1.0-base TerraMind_v1_base.pt" in str(problem.value)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("", "there are no weights at"),
        ("hf://owner/name@0123abc", "which file of hf://owner/name@0123abc it is nobody knows"),
    ],
)
def test_a_backbone_of_terratorch_has_no_known_file(weights, words, tmp_path):
    entry = ARCHITECTURES["terratorch"]
    spec = ReleasedSpec(
        architecture="terratorch",
        size="timm_resnet18",
        model=entry.kwargs("timm_resnet18"),
        weights=weights or str(tmp_path),
        input=entry.input,
        release=entry.release,
    )
    with pytest.raises(GeoladderError, match=f"{words}.*name the file of the state dict"):
        import_released(spec, tmp_path / "out")


class FourMaps(nn.Module):
    """As a backbone of TerraTorch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(10, 8, 16, stride=16)

    def forward(self, pixels):
        return [self.conv(pixels)] * 4


def test_a_model_without_constants_has_no_statistics_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("geoladder.models.terratorch.built", lambda name: FourMaps())
    entry = ARCHITECTURES["terratorch"]
    torch.save(FourMaps().state_dict(), tmp_path / "toy.pt")
    spec = ReleasedSpec(
        architecture="terratorch",
        size="toy",
        model=entry.kwargs("toy"),
        weights=str(tmp_path / "toy.pt"),
        input=entry.input,
        release=entry.release,
    )
    import_released(spec, tmp_path / "run")
    _, card = load_model(tmp_path / "run")
    with pytest.raises(GeoladderError, match="nothing says what pixels terratorch-toy was fed with"):
        statistics_of(card)
    export_model(tmp_path / "run", tmp_path / "out", any_study(), "mit")
    assert "by those of your own images" in (tmp_path / "out/README.md").read_text()


def test_bands_a_model_does_not_take_have_the_studys_statistics():
    others = Moments(list(range(10)), [2.0] * 10)
    stats = released_stats(ARCHITECTURES["prithvi"].input, others)
    assert stats.linear.mean[BANDS.index("B02")] == pytest.approx(0.1087)
    assert stats.linear.mean[BANDS.index("B08")] == BANDS.index("B08")
    assert stats.linear.std[BANDS.index("B05")] == 2.0
    json.dumps(stats.as_dict())
