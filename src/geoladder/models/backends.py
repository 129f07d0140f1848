"""Fused CUDA kernels of optional packages: they run an operation on a GPU where they are installed."""

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any, NamedTuple

from torch import Tensor

from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)


class Backend(NamedTuple):
    """What runs an operation, and the reason in words."""

    name: str
    reason: str

    def __str__(self) -> str:
        """Both, for logs and provenance."""
        return f"{self.name} ({self.reason})"


@dataclass(frozen=True)
class FusedKernel:
    """One kernel of a package."""

    operation: str
    """What it computes, in two words: `selective scan`."""
    package: str
    """As pip names it; its module, which is the backend's name, has underscores for hyphens."""
    function: str
    """`module:function`."""

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Run the kernel.

        Raises:
            GeoladderError: the package cannot be imported.
        """
        kernel, problem = self._import()
        if problem:
            raise GeoladderError(
                f"{self.operation.split()[1]} backend {self.package.replace('-', '_')} cannot be imported "
                f"({problem}); install {self.package}, or use torch"
            )
        return kernel(*inputs)

    def choose(self, device_type: str, otherwise: str) -> Backend:
        """This backend on a GPU where it imports, else `otherwise`; logs the reason."""
        module = self.package.replace("-", "_")
        chosen = Backend(otherwise, f"tensors are on {device_type}")
        if device_type == "cuda" and find_spec(module) is None:
            chosen = Backend(otherwise, f"a GPU, and {self.package} is not installed")
        elif device_type == "cuda":
            _, problem = self._import()
            chosen = Backend(module, f"a GPU, and {self.package} is installed")
            if problem:
                chosen = Backend(otherwise, f"a GPU, but {self.package} does not import: {problem}")
        log.info("%s by %s", self.operation, chosen)
        return chosen

    def _import(self) -> tuple[Any, str]:
        """The function, or why there is none: packages built for another torch or driver fail in many ways."""
        try:
            return resolve_name(self.function), ""
        except Exception as problem:  # noqa: BLE001 - whatever a broken build raises
            return None, f"{type(problem).__name__}: {problem}"


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
