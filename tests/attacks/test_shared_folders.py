"""Names and paths of a study that would leave its folders, or run commands."""

from pathlib import Path

import yaml
from attack import Attack, attacked_by

STUDY = yaml.safe_load((Path(__file__).parents[2] / "studies/ci.yaml").read_text())
CELLS = ["cells", "--study", "study.yaml"]


def _study(**changes):
    def write(folder):
        (folder / "study.yaml").write_text(yaml.safe_dump(STUDY | changes, allow_unicode=True))

    return write


def _corpus(name):
    return _study(corpora=STUDY["corpora"] | {name: {"tiles": 8}})


def _path(path):
    return _study(corpora=STUDY["corpora"] | {"globe": {"source": "tree", "path": path}})


def _names_nothing_outside(folder):
    assert {path.name for path in folder.iterdir()} == {"study.yaml"}


NAMES = [
    Attack(f"a corpus called {name!r}", _corpus(name), CELLS, message, check=_names_nothing_outside)
    for name, message in (
        ("../../outside", "is no name of a corpus"),
        ("..", "is no name of a corpus"),
        ("a b", "is no name of a corpus"),
        ("a|b", "is no name of a corpus"),
        ("$(touch executed)", "is no name of a corpus"),
        ("", "is no name of a corpus"),
        ("bench", "whose folder below data is that of PhilEO Bench"),
        ("scratch", "names encoders without one"),
    )
]
RESULTS = [
    Attack(f"results in {folder!r}", _study(results=folder), CELLS, "is no folder of results")
    for folder in ("../results", "/tmp/results", "results/../../x", "results/pretrain", "data")
]
PATHS = [
    Attack(
        "a path that runs a command", _path("/a/$(touch executed)"), CELLS, None, stated="pretraining cells"
    ),
    Attack("a path in back quotes", _path("/a/`touch executed`"), CELLS, None, stated="pretraining cells"),
    Attack("a variable that is not set", _path("$NOT_SET_HERE/a"), CELLS, "NOT_SET_HERE, which is not set"),
    Attack("a home nobody has", _path("~nobody-of-this-name/a"), CELLS, "nobody here has the home"),
    Attack("a null character in a path", _path("a\0b"), CELLS, "null character"),
]
test_names = attacked_by(NAMES + RESULTS)
test_paths = attacked_by(PATHS)
