"""The ladder: one table from (architecture, size) to constructor arguments. A new rung is one line of it.

Unusual: importing it costs no torch, since the workflow reads it whenever it draws its graph. Each family has one
dial, its width w; the rest follows by the rule beside the family, unless a rung says otherwise:

- `unet`: w, 2w, 4w channels at 1/2, 1/4, 1/8 resolution; 1, 1, 2 encoder convolutions (most weights where pixels
  are few, so that parameters cost the least time); dense features w/2 (at least 4), summary 4w
- `vit_upernet`: tokens of w channels in 4 blocks, heads of at least 32 channels, patch 4, stem w/2, decoder w/4 (at
  least 4)
- `mamba_upernet`: as the ViT, a mixer (w channels of 8 states) in place of attention
- `pixel`: w units in 2 hidden layers
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from geoladder.errors import GeoladderError

if TYPE_CHECKING:
    from geoladder.models.backbone import Backbone

Kwargs = dict[str, int | float | str | list[int]]


@dataclass(frozen=True)
class Rung:
    """One size of one architecture: its dial `width`, and all constructor arguments (JSON-able) in `kwargs`."""

    architecture: str
    size: str
    width: int
    kwargs: Kwargs


def _unet(width: int, depths: tuple[int, ...] = (1, 1, 2)) -> Kwargs:
    return {"width": width, "depths": list(depths), "dense": max(4, width // 2)}


def _vit(width: int, depth: int = 4, heads: int | None = None, patch: int = 4) -> Kwargs:
    return {
        "width": width,
        "depth": depth,
        "heads": heads or max(1, width // 32),
        "patch": patch,
        "decoder": max(4, width // 4),
        "stem": width // 2,
    }


def _mamba(width: int, depth: int = 4, patch: int = 4, d_state: int = 8, expand: int = 1) -> Kwargs:
    return {
        "width": width,
        "depth": depth,
        "patch": patch,
        "decoder": max(4, width // 4),
        "stem": width // 2,
        "d_state": d_state,
        "expand": expand,
    }


def _pixel(width: int, depth: int = 2) -> Kwargs:
    return {"width": width, "depth": depth}


LADDER: dict[str, dict[str, Kwargs]] = {
    "unet": {"xs": _unet(6), "s": _unet(16), "m": _unet(32)},
    "vit_upernet": {"xs": _vit(12), "s": _vit(32), "m": _vit(64)},
    "mamba_upernet": {"xs": _mamba(12), "s": _mamba(32), "m": _mamba(64)},
    "pixel": {"mlp": _pixel(64)},
}
ARCHITECTURES = tuple(LADDER)
FAMILIES = {
    "unet": ("unet", "UNet"),
    "vit_upernet": ("vit", "ViTUPerNet"),
    "mamba_upernet": ("mamba", "MambaUPerNet"),
    "pixel": ("pixel", "PixelMLP"),
}
"""Module in geoladder.models, and class."""
BASE_WIDTH = {"unet": 16, "vit_upernet": 32, "mamba_upernet": 32, "pixel": 64}
"""Width at which a study's learning rates are given: that of size `s`."""


def sizes(architecture: str) -> list[str]:
    """Sizes of an architecture, smallest first.

    Raises:
        GeoladderError: unknown architecture.
    """
    if architecture not in LADDER:
        raise GeoladderError(f"unknown architecture '{architecture}'; use one of {', '.join(ARCHITECTURES)}")
    return list(LADDER[architecture])


def rung(architecture: str, size: str) -> Rung:
    """A row of the ladder.

    Raises:
        GeoladderError: unknown architecture or size.
    """
    allowed = sizes(architecture)
    if size not in allowed:
        raise GeoladderError(f"{architecture} has no size '{size}'; the ladder has {', '.join(allowed)}")
    kwargs = LADDER[architecture][size]
    return Rung(architecture, size, int(str(kwargs["width"])), dict(kwargs))


def scaled_lr(base_lr: float, chosen: Rung) -> float:
    """Peak learning rate of a rung: `base_lr`, given at the family's base width, times base width / width.

    Adam's updates have a size of their own, so the change they make to a layer's output grows with its fan-in; the
    inverse width keeps it (Yang et al., Tensor Programs V, arXiv 2203.03466, table 8, hidden layers).
    """
    return base_lr * BASE_WIDTH[chosen.architecture] / chosen.width


def build_backbone(architecture: str, size: str, bands: int = 10) -> "Backbone":
    """A new backbone; its weights come from torch's current generator, which the caller seeds.

    Raises:
        GeoladderError: unknown architecture or size.
    """
    return build_from(architecture, rung(architecture, size).kwargs, bands)


def build_from(architecture: str, kwargs: Kwargs, bands: int = 10) -> "Backbone":
    """A new backbone from constructor arguments, such as a checkpoint keeps.

    Raises:
        GeoladderError: unknown architecture, or arguments that do not fit together.
    """
    sizes(architecture)
    module, name = FAMILIES[architecture]
    family = getattr(import_module(f"geoladder.models.{module}"), name)
    try:
        return cast("Backbone", family(**kwargs, bands=bands))
    except TypeError as problem:
        raise GeoladderError(f"{architecture} cannot be built from {kwargs}: {problem}") from None
