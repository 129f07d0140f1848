"""An architecture is one file: entries check themselves, and a new one goes all the way to the figure."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from geoladder.errors import GeoladderError
from geoladder.models.build import build_backbone
from geoladder.registry import ARCHITECTURES
from geoladder.registry.architecture import Architecture
from geoladder.registry.discover import Registry

ROOT = Path(__file__).parents[2]
ENTRY = {
    "name": "'toy'",
    "title": "'Toy'",
    "colour": "'#aa3377'",
    "classes": "{'': 'geoladder.models.unet:UNet'}",
    "rungs": "{'xs': {'width': 4}}",
    "base_width": "4",
    "pretrain_lr": "0.01",
    "finetune_lr": "0.01",
    "sides_px": "multiples(4)",
}
DOCS = ROOT / "docs/ladder.md"
TOY = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]
"""The documented example, so that it stays true."""
FILE = "models/architectures/toy.py"


def entry(**changes) -> str:
    """Source of a file that holds an entry; None leaves an argument out."""
    arguments = {key: value for key, value in (ENTRY | changes).items() if value is not None}
    text = ", ".join(f"{key}={value}" for key, value in arguments.items())
    head = "from geoladder.registry.architecture import Architecture, multiples\n"
    return f"{head}ARCHITECTURE = Architecture({text})\n"


@pytest.fixture
def registry_of(tmp_path, monkeypatch):
    """Makes a registry over a package of files with these sources."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(**sources):
        package = tmp_path / "entries"
        package.mkdir()
        (package / "__init__.py").touch()
        for name, source in sources.items():
            (package / f"{name}.py").write_text(source)
        return Registry("entries", Architecture)

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] == "entries"]:
        del sys.modules[name]


def test_a_file_is_an_architecture(registry_of):
    registry = registry_of(one=entry(), other=entry(name="'other'", pretrain_lr="None"))
    assert list(registry) == ["toy", "other"]
    assert not registry["toy"].baseline and registry["other"].baseline


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"finetune_lr": None}, ["finetune_lr", "required"]),
        ({"pretrain_lr": None}, ["pretrain_lr", "required"]),
        ({"colour": None}, ["colour", "required"]),
        ({"base_width": None}, ["base_width", "required"]),
        ({"pretrain_lr": "0.0"}, ["pretrain_lr", "greater than 0"]),
        ({"finetune_lr": "float('inf')"}, ["finetune_lr", "finite"]),
        ({"base_width": "-1"}, ["base_width", "greater than or equal to 1"]),
        ({"colour": "'blue'"}, ["colour", "pattern"]),
        ({"name": "'Toy-net'"}, ["name", "pattern"]),
        ({"rungs": "{}"}, ["`rungs`", "at least 1"]),
        ({"rungs": "{'xs': {'depth': 4}}"}, ["rung 'xs'", "width"]),
        ({"rungs": "{'xs': {'width': 4, 'layout': 'new'}}"}, ["rung 'xs'", "layout 'new'"]),
        ({"classes": "{'': 'geoladder.models.unett:UNet'}"}, ["geoladder.models.unett:UNet", "no module"]),
        ({"classes": "{'': 'geoladder.models.unet:Unet'}"}, ["unet.py has no class 'Unet'", "'UNet'"]),
        ({"classes": "{'': 'no class at all'}"}, ["'no class at all'", "package.module:Class"]),
        ({"learning_rate": "1"}, ["learning_rate", "nexpected"]),
        ({"title": "1 / 0"}, ["ZeroDivisionError"]),
        ({"title": "("}, ["SyntaxError"]),
    ],
)
def test_an_unusable_entry_is_named_with_its_file_on_one_line(registry_of, changes, words):
    with pytest.raises(GeoladderError) as problem:
        registry_of(broken=entry(**changes))["toy"]
    text = str(problem.value)
    assert "entries/broken.py" in text and "\n" not in text
    for word in words:
        assert word in text


def test_a_file_without_an_entry_and_two_of_one_name_are_refused(registry_of, tmp_path):
    with pytest.raises(GeoladderError, match=r"none\.py defines no architecture: it needs `ARCHITECTURE ="):
        list(registry_of(none="x = 1\n"))
    (tmp_path / "entries/none.py").write_text(entry())
    (tmp_path / "entries/twice.py").write_text(entry())
    del sys.modules["entries.none"]
    with pytest.raises(GeoladderError, match=r"twice\.py and .*none\.py both define the architecture 'toy'"):
        list(Registry("entries", Architecture))


@pytest.mark.parametrize(
    ("architecture", "size"), [(name, size) for name, made in ARCHITECTURES.items() for size in made.rungs]
)
def test_sides_are_those_the_model_takes(architecture, size):
    sides = ARCHITECTURES[architecture].sides(size)
    with torch.device("meta"):
        model = build_backbone(architecture, size)
        assert model(torch.zeros(1, 10, sides.start, sides.start)).dense.shape[2:] == (sides.start,) * 2
        for wrong in {sides.start + 1, sides.start + sides.step // 2} - set(sides):
            with pytest.raises(GeoladderError):
                model(torch.zeros(1, 10, wrong, wrong))


@pytest.mark.parametrize(
    ("source", "architecture", "words"),
    [
        (TOY.replace("    finetune_lr=0.02,\n", ""), "toy", ["architectures/toy.py", "finetune_lr"]),
        (TOY.replace(".toy:Toy", ".toy:Tay"), "toy", ["architectures/toy.py", "has no class 'Tay'", "'Toy'"]),
        (TOY, "tay", ["unknown architecture 'tay'", "did you mean 'toy'"]),
    ],
)
def test_cells_names_what_is_wrong_without_a_traceback(package, source, architecture, words):
    package.add(FILE, source)
    package.study(architecture)
    done = package.cells()
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.slow
def test_one_file_goes_from_the_cells_to_the_scaling_figure(package):
    package.add(FILE, TOY)
    package.study("toy")
    done = package.cells()
    assert done.returncode == 0, done.stderr
    assert "toy" in done.stdout
    done = package.make("results/figures/scaling.pdf")
    assert done.returncode == 0, done.stdout + done.stderr
    results = pd.read_csv(package.folder / "results/results.csv")
    assert set(results[results.architecture == "toy"].stage) == {"pretrain", "linear", "finetune"}
    figure = pd.read_csv(package.folder / "results/figures/scaling.csv")
    assert "toy" in set(figure.architecture)
