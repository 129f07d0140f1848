"""Which kernels run an operation, of several that give the same numbers: the first that works where the tensors are.

On a GPU these are, in this order, the fused CUDA kernels of an optional package, our Triton kernels and
plain torch; on a CPU our numba kernels where an operation has some, else plain torch. Whatever is in the
way of the first (a package that is missing, or built for another torch or driver; a Triton that cannot
compile for the card; too little memory) goes into the reason, which is logged once and stands in the
provenance of every run. A study may demand one backend of the scans (`compute.scan`): then that runs, or
nothing.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)

CHUNK = 16
"""Tokens of a sequence, or rows of a grid, between two states that a scan keeps for its backward pass."""


class Backend(NamedTuple):
    """What runs an operation, and the reason in words."""

    name: str
    reason: str

    def __str__(self) -> str:
        """Both, for logs and provenance."""
        return f"{self.name} ({self.reason})"


def choose(
    operation: str, device_type: str, candidates: Mapping[str, Callable[[], object]], demanded: str = "auto"
) -> Backend:
    """First of the candidates that can be tried without an exception, else `torch`; logs why the others were not.

    `demanded` is the only backend that will do; on `meta`, where nothing is computed, it does not count.

    Raises:
        GeoladderError: the demanded backend is none of the candidates, or cannot run.
    """
    if demanded != "auto" and device_type != "meta":
        return _demanded(operation, device_type, candidates, demanded)
    reasons = ["a GPU" if device_type == "cuda" else f"tensors are on {device_type}"]
    for name, attempt in candidates.items():
        try:
            attempt()
        except Exception as problem:  # noqa: BLE001 - whatever a broken build, driver or compiler raises
            reasons.append(f"{name} {_in_the_way(name, problem)}")
        else:
            break
    else:
        name = "torch"
    chosen = Backend(name, "; ".join(reasons))
    log.info("%s by %s", operation, chosen)
    return chosen


def _demanded(
    operation: str, device_type: str, candidates: Mapping[str, Callable[[], object]], name: str
) -> Backend:
    others = [other for other in (*candidates, "torch") if other != name]
    remedy = f"set it to auto, or {' or '.join(others)}" if others else "set it to auto"
    if name not in (*candidates, "torch"):
        raise GeoladderError(
            f"compute.scan is {name}, but the {operation} has no such kernels for {device_type}; {remedy}"
        )
    try:
        candidates.get(name, lambda: None)()
    except Exception as problem:
        raise GeoladderError(
            f"compute.scan is {name}, but for the {operation} it {_in_the_way(name, problem)}; mend it, or {remedy}"
        ) from problem
    chosen = Backend(name, "asked for")
    log.info("%s by %s", operation, chosen)
    return chosen


def _in_the_way(name: str, problem: Exception) -> str:
    if isinstance(problem, ModuleNotFoundError) and problem.name == name:
        return "is not installed"
    return f"does not work: {type(problem).__name__}: {str(problem).strip().splitlines()[0] if str(problem) else ''}"


@dataclass(frozen=True)
class FusedKernel:
    """One kernel of a package."""

    operation: str
    """What it computes, in two words: `selective scan`."""
    package: str
    """As pip names it; its module, which is the backend's name, has underscores for hyphens."""
    function: str
    """`module:function`."""

    def __call__(self, *inputs: Tensor | None, **options: Any) -> Tensor:  # noqa: ANN401 - the kernel's own
        """Run the kernel.

        Raises:
            GeoladderError: the package cannot be imported.
        """
        try:
            kernel = self.find()
        except Exception as problem:
            raise GeoladderError(
                f"{self.operation.split()[1]} backend {self.package.replace('-', '_')} cannot be imported "
                f"({type(problem).__name__}: {problem}); install {self.package}, or use auto or torch"
            ) from problem
        return kernel(*inputs, **options)

    def find(self) -> Callable[..., Any]:
        """Import the function; packages built for another torch or driver fail in many ways."""
        return resolve_name(self.function)


def triton_kernels(load: Callable[[], ModuleType], tensor: Tensor) -> ModuleType:
    """A module of Triton kernels, for tensors on a GPU, or anywhere in Triton's interpreter (TRITON_INTERPRET=1).

    `load` imports it: in words and not by a name, so that its source counts among a model's.

    Raises:
        GeoladderError: the tensor is elsewhere, or Triton cannot be imported.
    """
    if tensor.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise GeoladderError(
            f"backend triton runs on a GPU, but the tensors are on {tensor.device}; use auto or torch, or set "
            "TRITON_INTERPRET=1, which runs the kernels anywhere, slowly"
        )
    try:
        return load()
    except Exception as problem:
        raise GeoladderError(
            f"backend triton cannot be imported ({type(problem).__name__}: {problem}); install the triton that "
            f"torch {torch.__version__} comes with, or use auto or torch"
        ) from problem


def working_dtype(tensor: Tensor) -> torch.dtype:
    """What an operation on such a tensor computes in: float64 stays what it is, all else is float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def check_shapes(needs: str, dims: str, *tensors: Tensor) -> None:
    """Refuse tensors that have not the dimensions `dims`, a letter each ("BDL DN"), of one size for one letter.

    L, H and W must be at least 1.

    Raises:
        GeoladderError: what the operation `needs`, and the shapes it got.
    """
    sizes, named = {"1": 1}, list(zip(dims.split(), tensors, strict=True))
    fits = all(len(letters) == tensor.ndim for letters, tensor in named) and all(
        sizes.setdefault(letter, size) == size
        for letters, tensor in named
        for letter, size in zip(letters, tensor.shape, strict=True)
    )
    if not fits or any(sizes.get(letter) == 0 for letter in "LHW"):
        raise GeoladderError(f"{needs}; got {', '.join(str(tuple(tensor.shape)) for tensor in tensors)}")
