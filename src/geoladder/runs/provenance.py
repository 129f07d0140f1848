"""Birth certificate of a result: from which commit, configuration, code, versions and device it came."""

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from geoladder import __version__
from geoladder.registry import ARCHITECTURES, TASKS
from geoladder.runs.code import code_fingerprint

PACKAGES = ("torch", "lightning", "numpy", "pyarrow", "rasterio")


def _git(*arguments: str) -> str | None:
    """Output of a git command in the source tree; None where the package is not run from a checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@cache
def _source_state() -> dict[str, Any]:
    commit = _git("rev-parse", "HEAD")
    return {
        "geoladder": __version__,
        "commit": commit,
        "dirty": bool(_git("status", "--porcelain", "--", ":/src")) if commit else None,
    }


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def warm_up() -> None:
    """Find out now what every certificate of this process and its forks will say."""
    _source_state()
    _versions()
    for architecture in ARCHITECTURES:
        code_fingerprint("pretrain", architecture)
        for task in TASKS:
            code_fingerprint("finetune", architecture, task)


def _device() -> str:
    import torch

    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or platform.machine()
    )


def birth_certificate(fingerprint: str, code: str | None = None) -> dict[str, Any]:
    """Provenance written into every result.

    Args:
        fingerprint: of the spec the result was made from.
        code: fingerprint of the stage's code, for training runs.

    Returns:
        `geoladder`, `commit` and `dirty` (None outside a checkout), `fingerprint`, `code` where it was given,
        `versions` by package, `python`, `device`.
    """
    certificate = _source_state() | {
        "fingerprint": fingerprint,
        "python": platform.python_version(),
        "versions": _versions(),
        "device": _device(),
    }
    return certificate | ({"code": code} if code else {})
