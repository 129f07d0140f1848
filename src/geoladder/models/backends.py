"""Fused CUDA kernels of optional packages: they run an operation on a GPU where they are installed."""

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from pkgutil import resolve_name

from torch import Tensor

from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)


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
        try:
            kernel = resolve_name(self.function)
        except (ImportError, AttributeError) as problem:
            raise GeoladderError(
                f"{self.operation.split()[1]} backend {self.package.replace('-', '_')} cannot be imported "
                f"({problem}); install {self.package}, or use torch"
            ) from None
        return kernel(*inputs)

    def choose(self, device_type: str, otherwise: str) -> str:
        """This backend on a GPU where it imports, else `otherwise`; logs the reason."""
        module = self.package.replace("-", "_")
        name, reason = otherwise, f"tensors are on {device_type}"
        if device_type == "cuda" and find_spec(module) is None:
            reason += f", and {self.package} is not installed"
        elif device_type == "cuda":
            try:
                resolve_name(self.function)
                name, reason = module, f"a GPU, and {self.package} is installed"
            except (ImportError, AttributeError) as problem:
                reason = f"a GPU, but {self.package} does not import ({problem})"
        log.info("%s by %s: %s", self.operation, name, reason)
        return name


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
