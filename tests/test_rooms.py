"""The rooms of the package: imports go one way, and what must start fast imports little."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/geoladder"
TOP = {"cli", "commands", "options", "__main__", "__init__"}
ORDER = (
    *(
        "errors",
        "suggest",
        "scans",
        "text",
        "bounds",
        "published",
        "registry",
        "runs",
        "study",
        "data.labels",
        "data.archives",
        "data.index",
    ),
    *("data.batches", "data.bench", "data.fetch", "models", "counting", "training", "cost", "report"),
)
"""Rooms from the bottom; each may import those before it."""


def module_of(file):
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in SOURCE.rglob("*.py")}


def room_of(module):
    """The room of a module; verbs are of no room, since only the command line imports them."""
    if module in TOP or module.split(".")[-1] in {"verb", "verbs"}:
        return "top"
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "data" and len(parts) > 2 else parts[0]


def imports_of(module):
    """Modules of the package that a module imports anywhere, but for the sake of types."""
    tree = ast.parse(MODULES[module].read_text())
    typing = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.removeprefix("geoladder.") for name in names} & (set(MODULES) - {module})


IMPORTS = {module: imports_of(module) for module in MODULES}


def assert_no_circle(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" imports ".join(reversed(circle.args[1])))


def test_no_module_imports_itself_through_others():
    assert_no_circle(IMPORTS)


def test_no_room_imports_itself_through_others():
    rooms = {}
    for module, others in IMPORTS.items():
        rooms.setdefault(room_of(module), set()).update(map(room_of, others))
    assert_no_circle({room: others - {room} for room, others in rooms.items()})


@pytest.mark.parametrize("room", [*ORDER, "scaling", "synth"])
def test_a_room_imports_only_rooms_below_it(room):
    below = set(ORDER[: ORDER.index(room)]) if room in ORDER else {"errors", "suggest", "text", "runs"}
    if room == "report":
        below.add("scaling")
    if room == "synth":
        below = set(ORDER) - {"training", "cost", "report"}
    # geoladder/__init__ holds the version; data/__init__ and other packages' heads hold words alone.
    allowed = below | {room, "", "data", "__init__"}
    wrong = {
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if room_of(module) == room and room_of(other) not in allowed
    }
    assert not wrong


def test_reading_a_study_imports_no_torch():
    code = (
        "import sys; from pathlib import Path; from geoladder.study.load import load_study;"
        "from geoladder.study.nodes import Nodes; Nodes(load_study(Path(sys.argv[1])));"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "studies/ci.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
