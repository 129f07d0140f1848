"""Weights and cards of others, and files of ours that hold something else."""

import json
import pickle
from functools import cache, partial

import torch
from attack import Attack, attacked_by

from geoladder.data.labels.bands import BANDS
from geoladder.models.build import build_backbone
from geoladder.registry.ladder import rung
from geoladder.training.checkpoints import save_model

IMPORT = ["import-weights", "state.pt", "out", "--map", "map.yaml", "--architecture", "unet", "--size", "xs"]
SAME = "rules:\n  - {theirs: '(.+)', ours: '\\1'}\n"
CARD = {
    "architecture": "unet",
    "size": "xs",
    "model": dict(rung("unet", "xs").kwargs),
    "bands": list(BANDS),
    "transform": "sqrt",
    "statistics": None,
}
STEM = "encoder.stem.weight"


class Execute:
    """A pickle that runs a command."""

    def __reduce__(self):
        import os

        return os.system, ("touch executed",)


@cache
def _weights():
    torch.manual_seed(0)
    return build_backbone("unet", "xs").state_dict()


def _state(folder, change=None, name_map=SAME, key=None):
    state = dict(_weights())
    if change:
        state[STEM] = change(state[STEM])
    torch.save({key: state, "epoch": 3} if key else state, folder / "state.pt")
    (folder / "map.yaml").write_text(name_map)


def _raw(folder, content):
    (folder / "state.pt").write_bytes(content)
    (folder / "map.yaml").write_text(SAME)


def _model(folder, **changes):
    save_model({f"backbone.{name}": value for name, value in _weights().items()}, CARD, folder / "model")
    for seal in (folder / "model").glob(".*.seal"):
        seal.unlink()
    (folder / "model/model.json").write_text(json.dumps(CARD | changes))


def _card(folder, text):
    _model(folder)
    (folder / "model/model.json").write_text(text)


def _imported(name, message, **state):
    return Attack(name, partial(_state, **state), IMPORT, message)


def _loaded(name, message, **changes):
    return Attack(name, partial(_model, **changes), ["load", "model"], message)


def _written(folder, name, text):
    (folder / name).write_text(text)


TAKEN = {"stated": "weights taken"}
MODEL = CARD["model"]
DEEP = "[" * 100_000 + "]" * 100_000
COLLECT = ["collect", "--ledger", "ledger.json", "--out", "out.csv"]
RUN = "results/pretrain/majortom/unet-xs/seed0/metrics.json"


def _result(folder, text):
    (folder / RUN).parent.mkdir(parents=True)
    (folder / RUN).write_text(text)
    (folder / "ledger.json").write_text(json.dumps({RUN: "a"}))


RESULT = {"fingerprint": "a", "spec": {}, "provenance": {}, "metrics": {}}
ATTACKS = [
    Attack("bfloat16", partial(_state, change=lambda w: w.bfloat16()), IMPORT, None, **TAKEN),
    Attack(
        "a nest of Lightning",
        partial(_state, key="state_dict", name_map=f"key: state_dict\n{SAME}"),
        IMPORT,
        None,
        **TAKEN,
    ),
    _imported("a nest without its key", "write `key: module` into the map", key="module"),
    _imported(
        "a key that is not there",
        "has no key 'state_dict', but module, epoch",
        key="module",
        name_map=f"key: state_dict\n{SAME}",
    ),
    _imported("not a number", f"1 not finite ({STEM})", change=lambda w: w * float("nan")),
    _imported("beyond float32", f"1 not finite ({STEM})", change=lambda w: w.double() * 1e300),
    _imported("int8", f"1 not of torch.float32 ({STEM})", change=lambda w: w.to(torch.int8)),
    _imported("complex", f"1 not of torch.float32 ({STEM})", change=lambda w: w.to(torch.complex64)),
    _imported("sparse", f"1 not of torch.float32 ({STEM})", change=lambda w: w.to_sparse()),
    _imported("another shape", "1 of another shape", change=lambda w: w[..., None]),
    _imported(
        "a pattern without end",
        "write no repeats in repeats",
        name_map="rules: [{theirs: '(.|..|...)+[!?]', ours: x}]",
    ),
    _imported("a map in Latin-1 words", "is no map of names", name_map="rulez: []"),
    _imported("a rule twice", "was already given", name_map="ignore: []\nignore: ['.*']"),
    _imported(
        "a layout that does not fit",
        "does not fit",
        name_map="rules: [{theirs: '(.+)', ours: '\\1', permute: [0, 1, 2, 3, 4, 5]}]",
    ),
    Attack(
        "code in a pickle",
        partial(_raw, content=pickle.dumps(Execute())),
        IMPORT,
        "no torch file of tensors alone",
    ),
    Attack("no torch file", partial(_raw, content=b"weights"), IMPORT, "state.pt"),
    Attack(
        "keys that are numbers",
        lambda folder: (
            torch.save({1: torch.zeros(2)}, folder / "state.pt"),
            _written(folder, "map.yaml", SAME),
        ),
        IMPORT,
        "holds no tensors by name, but 1",
    ),
    Attack(
        "a size that leads out",
        _state,
        [*IMPORT[:5], "--architecture", "terratorch", "--size", "../x"],
        "terratorch has no size '../x'",
    ),
    _loaded("a card without bands", "bands: Input should be a valid list", bands=None),
    _loaded("a card without arguments", "model: Input should be a valid dictionary", model=None),
    _loaded("a negative width", "cannot be built", model=MODEL | {"width": -4}),
    _loaded("no width", "cannot be built", model=MODEL | {"width": 0}),
    _loaded("a width of terabytes", "of another shape", model=MODEL | {"width": 200_000}),
    _loaded("blocks without end", "at most 1000 blocks", model=MODEL | {"depths": [10**5, 1, 1]}),
    _loaded("an architecture that is none", "unknown architecture", architecture="unett"),
    _loaded("an architecture of no type", "architecture: Input should be a valid string", architecture=[]),
    _loaded("statistics of no type", "statistics: Input should be a valid dictionary", statistics="x"),
    Attack(
        "a card that is a list",
        partial(_card, text="[]"),
        ["load", "model"],
        "holds list where a JSON object",
    ),
    Attack(
        "a card that is null",
        partial(_card, text="null"),
        ["load", "model"],
        "where a JSON object is expected",
    ),
    Attack("a card too deep", partial(_card, text=DEEP), ["load", "model"], "nested too deeply"),
    Attack(
        "JSON too deep",
        partial(_written, name="x.json", text=DEEP),
        ["inspect", "x.json"],
        "nested too deeply",
    ),
    Attack(
        "JSON of 900 levels",
        partial(_written, name="x.json", text='{"a":' * 900 + "1" + "}" * 900),
        ["inspect", "x.json"],
        None,
        stated="...",
    ),
    Attack(
        "a fit that is a list",
        partial(_written, name="fit.json", text="[]"),
        ["predict", "fit.json", "--n", "1"],
        "this is no fit",
    ),
    Attack(
        "a ledger that is a list",
        partial(_written, name="ledger.json", text="[]"),
        COLLECT,
        "where a JSON object is expected",
    ),
    Attack(
        "an empty ledger",
        partial(_written, name="ledger.json", text=""),
        COLLECT,
        "ledger.json is no readable JSON",
    ),
    Attack(
        "a result without a spec",
        partial(_result, text=json.dumps(RESULT | {"spec": None})),
        COLLECT,
        "lacks spec, or holds something else",
    ),
    Attack("a result that is a list", partial(_result, text="[1]"), COLLECT, "is no readable result"),
    Attack(
        "a spec that is a list",
        lambda _: None,
        ["trivial", "--spec", "[]", "--bench", "b", "--bench-index", "b", "--split", "s", "--out", "out"],
        "--spec is no BaselineSpec",
    ),
    Attack(
        "a spec of garbage",
        lambda _: None,
        ["make-bench", "--spec", "{{", "--out", "out"],
        "--spec is no BenchArchiveSpec",
    ),
    Attack(
        "no results",
        lambda _: None,
        ["tables", "--results", "r.csv", "--laws", "l.json", "--out", "out"],
        "r.csv is no table of results",
    ),
]
test_weights = attacked_by(ATTACKS)
