"""How long fine-tuning runs are and at which rate, as a study says it, and which runs an edit changes."""

import copy

import pytest
from test_config import RAW

from geoladder.errors import GeoladderError
from geoladder.registry.ladder import rung, scaled_lr
from geoladder.study.load import parse_study
from geoladder.study.nodes import Nodes
from geoladder.study.recipe import PAPER


def nodes_of(**finetune):
    raw = copy.deepcopy(RAW)
    raw["finetune"] |= finetune
    return Nodes(parse_study(raw))


def differing(before, after, stage="finetune"):
    old, new = ({file: spec.fingerprint for file, spec in getattr(n, stage).items()} for n in (before, after))
    return {file for file in new if old.get(file) != new[file]}


CURVE = "results/finetune/majortom/unet-xs/roads/seed1/n16.json"


def test_steps_stay_a_number_where_a_study_gives_one():
    spec = nodes_of(steps=80).finetune[CURVE]
    assert (spec.steps, spec.epochs, spec.patience_validations, spec.schedule_name) == (
        80,
        None,
        None,
        "cosine",
    )
    assert spec.length(24) == spec.length(24_000)
    settling = nodes_of().finetune[CURVE]
    assert settling.schedule_name == "plateau" and settling.patience_validations == 8
    assert settling.length(24).ceiling < settling.length(600).ceiling


def test_gates_have_steps_of_their_own_whatever_the_curves_have():
    nodes = nodes_of(recipe="paper", patience=7)
    gates = [spec for file, spec in nodes.finetune.items() if file.startswith("results/gates/")]
    assert {(spec.steps, spec.batch, spec.patience_validations, spec.n) for spec in gates} == {
        (450, 32, None, 256)
    }
    curves = [spec for file, spec in nodes.finetune.items() if file.startswith("results/finetune/")]
    assert {(spec.steps, spec.patience) for spec in curves} == {(None, 7)}


def test_the_papers_recipe_sets_all_keys_but_those_given():
    spec = nodes_of(recipe="paper", batch=8, lr={"choose": [0.5, 1, 2]}).finetune[CURVE]
    assert spec.batch == 8 and spec.lr == 1e-4
    for key in PAPER.keys() - {"batch", "lr", "min_steps", "warmup_share"}:
        assert getattr(spec, key) == PAPER[key], key
    fixed = nodes_of(recipe="paper", steps=100, schedule="cosine").finetune[CURVE]
    assert (fixed.steps, fixed.epochs, fixed.patience, fixed.adam_eps) == (100, None, None, 1e-6)


def test_a_rate_is_at_the_base_width_but_for_one_of_all():
    rate = nodes_of(lr={"unet": 0.5}).finetune[CURVE].lr
    assert rate == scaled_lr(0.5, rung("unet", "xs"))
    assert nodes_of(lr={"all": 0.5}).finetune[CURVE].lr == 0.5


def test_arms_choose_rates_once_for_all_seeds_of_a_curve_and_gates_do_not():
    nodes = nodes_of(lr={"choose": [2, 1, 0.5]})
    assert nodes.rate_behind[CURVE] == "results/rates/majortom/unet-xs/roads/n16.json"
    rate = nodes.rates[nodes.rate_behind[CURVE]]
    assert (rate.factors, rate.seed) == ([0.5, 1.0, 2.0], 0)
    assert nodes.finetune[CURVE].choice == rate.fingerprint
    assert nodes.cell_behind[nodes.rate_behind[CURVE]] == "results/pretrain/majortom/unet-xs/seed0"
    assert not any(choice for file, choice in nodes.rate_behind.items() if "/gates/" in file)
    assert len(nodes.rates) == 3 * 3 * 3  # arms and the baseline, tasks, n
    assert not nodes_of().rates


def test_modes_and_transfers_are_arms_of_their_own():
    arms = {"architectures": ["unet"], "sizes": ["xs"]}
    grid = [
        {"corpora": ["majortom", "scratch"], **arms},
        {"corpora": ["majortom", "scratch"], **arms, "transfer": "encoder"},
        {"corpora": ["majortom", "scratch"], **arms, "mode": "frozen", "transfer": "encoder"},
    ]
    nodes = nodes_of(grid=grid, tasks=["roads"], n=[4], seeds=[0], keep=[])
    folders = {file.removesuffix("/roads/seed0/n4.json") for file in nodes.finetune if "/finetune/" in file}
    assert folders == {
        "results/finetune/majortom/unet-xs",
        "results/finetune/majortom/unet-xs+encoder",
        "results/finetune/majortom/unet-xs+frozen+encoder",
        "results/finetune/scratch/unet-xs",  # nothing is transferred to it, so the two are one
        "results/finetune/scratch/unet-xs+frozen",
        "results/finetune/scratch/pixel-mlp",
    }
    fingerprints = {spec.fingerprint for spec in nodes.finetune.values()}
    assert len(fingerprints) == len(nodes.finetune)
    whole = nodes_of(grid=grid[:1], transfer="encoder", tasks=["roads"], n=[4], seeds=[0], keep=[])
    assert not differing(nodes, whole)


@pytest.mark.parametrize(
    ("edit", "changes"),
    [
        ({"steps": 80, "min_steps": 7, "max_steps": 9}, False),
        ({"steps": 80, "plateau_factor": 0.2}, False),
        ({"steps": 80, "warmup_epochs": 3}, False),
        ({"steps": 80, "tolerance": 0.2}, True),  # it decides whether a result says that it had settled
        ({"steps": 80, "loss": "mse"}, True),
    ],
)
def test_keys_without_effect_change_no_run(edit, changes):
    assert bool(differing(nodes_of(steps=80), nodes_of(**edit))) is changes


def test_models_of_the_first_seed_are_kept_and_another_n_changes_none_of_them():
    before, after = nodes_of(n=[4, 16]), nodes_of(n=[4, 16, 64])
    assert {spec.seed for spec in after.finetune.values() if spec.keep} == {0}
    assert all("/n64.json" in file for file in differing(before, after))
    assert {spec.n for spec in nodes_of(keep=[16]).finetune.values() if spec.keep} == {16}
    assert all(spec.keep for file, spec in nodes_of(keep="all").finetune.items() if "/gates/" not in file)


@pytest.mark.parametrize(
    ("finetune", "words"),
    [
        ({"steps": 8, "epochs": 2}, ["`steps` and `epochs`", "give one of them"]),
        ({"min_steps": 9, "max_steps": 8}, ["min_steps is 9, above max_steps, 8"]),
        ({"schedule": "cosine", "patience": 3}, ["`patience` ends a run early", "schedule: plateau"]),
        ({"lr": {"choose": 0.1}}, ["finetune.lr", "`choose` takes a list of factors"]),
        ({"lr": {"choose": [1, 2]}}, ["finetune.lr.choose", "at least 3"]),
        ({"lr": {"choose": [1, 2, 1]}}, ["names a factor twice"]),
        ({"lr": {"unet": [1, 2, 3]}}, ["finetune.lr", "everything else one rate"]),
        ({"transfer": "decoder"}, ["finetune.transfer", "'all' or 'encoder'"]),
        ({"recipe": "papers"}, ["finetune.recipe", "'own' or 'paper'"]),
        ({"epoch": 3}, ["finetune.epoch", "did you mean 'epochs'"]),
        ({"batch": 0}, ["finetune.batch"]),
    ],
)
def test_what_cannot_be_is_named_with_the_fix(finetune, words):
    with pytest.raises(GeoladderError) as problem:
        nodes_of(**finetune)
    for word in words:
        assert word in str(problem.value)


def test_more_devices_than_samples_are_refused():
    raw = copy.deepcopy(RAW) | {"compute": {"devices": 8}}
    raw["finetune"] |= {"batch": 4}
    with pytest.raises(
        GeoladderError, match=r"finetune\.batch is 4, fewer samples than the 8 of compute\.devices"
    ):
        parse_study(raw)


def test_models_are_kept_of_an_n_that_there_is():
    with pytest.raises(
        GeoladderError, match=r"`keep` names n that are not fine-tuned at: \[64\]; n is \[4, 16\]"
    ):
        nodes_of(n=[4, 16], keep=[16, 64])
