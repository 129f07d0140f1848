"""Fingerprint of the code a stage depends on.

Comments, docstrings and formatting do not count: the syntax tree is what is hashed, together with that of every
module of this package it imports. So a stage's fingerprint moves when its behaviour may have moved.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

from geoladder.models.ladder import FAMILIES
from geoladder.registry import TASKS

ROOT = Path(__file__).parents[1]

ARCHITECTURE_FILES = {
    name: [f"models/{file}.py" for file, _ in layouts.values()] for name, layouts in FAMILIES.items()
}
STAGE_FILES = {"pretrain": ["training/pretrain.py"], "finetune": ["training/finetune.py"]}
# Only followed from the architecture that uses them: ladder.py names all families.
NOT_FOLLOWED = {file for files in ARCHITECTURE_FILES.values() for file in files}


def _without_docstrings(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _imported_modules(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("geoladder"):
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names if alias.name.startswith("geoladder"))
    return names


def _file_of(module: str) -> Path | None:
    stem = ROOT.joinpath(*module.split(".")[1:])
    return next((f for f in (stem.with_suffix(".py"), stem / "__init__.py") if f.is_file()), None)


def _reach(start: list[str]) -> dict[str, str]:
    """Normalised source by relative path: the start files and the package modules they import."""
    waiting = [ROOT / file for file in start]
    found: dict[str, str] = {}
    while waiting:
        file = waiting.pop()
        key = file.relative_to(ROOT).as_posix()
        if key in found or (key not in start and (key in NOT_FOLLOWED or key.startswith("study/"))):
            continue
        source = file.read_text()
        found[key] = _without_docstrings(source)
        waiting += [f for f in map(_file_of, _imported_modules(source)) if f is not None]
    return found


@cache
def code_fingerprint(stage: str, architecture: str, task: str | None = None) -> str:
    """Twelve hexadecimal digits for the code of one stage with one architecture.

    Args:
        stage: `pretrain` or `finetune`.
        architecture: its classes count.
        task: of fine-tuning; its entry counts, and no other.
    """
    entry = [f"{TASKS.module_of(task).partition('.')[2].replace('.', '/')}.py"] if task else []
    sources = _reach(STAGE_FILES[stage] + ARCHITECTURE_FILES[architecture] + entry)
    text = "\0".join(f"{name}\0{sources[name]}" for name in sorted(sources))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
