"""The block `external`: weights that others have trained, as arms and under linear heads."""

import copy

import pytest

from geoladder.errors import GeoladderError
from geoladder.registry import ARCHITECTURES
from geoladder.study.arms import Cell
from geoladder.study.load import parse_study
from geoladder.study.nodes import Nodes

STUDY = {
    "corpora": {"majortom": {"tiles": 20}},
    "pretrain": {"grid": [{"corpora": ["majortom"], "architectures": ["unet"], "sizes": ["xs"]}]},
    "finetune": {
        "n": [4],
        "seeds": [0],
        "tasks": ["roads"],
        "grid": [{"corpora": ["released", "scratch"], "architectures": ["terramind"], "sizes": ["base"]}],
    },
    "external": {"terramind-base": {"weights": "weights/TerraMind_v1_base.pt"}},
    "gates": None,
}
RUN = "results/finetune/{}/terramind-base/roads/seed0/n4.json"
HUB = "hf://ibm-esa-geospatial/TerraMind-1.0-base"


def nodes(**changes):
    return Nodes(parse_study(copy.deepcopy(STUDY) | changes))


def test_a_released_arm_starts_from_the_imported_weights():
    unrolled = nodes()
    card = "results/released/terramind-base/model.json"
    released, scratch = (unrolled.finetune[RUN.format(corpus)] for corpus in ("released", "scratch"))
    assert unrolled.cell_behind[RUN.format("released")] == "results/released/terramind-base"
    assert released.pretrained == unrolled.released[card].fingerprint
    assert unrolled.cell_behind[RUN.format("scratch")] is None and scratch.pretrained is None
    for spec in (released, scratch):
        assert (spec.transform, spec.harmonise) == ("linear", "none")
        assert spec.input == ARCHITECTURES["terramind"].input


def test_linear_heads_are_fitted_to_it_and_to_a_random_one():
    cells = nodes().study.linear_cells()
    assert (
        Cell("released", "terramind", "base", 0) in cells and Cell("random", "terramind", "base", 0) in cells
    )


def test_harmonising_is_recorded_and_reaches_its_runs_alone():
    chosen = {"terramind-base": STUDY["external"]["terramind-base"] | {"harmonise": "baseline"}}
    before, after = nodes().finetune, nodes(external=chosen).finetune
    changed = {file for file in before if before[file] != after[file]}
    assert changed == {RUN.format("released"), RUN.format("scratch")}
    assert after[RUN.format("released")].harmonise == "baseline"


def test_without_constants_pixels_are_harmonised_as_the_statistics_are():
    grid = [{"corpora": ["scratch"], "architectures": ["terratorch"], "sizes": ["timm_resnet18"]}]
    for harmonise in ("none", "baseline"):
        unrolled = nodes(cleaning={"harmonise": harmonise}, finetune=STUDY["finetune"] | {"grid": grid})
        run = unrolled.finetune["results/finetune/scratch/terratorch-timm_resnet18/roads/seed0/n4.json"]
        assert run.harmonise == harmonise


def test_other_weights_change_what_starts_from_them_and_nothing_else():
    before, after = (
        nodes().finetune,
        nodes(external={"terramind-base": {"weights": f"{HUB}@0123abc"}}).finetune,
    )
    assert {file for file in before if before[file] != after[file]} == {RUN.format("released")}


def test_runs_of_our_own_do_not_know_of_inputs():
    file = "results/finetune/scratch/pixel-mlp/roads/seed0/n4.json"
    assert "input" not in nodes().finetune[file].model_dump()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"external": {}}, ["where the weights of terramind-base are", "external.terramind-base.weights"]),
        ({"external": {"terramind-base": {"weights": HUB}}}, ["no fixed revision", "<40 hexadecimal digits"]),
        ({"external": {"terramind-base": {"weights": f"{HUB}@main"}}}, ["no fixed revision"]),
        ({"external": {"terramind-base": {"weights": f"{HUB}@dev"}}}, ["no fixed revision"]),
        ({"external": {"terramind-bass": {"weights": "x"}}}, ["no size 'bass'", "base, large"]),
        ({"external": {"unet-xs": {"weights": "x"}}}, ["'unet-xs' is trained here", "terramind"]),
        (
            {
                "pretrain": {
                    "grid": [{"corpora": ["majortom"], "architectures": ["terramind"], "sizes": ["base"]}]
                }
            },
            ["terramind is external", "pretrain.grid", "`released`"],
        ),
        ({"pretrain": STUDY["pretrain"] | {"lr": {"terramind": 0.1}}}, ["'terramind' is external"]),
        (
            {
                "finetune": {
                    "grid": [{"corpora": ["majortom"], "architectures": ["prithvi"], "sizes": ["300M"]}]
                }
            },
            ["prithvi-300M is external", "not 'majortom'"],
        ),
        (
            {"finetune": {"grid": [{"corpora": ["released"], "architectures": ["unet"], "sizes": ["xs"]}]}},
            ["unet-xs is trained here", "no released weights"],
        ),
        (
            {"corpora": {"majortom": {"tiles": 20}, "released": {"tiles": 20}}},
            ["no corpus can be called 'released'"],
        ),
        (
            {"bench": {"patch_px": 48}},
            ["bench.patch_px is 48", "terramind-base takes images of a multiple of 32"],
        ),
    ],
)
def test_what_does_not_fit_is_named(changes, words):
    with pytest.raises(GeoladderError) as problem:
        nodes(**changes)
    for word in words:
        assert word in str(problem.value)
