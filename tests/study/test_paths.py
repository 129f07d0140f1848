"""Paths and names in a study."""

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from geoladder.errors import GeoladderError
from geoladder.study.isolation import thaw
from geoladder.study.load import load_study, parse_study
from geoladder.study.paths import expand, written
from geoladder.study.specs import ArchiveSpec

ROOT = Path(__file__).parents[2]


@pytest.fixture
def raw():
    return yaml.safe_load((ROOT / "studies/ci.yaml").read_text())


def with_path(raw, path):
    raw["corpora"]["majortom"] = {"source": "tree", "path": path}
    return parse_study(raw)


def path_of(study):
    return study.corpora["majortom"].path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~/a", "/home/me/a"),
        ("$ARCHIVES/a", "/big $HOME/a"),
        ("${ARCHIVES}s/a", "/big $HOMEs/a"),
        ("a/$ARCHIVES", "a//big $HOME"),
        ("$$ARCHIVES", "$ARCHIVES"),
        ("a~/b", "a~/b"),
        ("$(touch pwned)", "$(touch pwned)"),
        ("it's ü {x}", "it's ü {x}"),
    ],
)
def test_variables_and_home_are_expanded(raw, monkeypatch, text, path):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("ARCHIVES", "/big $HOME")
    assert path_of(with_path(raw, text)) == Path(path)


def test_an_expanded_path_is_not_expanded_again(raw, monkeypatch, tmp_path):
    """Neither in the snapshot that jobs read on another machine, nor in a spec."""
    monkeypatch.setenv("PLACE", "/archives/$PLACE/~")
    study = with_path(raw, "$PLACE")
    (tmp_path / "study.json").write_text(study.model_dump_json())
    monkeypatch.setenv("PLACE", "/elsewhere")
    assert thaw(tmp_path / "study.json") == study
    spec = ArchiveSpec.of(study, "majortom")
    assert ArchiveSpec.from_json(spec.canonical()) == spec
    assert path_of(study) == Path("/archives/$PLACE/~")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_a_written_path_reads_as_itself(text):
    assert Path(expand(written(Path(text)))) == Path(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$NOWHERE/a", "names the variable NOWHERE, which is not set"),
        ("~nobody-of-this-name/a", "nobody here has the home ~nobody-of-this-name"),
        ("a\0b", "null character"),
    ],
)
def test_what_cannot_be_expanded_is_named(raw, text, message):
    with pytest.raises(GeoladderError, match=f"corpora.majortom.path: .*{message}"):
        with_path(raw, text)


def test_every_path_of_a_study_is_expanded(raw, monkeypatch):
    monkeypatch.setenv("D", "/d")
    raw["bench"] = {"source": "phileo", "path": "$D/bench"}
    raw["cleaning"] = {"koppen_raster": "$D/koppen.tif"}
    raw["corpora"]["majortom"] = {
        "source": "majortom",
        "path": "$D/m",
        "derive": "fasttom",
        "water_raster": "$D/water.tif",
        "select": {"cells": "$D/cells.txt"},
    }
    raw["external"] = {"terramind-base": {"weights": "$D/weights.pt"}}
    text = parse_study(raw).model_dump_json()
    assert text.count('"/d/') == 6 and "$D" not in text


@pytest.mark.parametrize(
    "name",
    [
        "../../outside",
        "..",
        ".",
        "",
        "a b",
        "a|b",
        "a/b",
        "-a",
        "A",
        "ä",
        "a\n",
        "1a",
        "a.b",
        "{name}",
        "x" * 65,
        *("bench", "scratch", "random", "oracle", "released"),
    ],
)
def test_a_corpus_is_named_so_that_its_folder_is_its_own(raw, name):
    raw["corpora"][name] = raw["corpora"]["globe"]
    with pytest.raises(GeoladderError, match=r"is no name of a corpus|no corpus can be called"):
        parse_study(raw)


@pytest.mark.parametrize("folder", ["results", "results/lr", "results/a-b_2"])
def test_results_have_a_folder_of_their_own(raw, folder):
    assert parse_study(raw | {"results": folder}).results == folder


@pytest.mark.parametrize(
    "folder",
    [
        "",
        "..",
        "results/..",
        "/tmp/x",
        "results/",
        "results/a/b",
        "results/pretrain",
        "data",
        "results/A",
        "results\n",
    ],
)
def test_results_stay_below_results(raw, folder):
    with pytest.raises(GeoladderError, match=r"(?s)results: .* is no folder of results"):
        parse_study(raw | {"results": folder})


def test_paths_are_expanded_where_the_command_line_reads_a_study(raw, monkeypatch, tmp_path):
    monkeypatch.setenv("D", str(tmp_path))
    raw["corpora"]["majortom"] = {"source": "tree", "path": "$D/x"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw))
    assert path_of(load_study(tmp_path / "study.yaml")) == Path(os.environ["D"], "x")
