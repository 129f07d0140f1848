"""Models that leave the project and come back: exported, loaded from anywhere, imported under a map of names."""

import copy
import json
import logging
import re
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import get_args

import huggingface_hub
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from geoladder.cli import main
from geoladder.errors import GeoladderError
from geoladder.models.build import build_backbone
from geoladder.study.corpora import Corpus
from geoladder.study.load import parse_study
from geoladder.study.specs import ChipsSpec
from geoladder.training.checkpoints import load_trained, save_model
from geoladder.training.export import DATA, export_model, model_card
from geoladder.training.hub import load_model
from geoladder.training.import_weights import import_weights
from geoladder.training.job import Hardware
from geoladder.training.pretrain import pretrain


@pytest.fixture(autouse=True)
def own_log(monkeypatch):
    """The command line starts the log, on streams that end with the test."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


STUDY = {
    "name": "small",
    "corpora": {"majortom": {"tiles": 24}},
    "pretrain": {"grid": [{"corpora": ["majortom"], "architectures": ["unet"], "sizes": ["xs"]}]},
    "finetune": {"grid": [{"corpora": ["scratch"], "architectures": ["unet"], "sizes": ["xs"]}]},
}
ENCODER = {"theirs": r"(encoder\..*)", "ours": r"\1"}
REAL = {"source": "majortom", "path": "/archives/Core-S2L2A"}


def study_with(**corpus):
    raw = copy.deepcopy(STUDY)
    raw["corpora"]["majortom"] |= corpus
    return parse_study(raw)


@pytest.fixture
def finished(inputs, pretrain_spec, tmp_path):
    """Trains one short run of a study: (folder, study)."""

    def make(study, architecture="unet"):
        spec = pretrain_spec(architecture, samples=16, chips=ChipsSpec.of(study, "majortom").pixels)
        out = tmp_path / "run"
        pretrain(spec, inputs, Hardware(), out)
        return out

    return make


def pixels():
    return torch.randn(2, 10, 16, 16, generator=torch.Generator().manual_seed(5))


def front_matter(text):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1])


@pytest.mark.parametrize("architecture", ["unet", "vit_upernet", "mamba_upernet"])
def test_what_is_exported_computes_the_same(finished, tmp_path, architecture):
    study = study_with()
    run = finished(study, architecture)
    trained = build_backbone(architecture, "xs")
    weights = load_file(run / "model.safetensors")
    trained.load_state_dict({k[9:]: v for k, v in weights.items() if k.startswith("backbone.")})
    export_model(run, tmp_path / "out", study)
    state = torch.get_rng_state()
    backbone, card = load_model(tmp_path / "out")
    assert torch.equal(torch.get_rng_state(), state)
    assert not backbone.training
    with torch.no_grad():
        for expected, output in zip(trained.eval()(pixels()), backbone(pixels()), strict=True):
            assert torch.equal(expected, output)
    assert (card["architecture"], card["size"], card["samples_seen"]) == (architecture, "xs", 16)
    assert {"bands", "statistics", "objective", "provenance", "model", "metrics", "transform"} <= card.keys()
    assert load_model(run)[1]["fingerprint"] == card["fingerprint"]  # a run loads without an export, too


def test_a_backbone_that_names_no_stride_is_exported_too(finished, tmp_path, monkeypatch):
    def load(folder):
        backbone, card = load_trained(folder)
        del backbone.stride_px, backbone.side_px  # only the base class of the package sets them
        return backbone, card

    monkeypatch.setattr("geoladder.training.export.load_trained", load)
    study = study_with()
    export_model(finished(study), tmp_path / "out", study)
    assert json.loads((tmp_path / "out" / "model.json").read_text())["stride"] is None
    assert "Image sides" not in (tmp_path / "out" / "README.md").read_text()


def test_the_card_of_synthetic_data_says_so_and_its_example_runs(finished, tmp_path):
    study = study_with()
    export_model(finished(study), tmp_path / "out", study)
    text = (tmp_path / "out" / "README.md").read_text()
    front = front_matter(text)
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "geoladder"
    assert "datasets" not in front
    assert "**No satellite image**" in text
    assert "CC-BY-SA" not in text
    for part in (
        "Intended use and limits",
        "multiples of 8 pixels",
        "val_masked_mse",
        "unet-xs",
        "B02 B03 B04 B08",
    ):
        assert part in text
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    names = {}
    exec(example.replace("PATH or hf://owner/name@revision", str(tmp_path / "out")), names)
    px = study.cleaning.chip_px
    assert names["features"].dense.shape[2:] == (px, px)


def test_the_card_of_real_data_names_its_licence(finished, tmp_path):
    study = study_with(**REAL)
    run = finished(study)
    export_model(run, tmp_path / "out", study)
    text = (tmp_path / "out" / "README.md").read_text()
    assert front_matter(text)["license"] == "cc-by-sa-4.0"
    assert front_matter(text)["datasets"] == ["Major-TOM/Core-S2L2A"]
    assert "CC-BY-SA-4.0" in text
    assert "Copernicus Sentinel" in text
    assert "No satellite image" not in text
    export_model(run, tmp_path / "other", study, licence="cc0-1.0")
    assert front_matter((tmp_path / "other" / "README.md").read_text())["license"] == "cc0-1.0"
    card = json.loads((tmp_path / "other" / "model.json").read_text())
    assert card["data"]["licence"] == "cc-by-sa-4.0"
    assert model_card(card) == (tmp_path / "other" / "README.md").read_text()
    card["objective"]["targets"] |= {"landcover": {"kind": "raster"}, "unseen": {"kind": "raster"}}
    card["metrics"]["val_landcover_accuracy"] = 0.25
    text = model_card(card)
    assert "| val_landcover_accuracy | 0.25 | share of images with the right class of landcover |" in text
    assert "targets geo, climate, landcover, unseen" in text


@pytest.mark.parametrize("source", ["tree", "fasttom_tree"])
def test_extracted_majortom_keeps_the_licence_of_majortom(finished, tmp_path, source):
    study = study_with(source=source, path="/archives/extracted")
    export_model(finished(study), tmp_path / "out", study)
    text = (tmp_path / "out" / "README.md").read_text()
    assert front_matter(text)["license"] == "cc-by-sa-4.0"
    assert f"archive `extracted`, layout `{source}`" in text


@pytest.mark.parametrize("source", ["globe", "auto"])
def test_a_licence_nobody_knows_is_asked_for(finished, tmp_path, source):
    study = study_with(source=source, path="/archives/globe")
    run = finished(study)
    with pytest.raises(GeoladderError, match=rf"source: {source}\) is not known.*--licence"):
        export_model(run, tmp_path / "out", study)
    assert not (tmp_path / "out").exists()
    export_model(run, tmp_path / "out", study, licence="cc-by-4.0")
    text = (tmp_path / "out" / "README.md").read_text()
    assert front_matter(text)["license"] == "cc-by-4.0"
    assert "No satellite image" not in text


def test_every_source_of_a_corpus_has_its_words():
    assert set(DATA) == set(get_args(Corpus.model_fields["source"].annotation))


def test_a_run_of_another_study_is_not_exported(finished, tmp_path):
    run = finished(study_with())
    with pytest.raises(GeoladderError, match=r"not trained in study 'small'.*--study"):
        export_model(run, tmp_path / "out", study_with(**REAL))
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_is_not_exported(finished, tmp_path):
    study = study_with()
    run = finished(study)
    with pytest.raises(GeoladderError, match="export to another folder"):
        export_model(run, run, study)
    (run / "metrics.json").unlink()
    with pytest.raises(GeoladderError, match=r"metrics\.json has no metrics .*not finished"):
        export_model(run, tmp_path / "out", study)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.pop("backbone.encoder.stem.weight"), r"1 missing \(encoder\.stem\.weight\)"),
        (lambda w: w.update({"backbone.more": torch.zeros(1)}), r"1 extra \(more\)"),
        (
            lambda w: w.update({"extra_head.weight": torch.zeros(1)}),
            r"heads in .* 1 extra \(heads\.extra_head\.weight\)",
        ),
        (lambda w: w.update({"heads.geo.bias": torch.zeros(3)}), r"geo\.bias is \(3,\), not \(4,\)"),
        (lambda w: [w.pop(k) for k in list(w) if k.startswith("backbone.d")], r"\d+ missing \(.*, \.\.\.\)"),
    ],
)
def test_weights_that_do_not_fit_their_card_are_named(finished, spoil, message):
    run = finished(study_with())
    weights = load_file(run / "model.safetensors")
    spoil(weights)
    save_file(weights, run / "model.safetensors")
    with pytest.raises(GeoladderError, match=message):
        load_model(run)


def test_a_card_without_an_architecture_is_named(finished):
    run = finished(study_with())
    (run / "model.json").write_text("{}")
    with pytest.raises(GeoladderError, match=r"model\.json lacks 'architecture'"):
        load_model(run)
    with pytest.raises(GeoladderError, match=r"no folder .*nowhere"):
        load_model("nowhere")


def test_a_model_on_the_hub_is_fetched_at_its_revision(finished, monkeypatch, caplog):
    run, requests = finished(study_with()), []

    def snapshot_download(repo, **keywords):
        requests.append((repo, keywords["revision"]))
        return str(run)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    backbone, _ = load_model("hf://owner/geo.model@0123abc")
    assert requests == [("owner/geo.model", "0123abc")]
    assert backbone.summary_dim == 24
    assert "name a commit" not in caplog.text
    load_model("hf://owner/geo.model@main")
    assert "name a commit" in caplog.text


@pytest.mark.parametrize(
    "address", ["hf://owner/name", "hf://name@abc", "hf://datasets/owner/name@abc", "hf://@"]
)
def test_an_address_without_revision_is_refused(address):
    with pytest.raises(GeoladderError, match="hf://owner/name@revision"):
        load_model(address)


class Hub(BaseHTTPRequestHandler):
    """Answers everything as the class says."""

    answer = (404, "")

    def do_GET(self):
        status, code = self.answer
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Starts a hub of that answer; the real client asks it."""
    servers = []

    def start(status, code):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (Hub,), {"answer": (status, code)}))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fetch = partial(
            huggingface_hub.snapshot_download,
            endpoint=f"http://127.0.0.1:{server.server_port}",
            cache_dir=tmp_path / "cache",
            token=False,
        )
        monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "RevisionNotFound", r"owner/name on the hub has no revision 'abc'"),
        (404, "RepoNotFound", r"no repository owner/name, or it is private"),
        (403, "GatedRepo", r"no repository owner/name, or it is private"),
        (403, "", r"owner/name at abc"),
    ],
)
def test_what_the_hub_refuses_is_explained(hub, status, code, message):
    hub(status, code)
    with pytest.raises(GeoladderError, match=message):
        load_model("hf://owner/name@abc")


def test_a_hub_out_of_reach_is_explained(monkeypatch, tmp_path):
    fetch = partial(
        huggingface_hub.snapshot_download, endpoint="http://127.0.0.1:9", cache_dir=tmp_path, token=False
    )
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(GeoladderError, match=r"cannot be reached .*fetch it on a machine with network"):
        load_model("hf://owner/name@abc")


def test_without_network_the_real_client_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(GeoladderError, match="was not fetched before"):
        load_model("hf://owner/name@abc")


def test_the_verbs(finished, tmp_path, capsys):
    study = study_with()
    run, out, file = finished(study), tmp_path / "out", tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY))
    assert main(["export", str(run), str(out), "--study", str(file)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "model.json", "model.safetensors"]
    assert main(["load", str(out)]) == 0
    output = capsys.readouterr().out
    assert "unet-xs" in output
    assert "all weights fit" in output
    assert main(["load", str(tmp_path / "nowhere")]) == 1
    assert "geoladder load: there is no folder" in capsys.readouterr().err


@pytest.fixture
def foreign(tmp_path):
    """A ViT's weights under another library's names, and the map that brings them home."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        weights = build_backbone("vit_upernet", "xs").state_dict()
    names = {"proj": "attn.proj", "qkv": "attn.qkv", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    theirs = {"head.weight": torch.zeros(3, 3)}
    for name, value in weights.items():
        new = re.sub(
            r"encoder\.blocks\.(\d+)\.(\w+)", lambda m: f"blocks.{m[1]}.{names.get(m[2], m[2])}", name
        )
        theirs["cls_token" if name == "encoder.cls" else new] = value.contiguous()
    save_file(theirs, tmp_path / "theirs.safetensors")
    name_map = {
        "names": {"encoder.cls": "cls_token"},
        "rules": [
            {"theirs": r"blocks\.(\d+)\.(?:attn\.|mlp\.)?(\w+\.\w+)", "ours": r"encoder.blocks.\1.\2"},
            {"theirs": r"((?:encoder|decoder)\..*)", "ours": r"\1"},
        ],
        "ignore": [r"head\..*"],
    }
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(name_map))
    return weights, theirs, name_map


def bring(folder, architecture="vit_upernet", state="theirs.safetensors"):
    return import_weights(folder / state, folder / "map.yaml", architecture, "xs", folder / "out")


def test_foreign_weights_come_home_under_a_map(foreign, tmp_path, capsys):
    weights, theirs, _ = foreign
    assert bring(tmp_path) == (len(weights), 1)
    backbone, card = load_model(tmp_path / "out")
    assert all(torch.equal(value, weights[name]) for name, value in backbone.state_dict().items())
    assert card["statistics"] is None
    assert card["provenance"]["imported_from"] == "theirs.safetensors"
    assert main(["load", str(tmp_path / "out")]) == 0
    assert "imported_from" in capsys.readouterr().out
    torch.save(theirs, tmp_path / "theirs.pt")
    options = ["--map", str(tmp_path / "map.yaml"), "--architecture", "vit_upernet", "--size", "xs"]
    assert main(["import-weights", str(tmp_path / "theirs.pt"), str(tmp_path / "again"), *options]) == 0
    assert f"{len(weights)} weights taken, 1 ignored" in capsys.readouterr().out
    first, again = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m["ignore"].clear(), r"1 extra, neither mapped nor ignored \(head\.weight\)"),
        (lambda m: m.update(rules=[]), r"\d+ extra, neither mapped nor ignored \((\S+, ){4}\.\.\.\)"),
        (
            lambda m: m["ignore"].append("decoder.*") or (m["rules"].pop() and m["rules"].append(ENCODER)),
            r"does not fit vit_upernet-xs: \d+ missing",
        ),
        (lambda m: m["names"].update({"encoder.norm.bias": "absent"}), r"not there: 1 missing \(absent\)"),
        (
            lambda m: m["rules"].insert(0, {"theirs": r"blocks.*", "ours": "encoder.cls"}),
            r"given twice \(encoder\.cls",
        ),
        (lambda m: m["names"].update({"encoder.norm.bias": "cls_token"}), r"missing|given twice"),
        (lambda m: m["names"].update({"encoder.unknown": "head.weight"}), r"1 extra \(encoder\.unknown\)"),
        (lambda m: m["rules"].insert(0, {"theirs": "(", "ours": "x"}), r"'\(' is no regular expression"),
        (lambda m: m["rules"].insert(0, {"theirs": "head.*", "ours": r"\4"}), r"'\\4' .*group"),
        (lambda m: m.update(unknown=1), r"is no map of names"),
    ],
)
def test_a_map_that_does_not_bring_every_weight_home_is_refused(foreign, tmp_path, edit, message):
    name_map = foreign[2]
    edit(name_map)
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(name_map))
    with pytest.raises(GeoladderError, match=message):
        bring(tmp_path)
    assert not (tmp_path / "out").exists()


def test_other_shapes_and_other_architectures_are_refused(foreign, tmp_path):
    theirs = foreign[1]
    theirs["cls_token"] = torch.zeros(7)
    save_file(theirs, tmp_path / "theirs.safetensors")
    with pytest.raises(GeoladderError, match=r"1 of another shape \(encoder\.cls is \(7,\), not \(12,\)\)"):
        bring(tmp_path)
    with pytest.raises(GeoladderError, match=r"does not fit unet-xs: \d+ missing \(.*; \d+ extra \("):
        bring(tmp_path, "unet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no tensors", r"state\.pt .*(cannot be read|tensors alone)"),
        ({"model": {}, "epoch": 3}, r"but model, epoch"),
    ],
)
def test_a_file_without_tensors_by_name_is_refused(foreign, tmp_path, content, message):
    path = tmp_path / "state.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(GeoladderError, match=message):
        bring(tmp_path, state="state.pt")


def test_a_missing_map_and_a_missing_state_are_named(foreign, tmp_path):
    with pytest.raises(GeoladderError, match=r"absent\.safetensors cannot be read"):
        bring(tmp_path, state="absent.safetensors")
    (tmp_path / "map.yaml").unlink()
    with pytest.raises(GeoladderError, match=r"no map of names at .*map\.yaml; .* are mamba-ssm"):
        bring(tmp_path)


def test_a_model_without_heads_loads(tmp_path, corpus, pretrain_spec):
    """What an import writes has a backbone alone; what a run writes has heads, too."""
    from geoladder.models.build import PretrainModel

    card = {"architecture": "unet", "size": "xs", "model": pretrain_spec().model, "bands": ["B02"] * 10}
    model = PretrainModel(build_backbone("unet", "xs"))
    save_model(model.state_dict(), card, tmp_path)
    assert load_model(tmp_path)[0].dense_channels == model.backbone.dense_channels
