"""Fingerprint of the code a stage depends on.

Comments, docstrings and formatting do not count: the syntax tree is what is hashed, together with that of every
module of this package it imports. So a stage's fingerprint moves when its behaviour may have moved.

The classes of an architecture count for that architecture alone. Entries do not count, unless they hold the class:
what they say of sizes and rates stands in the specs, and the rest changes no number.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

from geoladder.registry import ARCHITECTURES, TASKS

ROOT = Path(__file__).parents[1]

STAGE_FILES = {"pretrain": "training/pretrain.py", "finetune": "training/finetune.py"}


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
    """File of a module of this package; None for names that are no module of it."""
    package, *parts = module.split(".")
    stem = ROOT.joinpath(*parts)
    files = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((file for file in files if package == "geoladder" and file.is_file()), None)


def _reach(start: set[Path]) -> dict[str, str]:
    """Normalised source by relative path: the start files and the package modules they import.

    The study is not followed: of it a stage sees its spec.
    """
    waiting = list(start)
    sources: dict[str, str] = {}
    while waiting:
        file = waiting.pop()
        key = file.relative_to(ROOT).as_posix()
        if key in sources or key.startswith("study/"):
            continue
        source = file.read_text()
        sources[key] = _without_docstrings(source)
        waiting += [path for path in map(_file_of, _imported_modules(source)) if path is not None]
    return sources


@cache
def code_fingerprint(stage: str, architecture: str, task: str | None = None) -> str:
    """Twelve hexadecimal digits for the code of one stage with one architecture.

    Args:
        stage: `pretrain` or `finetune`.
        architecture: its classes count.
        task: of fine-tuning; its entry counts, and no other.
    """
    modules = {path.partition(":")[0] for path in ARCHITECTURES[architecture].classes.values()}
    modules |= {TASKS.module_of(task)} if task else set()
    sources = _reach({ROOT / STAGE_FILES[stage], *filter(None, map(_file_of, modules))})
    text = "\0".join(f"{name}\0{sources[name]}" for name in sorted(sources))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
