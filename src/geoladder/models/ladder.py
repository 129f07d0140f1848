"""The ladder: one table from (architecture, size) to constructor arguments. A new rung is one line of it.

Unusual: importing it costs no torch, since the workflow reads it whenever it draws its graph. Each family has one
dial, its width w; the rest follows by the rule beside the family, unless a rung says otherwise:

- `unet`: w, 2w, 4w channels at 1/2, 1/4, 1/8 resolution; 1, 1, 2 encoder convolutions (most weights where pixels
  are few, so that parameters cost the least time); dense features w/2 (at least 4), summary 4w
- `vit_upernet`: tokens of w channels in 4 blocks, heads of at least 32 channels, patch 4, stem w/2, decoder w/4 (at
  least 4)
- `mamba_upernet`: as the ViT, a mixer (w channels of 8 states) in place of attention
- `pixel`: w units in 2 hidden layers

Paper sizes (arXiv 2506.14765) are rungs of the same table. `unet` reaches them with our own layout, at the authors'
numbers of parameters; the others are the authors' layouts, faithful to 0.1 % of the parameters counted on their
classes (geoladder.cost.published), and with the depth, heads and taps those have:

- `geoaware_unet`: the authors' U-Net, locked to 128 x 128 pixels by its norms: w, w, 2w, 2w, 4w channels (w the
  first stage's), about 3w in the middle at 200M
- `vit_upernet` and `mamba_upernet` with `layout: paper`: plain patches, UPerNet of 256 channels
- `mamba2d`, `rs3mamba`: hierarchical, w channels in the first stage, doubled by stage or nearly
"""

from collections.abc import Callable
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


def _paper_vit(
    width: int, depth: int, patch: int, latent: int = 0, stem_px: int = 0, code_px: int = 0
) -> Kwargs:
    return {
        "layout": "paper",
        "width": width,
        "depth": depth,
        "heads": 16,
        "patch": patch,
        "latent": latent,
        "stem_px": stem_px,
        "code_px": code_px,
    }


def _geoaware(dims: list[int], depths: list[int]) -> Kwargs:
    return {"width": dims[0], "dims": dims, "depths": depths, "latent": 1024, "image_px": 128}


def _mamba2d(dims: list[int], depths: list[int], d_state: int = 16, expand: int = 2) -> Kwargs:
    return {
        "width": dims[0],
        "dims": dims,
        "depths": depths,
        "d_state": d_state,
        "expand": expand,
        "decoder": 5 * dims[0],
    }


def _pixel(width: int, depth: int = 2) -> Kwargs:
    return {"width": width, "depth": depth}


DIALS: dict[str, Callable[[int], Kwargs]] = {
    "unet": _unet,
    "vit_upernet": _vit,
    "mamba_upernet": _mamba,
    "pixel": _pixel,
}
"""Constructor arguments of any width, where one dial sets them all."""
LADDER: dict[str, dict[str, Kwargs]] = {
    "unet": {
        "xs": _unet(6),
        "s": _unet(16),
        "m": _unet(32),
        "44M": _unet(176, (3, 3, 8)),
        "200M": _unet(336, (3, 3, 12)),
    },
    "vit_upernet": {
        "xs": _vit(12),
        "s": _vit(32),
        "m": _vit(64),
        "100M": _paper_vit(512, 32, patch=4, latent=1024, stem_px=128, code_px=128),
        "100M-23T": _paper_vit(512, 32, patch=4, latent=1024),
        "300M": _paper_vit(1024, 24, patch=4, latent=1024),
        "P8-100M": _paper_vit(768, 12, patch=8, code_px=128),
        "P16-100M": _paper_vit(768, 12, patch=16, code_px=128),
        "P16-300M": _paper_vit(1024, 24, patch=16, code_px=128),
    },
    "mamba_upernet": {
        "xs": _mamba(12),
        "s": _mamba(32),
        "m": _mamba(64),
        "P16-100M": {"layout": "paper", "width": 768, "depth": 12, "patch": 16, "d_state": 16, "expand": 2},
    },
    "geoaware_unet": {
        "44M": _geoaware([32, 32, 64, 64, 128], [3, 3, 4, 4, 5]),
        "200M": _geoaware([86, 86, 256, 256, 512], [3, 3, 12, 12, 5]),
    },
    "mamba2d": {"41M": _mamba2d([64, 128, 320, 512], [3, 3, 9, 3])},
    "rs3mamba": {"168M": {"width": 96, "depths": [2, 2, 9, 2], "resnet": [3, 4, 6, 3], "image_px": 128}},
    "pixel": {"mlp": _pixel(64)},
}
ARCHITECTURES = tuple(LADDER)
FAMILIES: dict[str, dict[str, tuple[str, str]]] = {
    "unet": {"": ("unet", "UNet")},
    "vit_upernet": {"": ("vit", "ViTUPerNet"), "paper": ("vit_paper", "PaperViTUPerNet")},
    "mamba_upernet": {"": ("mamba", "MambaUPerNet"), "paper": ("mamba_paper", "PaperMambaUPerNet")},
    "geoaware_unet": {"": ("geoaware_unet", "GeoAwareUNet")},
    "mamba2d": {"": ("mamba2d", "Mamba2D")},
    "rs3mamba": {"": ("rs3mamba", "RS3Mamba")},
    "pixel": {"": ("pixel", "PixelMLP")},
}
"""Module in geoladder.models, and class, by `layout`; that of a rung without one is ours."""
BASE_WIDTH = {
    "unet": 16,
    "vit_upernet": 32,
    "mamba_upernet": 32,
    "geoaware_unet": 32,
    "mamba2d": 64,
    "rs3mamba": 96,
    "pixel": 64,
}
"""Width at which a study's learning rates are given: that of size `s`, or of the smallest."""


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


def named(name: str) -> tuple[str, str]:
    """Split the name of a rung: `vit_upernet-P16-100M` is architecture `vit_upernet`, size `P16-100M`.

    Raises:
        GeoladderError: unknown architecture or size.
    """
    architecture, _, size = name.partition("-")
    chosen = rung(architecture, size)
    return chosen.architecture, chosen.size


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
    arguments = dict(kwargs)
    layout = str(arguments.pop("layout", ""))
    if layout not in FAMILIES[architecture]:
        layouts = ", ".join(f"'{each}'" for each in FAMILIES[architecture])
        raise GeoladderError(f"{architecture} has no layout '{layout}'; it has {layouts}")
    module, name = FAMILIES[architecture][layout]
    family = getattr(import_module(f"geoladder.models.{module}"), name)
    try:
        return cast("Backbone", family(**arguments, bands=bands))
    except TypeError as problem:
        raise GeoladderError(f"{architecture} cannot be built from {kwargs}: {problem}") from None
