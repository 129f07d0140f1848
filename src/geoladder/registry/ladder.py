"""The ladder: from (architecture, size) to a rung and its learning rate.

Importing it costs no torch, since the workflow reads it whenever it draws its graph. Rungs stand in the entries
(`geoladder.models.architectures`). Those of the paper's sizes (arXiv 2506.14765) are faithful to 0.1 % of the
parameters counted on the authors' classes (`geoladder.cost.published`).
"""

from typing import NamedTuple

from geoladder.errors import GeoladderError
from geoladder.registry import ARCHITECTURES
from geoladder.registry.architecture import Kwargs


class Rung(NamedTuple):
    """One size of one architecture: its dial `width`, and all constructor arguments (JSON-able) in `kwargs`."""

    architecture: str
    size: str
    width: int
    kwargs: Kwargs


def rung(architecture: str, size: str) -> Rung:
    """A row of the ladder; raises GeoladderError for an unknown architecture or size."""
    entry = ARCHITECTURES[architecture]
    kwargs = entry.kwargs(size)
    if kwargs is None:
        names = ", ".join(entry.rungs) or "names of letters, digits and _, and . or - between them"
        raise GeoladderError(f"{architecture} has no size {size!r}; the ladder has {names}")
    return Rung(architecture, size, int(str(kwargs["width"])), dict(kwargs))


def named(name: str) -> tuple[str, str]:
    """Architecture and size of a rung: `vit_upernet-P16-100M` is (`vit_upernet`, `P16-100M`); raises as `rung`."""
    architecture, _, size = name.partition("-")
    rung(architecture, size)
    return architecture, size


def scaled_lr(base_lr: float, chosen: Rung) -> float:
    """Peak learning rate of a rung: `base_lr`, given at the architecture's base width, times base width / width.

    Adam's updates have a size of their own, so the change they make to a layer's output grows with its fan-in; the
    inverse width keeps it (Yang et al., Tensor Programs V, arXiv 2203.03466, table 8, hidden layers).
    """
    return base_lr * ARCHITECTURES[chosen.architecture].base_width / chosen.width
