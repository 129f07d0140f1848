"""What reruns what, at the level of specs: the graph's tests repeat the essential cases on the real DAG."""

import copy
from itertools import product

import pytest
from test_config import RAW

from geoladder.errors import GeoladderError
from geoladder.study.isolation import as_ledger, check_collected, thaw, write_once
from geoladder.study.load import parse_study
from geoladder.study.nodes import Nodes

TWO = copy.deepcopy(RAW)
TWO["pretrain"]["grid"][0]["architectures"] = ["unet", "vit_upernet"]


def changed(edit) -> set[str]:
    raw = copy.deepcopy(TWO)
    edit(raw)
    before, after = Nodes(parse_study(TWO)).ledger(), Nodes(parse_study(raw)).ledger()
    return {file for file, fingerprint in after.items() if before.get(file) != fingerprint}


def test_order_of_keys_and_spelling_of_numbers_change_nothing():
    def edit(raw):
        raw["pretrain"] = dict(reversed(raw["pretrain"].items())) | {"lr": {"unet": 8e-3}, "samples": 8192}

    assert changed(edit) == set()


def test_one_rungs_learning_rate_reaches_its_cells_and_their_curves_only():
    files = changed(lambda raw: raw["pretrain"].update(rungs={"unet-xs": {"lr": 0.5}}))
    assert files
    assert all("/unet-xs/" in file and "scratch" not in file for file in files)
    pretrain = {file for file in files if file.startswith("results/pretrain/")}
    assert len(pretrain) == 6
    linear = {file for file in files if file.startswith("results/linear/")}
    assert len(linear) == 6 * 3
    assert len(files - pretrain - linear) == 3 * 3 * 3


def test_every_subset_has_baselines_beside_it():
    nodes = Nodes(parse_study(TWO))
    judged = {
        (run.task, run.seed, run.n, run.subset) for spec in nodes.trivial.values() for run in spec.subsets
    }
    assert {(run.task, run.seed, run.n, run.subset) for run in nodes.finetune.values()} <= judged
    assert set(product(*nodes.study.linear_subsets())) <= {run[:3] for run in judged}


def test_a_new_n_adds_and_changes_nothing_old():
    files = changed(lambda raw: raw["finetune"].update(n=[4, 16, 64, 128]))
    # Baselines have one job for every n.
    tuned = {file for file in files if not file.startswith("results/trivial/")}
    assert tuned and all(file.endswith("/n128.json") for file in tuned)


def test_a_new_seed_adds_and_changes_nothing_old():
    def edit(raw):
        raw["pretrain"]["grid"][0]["seeds"].append(3)
        raw["finetune"]["seeds"] = [0, 1, 2, 3]

    files = changed(edit)
    assert files
    assert all("/seed3/" in file or file.endswith("/seed3.json") for file in files)


def test_linear_heads_judge_every_cell_and_a_random_encoder_of_its_kind():
    study = parse_study(TWO)
    nodes = Nodes(study)
    cells = study.cells()
    random = {cell._replace(corpus="random") for cell in cells}
    assert set(study.linear_cells()) == set(cells) | random
    assert len(nodes.linear) == 3 * len(study.linear_cells())
    assert all(spec.n == [1, 4, 32] and len(spec.subsets) == 10 for spec in nodes.linear.values())
    kept = {file for file, spec in nodes.linear.items() if spec.keep}
    assert kept == {file for file in nodes.linear if "/seed0/" in file}
    for file, spec in nodes.linear.items():
        assert (spec.pretrained is None) == file.startswith("results/linear/random/")


def test_linear_heads_share_the_subsets_of_fine_tuning():
    nodes = Nodes(parse_study(TWO))
    tuned = nodes.finetune["results/finetune/scratch/unet-xs/roads/seed1/n4.json"]
    heads = nodes.linear["results/linear/random/unet-xs/seed0/roads.json"]
    assert heads.subsets[1][heads.n.index(4)] == tuned.subset


def test_linear_heads_can_be_left_out_or_changed_alone():
    without = Nodes(parse_study(TWO | {"linear": None}))
    assert not without.linear
    assert without.finetune == Nodes(parse_study(TWO)).finetune
    files = changed(lambda raw: raw.update(linear={"draws": 12}))
    assert files
    assert all(file.startswith(("results/linear/", "results/trivial/")) for file in files)


@pytest.mark.parametrize("name", ["random", "scratch"])
def test_no_corpus_has_the_name_of_an_arm(name):
    corpora = TWO["corpora"] | {name: {}}
    with pytest.raises(GeoladderError, match=f"no corpus can be called '{name}'"):
        parse_study(TWO | {"corpora": corpora})


@pytest.mark.parametrize(
    ("path", "value"),
    [("figures", {"font_pt": 9}), ("compute", {"threads": 2}), ("fit", {"bootstrap": 10}), ("name", "other")],
)
def test_looks_names_and_threads_change_no_result(path, value):
    assert changed(lambda raw: raw.update({path: value})) == set()


def test_another_earth_changes_everything():
    assert changed(lambda raw: raw.update(earth={"seed": 1})) == set(Nodes(parse_study(TWO)).ledger())


def test_a_table_collected_by_another_ledger_is_found_out(tmp_path):
    """By the ledger that lies beside it; results that carry other fingerprints are named."""
    (tmp_path / ".snakemake").mkdir()
    result, table = tmp_path / "results/n1.json", tmp_path / "results/results.csv"
    ledger = {str(result): "new"}
    check_collected(table, ledger)
    table.parent.mkdir()
    result.write_text('{"fingerprint": "old"}')
    table.touch()
    for collected in ('{"a": "b"}', "garbage"):
        (table.parent / "ledger.json").write_text(collected)
        with pytest.raises(GeoladderError, match=r"another configuration.*--forcerun \S+n1.json"):
            check_collected(table, ledger)
    (table.parent / "ledger.json").write_text(as_ledger(ledger))
    check_collected(table, ledger)


@pytest.mark.parametrize("text", ["", "{", '{"name": "ci"}', "[]"])
def test_no_frozen_study_is_named(tmp_path, text):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(GeoladderError, match=r"study.json"):
        thaw(tmp_path / "study.json")


def test_the_frozen_study_is_the_study(tmp_path):
    study = parse_study(TWO)
    write_once(tmp_path / "study.json", study.model_dump_json())
    assert thaw(tmp_path / "study.json") == study


ORACLE = {"architectures": ["unet"], "sizes": ["xs"], "seeds": [0, 1, 2]}


def test_an_oracle_adds_itself_and_its_heads_and_changes_nothing_old():
    files = changed(lambda raw: raw.update(oracle=ORACLE))
    assert {file.partition("/unet-xs/")[0] for file in files} == {"results/oracle", "results/linear/oracle"}
    assert len([file for file in files if file.startswith("results/oracle/")]) == 3


def with_oracle(**changes):
    raw = copy.deepcopy(TWO) | {"oracle": ORACLE | changes}
    raw["finetune"]["grid"][0]["corpora"].append("oracle")
    return Nodes(parse_study(raw))


def test_oracle_arms_start_from_the_oracle_of_their_seed():
    nodes = with_oracle()
    file = "results/finetune/oracle/unet-xs/roads/seed2/n4.json"
    assert nodes.cell_behind[file] == "results/oracle/unet-xs/seed2"
    oracle = nodes.oracle["results/oracle/unet-xs/seed2/metrics.json"]
    assert nodes.finetune[file].pretrained == oracle.fingerprint
    assert oracle.objective.tasks == ["buildings", "landcover", "roads"]
    assert (oracle.corpus, oracle.fraction, oracle.objective.mask_ratio) == ("majortom", 1, 0)
    cell = nodes.pretrain["results/pretrain/majortom/unet-xs/seed2/metrics.json"]
    same = {"chips", "stats", "batch", "lr", "weight_decay", "warmup_share", "samples", "validation_chips"}
    assert oracle.model_dump(include=same) == cell.model_dump(include=same)


def test_more_samples_of_the_oracle_reach_it_and_its_arms_only():
    before, after = with_oracle().ledger(), with_oracle(samples=32768).ledger()
    files = {file for file, fingerprint in after.items() if before[file] != fingerprint}
    assert files
    assert all("/oracle/" in file for file in files)
    assert len([file for file in files if file.startswith("results/finetune/")]) == 3 * 3 * 3
