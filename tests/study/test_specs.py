"""What reruns what, at the level of specs: the graph's tests repeat the essential cases on the real DAG."""

import copy
from itertools import product

import pytest
from test_config import RAW

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
    assert len(files - pretrain) == 3 * 3 * 3 + 3 * 6  # curves, and linear heads of the six cells


def test_every_subset_has_baselines_beside_it():
    nodes = Nodes(parse_study(TWO))
    judged = {tuple(file.split("/")[2:]) for file in nodes.trivial}
    assert {tuple(file.split("/")[4:]) for file in nodes.finetune} <= judged
    subsets = product(*nodes.study.linear_subsets())
    assert {(task, f"seed{draw}", f"n{n}.json") for task, draw, n in subsets} <= judged


def test_a_new_n_adds_and_changes_nothing_old():
    files = changed(lambda raw: raw["finetune"].update(n=[4, 16, 64, 128]))
    assert files
    assert all(file.endswith("/n128.json") for file in files)


def test_a_new_seed_adds_and_changes_nothing_old():
    def edit(raw):
        raw["pretrain"]["grid"][0]["seeds"].append(3)
        raw["finetune"]["seeds"] = [0, 1, 2, 3]

    files = changed(edit)
    assert files
    assert all("/seed3/" in file for file in files)


@pytest.mark.parametrize(
    ("path", "value"),
    [("figures", {"font_pt": 9}), ("compute", {"threads": 2}), ("fit", {"bootstrap": 10}), ("name", "other")],
)
def test_looks_names_and_threads_change_no_result(path, value):
    assert changed(lambda raw: raw.update({path: value})) == set()


def test_another_earth_changes_everything():
    assert changed(lambda raw: raw.update(earth={"seed": 1})) == set(Nodes(parse_study(TWO)).ledger())


def test_the_ledger_is_rewritten_only_when_it_says_something_new(tmp_path):
    nodes = Nodes(parse_study(TWO))
    path = tmp_path / "ledger.json"
    nodes.write_ledger(path, nodes.ledger())
    before = path.stat().st_mtime_ns
    nodes.write_ledger(path, nodes.ledger())
    assert path.stat().st_mtime_ns == before


def test_the_frozen_study_is_the_study(tmp_path):
    study = parse_study(TWO)
    frozen = Nodes(study).freeze(tmp_path)
    assert parse_study(__import__("json").loads(frozen.read_text())) == study
