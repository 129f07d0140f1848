"""An oracle in the real graph: its labels, its cells, and the heads and curves that start from them."""

import csv
import json

import pytest

ORACLE = {"architectures": ["unet"], "sizes": ["xs"]}


@pytest.fixture
def with_oracle(project):
    project.study["oracle"] = ORACLE
    project.study["finetune"]["grid"][0]["corpora"].append("oracle")
    project.write()
    return project


def test_an_oracle_runs_itself_and_what_starts_from_it(with_oracle):
    planned = with_oracle.planned()
    assert planned["make-labels"] == ["logs/labels.log"]
    assert planned["pretrain"] == ["logs/oracle/unet-xs/seed0.log"]
    assert planned["finetune"]
    for verb in ("finetune", "linear"):
        assert all(log.startswith(f"logs/{verb}/oracle/unet-xs/") for log in planned[verb])
    assert not {"make-archive", "make-bench", "index", "chips", "stats"} & set(planned)


@pytest.mark.slow
def test_its_results_are_collected_by_stage(with_oracle):
    done = with_oracle.run()
    assert done.returncode == 0, done.stdout + done.stderr
    with (with_oracle.folder / "results/results.csv").open() as handle:
        rows = [row for row in csv.DictReader(handle) if "oracle" in (row["stage"], row["corpus"])]
    assert {(row["stage"], row["corpus"]) for row in rows} >= {("oracle", "majortom"), ("finetune", "oracle")}
    card = json.loads((with_oracle.folder / "results/oracle/unet-xs/seed0/model.json").read_text())
    assert card["objective"]["tasks"] == ["buildings", "landcover", "roads"]
    assert with_oracle.planned() == {}
