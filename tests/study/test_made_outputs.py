"""Which study of a folder made which files, and what is refused to the others."""

import json
from pathlib import Path

import pytest

from geoladder.errors import GeoladderError
from geoladder.study.isolation import claim_outputs, study_name

CELL = "results/pretrain/a/metrics.json"


@pytest.fixture
def record(tmp_path, monkeypatch):
    """The record of a folder in which `one.yaml` made a cell and has another to make; `two.yaml` is beside it."""
    monkeypatch.chdir(tmp_path)
    Path(CELL).parent.mkdir(parents=True)
    for file in ("one.yaml", "two.yaml", CELL):
        Path(file).touch()
    record = tmp_path / "made.json"
    claim_outputs(record, "one.yaml", [CELL, "results/unmade.json"])
    return record


def test_what_another_study_made_is_refused_and_nothing_is_written(record):
    before = record.read_text()
    with pytest.raises(GeoladderError, match=rf"two.yaml would overwrite {CELL}, made by the study one.yaml"):
        claim_outputs(record, "two.yaml", [CELL, "results/unmade.json", "results/new.json"])
    assert record.read_text() == before


def test_a_study_makes_its_own_files_again_edited_or_not(record):
    claim_outputs(record, "one.yaml", [CELL])
    assert json.loads(record.read_text()) == {"one.yaml": [CELL, "results/unmade.json"]}


def test_what_is_not_there_is_anybodys(record):
    claim_outputs(record, "two.yaml", ["results/unmade.json"])
    assert json.loads(record.read_text()) == {"one.yaml": [CELL], "two.yaml": ["results/unmade.json"]}


def test_what_a_study_made_that_was_renamed_is_the_new_ones(record):
    Path("one.yaml").rename("three.yaml")
    claim_outputs(record, "three.yaml", [CELL])
    assert json.loads(record.read_text())["three.yaml"] == [CELL]


def test_a_moved_folder_is_no_other_project(record, tmp_path, monkeypatch):
    (tmp_path / "moved").mkdir()
    for name in ("results", "made.json", "one.yaml"):
        Path(name).rename(tmp_path / "moved" / name)
    monkeypatch.chdir(tmp_path / "moved")
    claim_outputs(Path("made.json"), study_name(Path("one.yaml").absolute()), [CELL])


@pytest.mark.parametrize("text", ["", "garbage", "[]", "{}", '{"one.yaml": 1}', "\0"])
def test_garbage_refuses_nobody(record, text):
    record.write_text(text)
    claim_outputs(record, "two.yaml", [CELL])
    assert json.loads(record.read_text()) == {"two.yaml": [CELL]}


def test_a_study_has_one_name_whatever_links_lead_to_it(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    (tmp_path / "project/a.yaml").touch()
    (tmp_path / "link").symlink_to(tmp_path / "project")
    (tmp_path / "project/now.yaml").symlink_to("a.yaml")
    for folder in ("project", "link"):
        monkeypatch.chdir(tmp_path / folder)
        for file in ("a.yaml", "now.yaml", tmp_path / "project/a.yaml", tmp_path / "link/a.yaml"):
            assert study_name(Path(file).absolute()) == "a.yaml"
