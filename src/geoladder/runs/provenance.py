"""Where a result came from: its birth certificate, and the fingerprint of the code that its stage depends on.

Comments, docstrings and formatting do not count: the syntax tree is what is hashed, together with that of every
module of this package it imports. So a stage's fingerprint moves when its behaviour may have moved.

The classes of an architecture count for that architecture alone. Entries do not count, unless they hold the class:
what they say of sizes and rates stands in the specs, and the rest changes no number.
"""

import ast
import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from geoladder import __version__
from geoladder.registry import ARCHITECTURES, TASKS

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "lightning", "numpy", "scikit-learn", "pyarrow", "rasterio")


def _without_docstrings(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


@cache
def _read(source: str) -> tuple[str, frozenset[str]]:
    """A module's source without docstrings and comments; all names it imports, of modules or of what they hold."""
    tree = ast.parse(source)
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return _without_docstrings(tree), frozenset(names)


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
        if key not in sources and not key.startswith("study/"):
            sources[key], names = _read(file.read_text("utf-8"))
            waiting += filter(None, map(_file_of, names))
    return sources


@cache
def code_fingerprint(stage: str, architecture: str, *tasks: str) -> str:
    """Twelve hexadecimal digits for the code of one stage, a file of `training`, with one architecture.

    The classes of the architecture count and, of runs that learn labels, the entries of their tasks, and no others.
    """
    modules = {path.partition(":")[0] for path in ARCHITECTURES[architecture].classes.values()}
    modules |= {TASKS.module_of(task) for task in tasks}
    sources = _reach({ROOT / f"training/{stage}.py", *filter(None, map(_file_of, modules))})
    text = "\0".join(f"{name}\0{sources[name]}" for name in sorted(sources))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _git(*arguments: str) -> str | None:
    """Output of a git command in the source tree; None where the package is not run from a checkout."""
    try:
        return subprocess.check_output(
            ["git", "-C", str(ROOT), *arguments], text=True, stderr=subprocess.DEVNULL
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@cache
def _software() -> dict[str, Any]:
    commit = _git("rev-parse", "HEAD")
    return {
        "geoladder": __version__,
        "commit": commit,
        "dirty": bool(_git("status", "--porcelain", "--", ":/src")) if commit else None,
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
    }


def _version(package: str) -> str | None:
    """None where it is not installed: training from arrays needs neither pyarrow nor rasterio."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def warm_up() -> None:
    """Find out now what every certificate of this process and its forks will say."""
    _software()
    for architecture in ARCHITECTURES:
        code_fingerprint("pretrain", architecture)
        for task in TASKS:
            for stage in ("finetune", "choose_rate", "linear"):
                code_fingerprint(stage, architecture, task)


def birth_certificate(fingerprint: str, code: str | None = None) -> dict[str, Any]:
    """Provenance written into every result, of the spec's `fingerprint` and, for training runs, its stage's `code`.

    Besides: `geoladder`, `commit` and `dirty` (None outside a checkout), `versions` by package, `python`, `device`.
    """
    import torch

    cpu = platform.processor() or platform.machine()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu
    certificate = _software() | {"fingerprint": fingerprint, "device": device}
    return certificate | ({"code": code} if code else {})
