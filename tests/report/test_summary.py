"""The last lines of a study say what its tables say."""

import os
import shutil

import pandas as pd
import pytest

from geoladder.commands import run
from geoladder.report.summary import summary
from geoladder.report.tables import write_tables


@pytest.fixture
def folder(table, laws, tmp_path):
    folder = tmp_path / "finished"
    (folder / "fits").mkdir(parents=True)
    shutil.copy(laws, folder / "fits/laws.json")
    shutil.copy(table, folder / "results.csv")
    write_tables(table, laws, folder / "tables")
    gates = pd.DataFrame({"gate": ["a", "b"], "subject": ["x", "y"], "passed": [True, False]})
    gates.to_csv(folder / "tables/synthetic_gates.csv", index=False)
    return folder


def test_a_finished_study_is_told_in_a_few_lines(folder):
    text = summary(folder)
    assert "U-Net: pretraining loss falls with parameters (slope -" in text
    effect = pd.read_csv(folder / "tables/pretraining_effect.csv").query("task == 'roads'")
    helped = (effect.high < 0).sum()
    assert f"Fine-tuning, roads: by 95 % intervals pretraining helped in {helped} and hurt in 0 of 3" in text
    assert "1 of 2 passed; failed: b (y)" in text
    assert f"every number: {folder / 'results.csv'}" in text
    assert len(text.splitlines()) == 5


def test_without_some_tables_it_says_what_there_is(folder):
    shutil.rmtree(folder / "tables")
    laws, places = summary(folder).splitlines()
    assert laws.startswith("U-Net") and places == f"every number: {folder / 'results.csv'}"


def test_a_study_that_is_not_finished_is_named(tmp_path, capsys):
    assert run(["summary", str(tmp_path)]) == 1
    assert "has not been run to its fits" in capsys.readouterr().err


def test_tables_of_an_earlier_state_are_said_to_be(folder):
    assert "older than" not in summary(folder)
    os.utime(folder / "tables/cells.csv", (0, 0))
    assert f"{folder / 'tables'} is older than {folder / 'results.csv'}" in summary(folder)
