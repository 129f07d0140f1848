import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from geoladder.errors import GeoladderError
from geoladder.registry import ARCHITECTURES
from geoladder.study.arms import PIXEL_ARM, Arm, Cell, Point
from geoladder.study.corpora import corpus_fraction, corpus_name, corpus_slug
from geoladder.study.load import load_study, parse_study

ROOT = Path(__file__).parents[2]
RAW = {
    "corpora": {"majortom": {"tiles": 20}},
    "pretrain": {
        "grid": [
            {
                "corpora": ["majortom@1/4", "majortom"],
                "architectures": ["unet"],
                "sizes": ["xs"],
                "seeds": [0, 1, 2],
            }
        ]
    },
    "finetune": {"grid": [{"corpora": ["scratch", "majortom"], "architectures": ["unet"], "sizes": ["xs"]}]},
}


ORACLE_ARM = {"corpora": ["oracle"], "architectures": ["unet"], "sizes": ["xs"]}


def edited(path: str, value: object) -> dict:
    raw = copy.deepcopy(RAW)
    *parents, last = path.split(".")
    block = raw
    for parent in parents:
        block = block.setdefault(parent, {})
    block[last] = value
    return raw


@pytest.mark.parametrize("file", ["config.yaml", "studies/ci.yaml"])
def test_shipped_studies_are_valid(file):
    study = load_study(ROOT / file)
    assert study.cells()
    assert study.points()


def test_default_study_has_the_cells_it_promises():
    study = load_study(ROOT / "config.yaml")
    nested = {
        (c.corpus, c.architecture, c.size)
        for c in study.cells()
        if corpus_name(c.corpus) == study.validation.corpus
    }
    assert len(nested) >= 27
    assert {"globe", "fasttom"} < {c.corpus for c in study.cells()}
    assert len(study.finetune.seeds) >= 3


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("pretrian", {}, ["pretrian", "did you mean 'pretrain'"]),
        ("pretrain.sampels", 10, ["pretrain.sampels", "did you mean 'samples'"]),
        ("corpora.majortom.tilse", 10, ["corpora.majortom.tilse", "did you mean 'tiles'"]),
        ("pretrain.objective", {"mask_ration": 0.5}, ["mask_ration", "did you mean 'mask_ratio'"]),
        (
            "corpora",
            {"majortom": {"tiles": 0}},
            ["corpora.majortom.tiles", "greater than or equal to 1", "got 0"],
        ),
        ("pretrain.samples", "many", ["pretrain.samples", "got 'many'"]),
        ("finetune.n", [], ["finetune.n", "at least 1"]),
        ("finetune.seeds", [7], ["cell majortom/unet/xs/7", "pretrain.grid"]),
        ("validation", {"corpus": "majortim"}, ["'majortim'", "did you mean 'majortom'"]),
        ("corpora.real", {"source": "majortom"}, ["corpora.real", "path"]),
        ("finetune.tasks", ["rodas"], ["finetune.tasks", "'roads'"]),
        ("earth", {"tile_px": 50}, ["earth.tile_px", "multiple of 12"]),
        ("compute", {"devices": 4, "nodes": 3}, ["compute.devices is 4", "compute.nodes = 3 cannot share"]),
        ("pretrain.rungs", {"unet-sx": {"lr": 0.1}}, ["pretrain.rungs.unet-sx", "did you mean 'unet-s'"]),
        (
            "pretrain.rungs",
            {"vitt_upernet": {}},
            ["pretrain.rungs.vitt_upernet", "did you mean 'vit_upernet'"],
        ),
        ("pretrain.rungs", {"pixel": {"lr": 3}}, ["pretrain.rungs.pixel", "'pixel' is a baseline"]),
        (
            "pretrain.lr",
            {"vit": 0.1},
            ["pretrain.lr", "unknown architecture 'vit'", "mamba2d, mamba_upernet"],
        ),
        ("pretrain.lr", {"unet": -1}, ["pretrain.lr.unet", "greater than 0"]),
        ("finetune.lr", {"pixl": 0.1}, ["finetune.lr", "did you mean 'pixel'"]),
        ("cleaning", {"chip_px": 36}, ["cleaning.chip_px is 36", "unet-xs", "a multiple of 8"]),
        ("bench", {"patch_px": 20}, ["bench.patch_px is 20", "unet-xs", "a multiple of 8"]),
        ("gates", {"architecture": "geoaware_unet", "size": "44M"}, ["bench.patch_px is 32", "128 only"]),
        ("gates", {"size": "xz"}, ["unet has no size 'xz'; the ladder has xs, s, m"]),
        ("figures", {"palette": "colourblind"}, ["figures.palette", "did you mean 'colorblind'"]),
        (
            "pretrain.objective",
            {"tasks": ["roads"]},
            ["pretrain.objective", "give the study an `oracle` block"],
        ),
        ("oracle", {"architectures": ["unet"]}, ["oracle.sizes", "required"]),
        ("oracle", {"architectures": ["unet"], "sizes": ["xz"]}, ["unet has no size 'xz'"]),
        ("finetune.grid", [ORACLE_ARM], ["cell oracle/unet/xs/0, which oracle does not contain"]),
        ("corpora.oracle", {}, ["no corpus can be called 'oracle'"]),
    ],
)
def test_a_bad_value_is_named_with_its_place_and_the_fix(path, value, words):
    with pytest.raises(GeoladderError) as problem:
        parse_study(edited(path, value))
    for word in words:
        assert word in str(problem.value)


def test_an_unknown_architecture_lists_the_known_ones():
    raw = copy.deepcopy(RAW)
    raw["pretrain"]["grid"][0]["architectures"] = ["convolutions"]
    with pytest.raises(GeoladderError, match="vit_upernet"):
        parse_study(raw)


def test_a_baseline_stands_in_no_grid():
    raw = copy.deepcopy(RAW)
    raw["finetune"]["grid"][0]["architectures"] = ["pixel"]
    with pytest.raises(GeoladderError, match=r"architectures\.0: 'pixel' is a baseline"):
        parse_study(raw)


def test_rates_not_given_are_those_of_the_entries():
    study = parse_study(edited("finetune.lr", {"unet": 0.5}))
    assert study.finetune.lr["unet"] == 0.5
    assert study.finetune.lr["pixel"] == ARCHITECTURES["pixel"].finetune_lr
    rates = {name: entry.pretrain_lr for name, entry in ARCHITECTURES.items() if entry.pretrain_lr}
    assert study.pretrain.lr == rates


@pytest.mark.parametrize("palette", ["deep", "viridis", "husl", "ch:s=.25"])
def test_any_palette_of_seaborn_is_allowed(palette):
    assert parse_study(edited("figures", {"palette": palette})).figures.palette == palette


def test_reading_a_study_costs_no_torch_and_no_seaborn():
    code = (
        "import sys; from geoladder.study.load import load_study; from geoladder.study.nodes import Nodes; "
        f"Nodes(load_study({str(ROOT / 'config.yaml')!r})); sys.exit(bool({{'torch', 'seaborn'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_problem_is_reported_at_once():
    raw = edited("pretrain.sampels", 1)
    raw["finetune"]["stepz"] = 2
    with pytest.raises(GeoladderError) as problem:
        parse_study(raw)
    assert "sampels" in str(problem.value)
    assert "stepz" in str(problem.value)


def test_a_missing_or_broken_file_is_explained(tmp_path):
    with pytest.raises(GeoladderError, match="no study at"):
        load_study(tmp_path / "nothing.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,")
    with pytest.raises(GeoladderError, match="not valid YAML"):
        load_study(tmp_path / "bad.yaml")


def test_scientific_notation_without_a_point_is_a_number():
    raw = edited("pretrain.lr", yaml.safe_load("{unet: 1e-3}"))
    assert parse_study(raw).pretrain.lr["unet"] == 0.001


def test_curves_start_from_the_cell_of_their_own_seed():
    study = parse_study(RAW)
    point = Point(Arm("majortom", "unet", "xs"), "roads", 2, 4)
    assert study.cell_of(point) == Cell("majortom", "unet", "xs", 2)
    assert study.cell_of(point._replace(arm=PIXEL_ARM)) is None


@given(top=st.integers(1, 99), bottom=st.integers(1, 99))
def test_corpus_keys_keep_name_and_fraction(top, bottom):
    key = f"majortom@{top}/{bottom}"
    assert corpus_name(key) == "majortom"
    assert corpus_fraction(key) == pytest.approx(top / bottom)
    assert corpus_slug(key) == f"majortom@{top}-{bottom}"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            "corpora.majortom",
            {"source": "majortom", "path": "somewhere"},
            "labels that only the synthetic Earth has, but validation.corpus, 'majortom', is of source: majortom",
        ),
        ("pretrain.read", "tiles", "`oracle` learns labels of chips; set pretrain.read: chips"),
    ],
)
def test_an_oracle_without_labels_of_chips_is_refused(path, value, words):
    raw = edited(path, value) | {"oracle": {"architectures": ["unet"], "sizes": ["xs"]}}
    with pytest.raises(GeoladderError, match=re.escape(words)):
        parse_study(raw)
