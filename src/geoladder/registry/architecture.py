"""What an architecture must say of itself: class, sizes, rates, and how it is shown. Costs no torch.

An entry checks itself when it is made, so that a missing piece is named while the study is read and not when a job
runs. The class it names is looked for in its source, without importing it.
"""

import ast
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from geoladder.suggest import nearest

Kwargs = dict[str, int | float | str | list[int]]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def multiples(stride_px: int) -> range:
    """Image sides that are multiples of `stride_px` pixels, up to 10,000."""
    return range(stride_px, 10_001, stride_px)


def _class_exists(path: str) -> str:
    """Check a class path by reading the module's source, without running it."""
    module, _, name = path.partition(":")
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin:
        raise ValueError(f"'{path}' names no module that exists; write package.module:Class")
    body = ast.parse(Path(spec.origin).read_bytes()).body
    imported = [alias for node in body if isinstance(node, ast.ImportFrom) for alias in node.names]
    names = {node.name for node in body if isinstance(node, ast.ClassDef)}
    names |= {alias.asname or alias.name for alias in imported}
    if name not in names:
        raise ValueError(f"{spec.origin} has no class '{name}'{nearest(name, names)}")
    return path


ClassPath = Annotated[str, AfterValidator(_class_exists)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Input:
    """What pixels an architecture was released for, whose weights come from elsewhere.

    Attributes:
        bands: mean and deviation of the digital numbers (DN) it was trained on, by Sentinel-2 band (`B02`), in the
            order in which it takes them. It takes bands that archives of ten bands lack at their mean.
        harmonise: whether these numbers are of pixels without the +1000 DN of newer products (`baseline`), or of
            products as they come (`none`); a study may choose otherwise. None where there are no numbers: pixels are
            standardised by the study's statistics, and harmonised as those are.
    """

    bands: dict[str, tuple[float, Annotated[float, Field(gt=0)]]]
    harmonise: Literal["baseline", "none"] | None

    def order(self, bands: Sequence[str]) -> list[int]:
        """Places of these bands among `bands`; -1 for one that is not there."""
        return [bands.index(band) if band in bands else -1 for band in self.bands]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Release:
    """Where the weights of an external architecture are, and how their names become ours.

    Attributes:
        files: repository and file on the Hugging Face hub, `owner/name/FILE`, by size.
        rules: our names by theirs; regular expressions on whole names, of which one at most matches a name (specs do
            not keep their order).
        ignore: regular expressions on whole names of theirs that are not of the encoder, or fixed numbers of it.
    """

    files: dict[str, Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+/[\w.-]+$")]]
    rules: dict[str, str]
    ignore: list[str]


@dataclass(
    frozen=True, kw_only=True, config=ConfigDict(arbitrary_types_allowed=True, extra="forbid", strict=True)
)
class Architecture:
    """One architecture, all a study needs to know of it; pydantic names every argument that is missing or unusable.

    Attributes:
        name: as studies spell it: `unet`.
        title: in figures: `U-Net`.
        colour: in figures: `#0173b2`.
        classes: `package.module:Class` of the backbone (`geoladder.models.backbone.Backbone`) by layout; the layout
            of a rung without the argument `layout` is the empty one.
        rungs: constructor arguments (JSON-able) by size, smallest first; `width` is the dial of the size.
        base_width: width at which learning rates are given: that of size `s`, or of the smallest.
        pretrain_lr: default peak learning rate of pretraining; None: never pretrained here, since it is external, or
            a baseline, which is fine-tuned from scratch beside the grids.
        finetune_lr: default peak learning rate of fine-tuning.
        sides_px: image sides it takes, in pixels, or a function from a rung's arguments to them.
        input: pixels of an external architecture, whose weights come from elsewhere; None for our own.
        release: where these weights are.
        any_size: arguments of a size that `rungs` lacks, where every name is one.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    title: Annotated[str, Field(min_length=1)]
    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    classes: Annotated[dict[str, ClassPath], Field(min_length=1)]
    rungs: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")], Kwargs]
    base_width: Annotated[int, Field(ge=1)]
    pretrain_lr: Rate | None
    finetune_lr: Rate
    sides_px: range | Callable[[Kwargs], range]
    input: Input | None = None
    release: Release | None = None
    any_size: Callable[[str], Kwargs] | None = None

    @model_validator(mode="after")
    def _release_goes_with_input(self) -> Self:
        if (self.release is None) != (self.input is None):
            raise ValueError("`input` and `release` belong together: an external architecture has both")
        return self

    @model_validator(mode="after")
    def _rungs_are_usable(self) -> Self:
        if not self.rungs and self.any_size is None:
            raise ValueError("`rungs` needs at least 1 size")
        for size, kwargs in self.rungs.items():
            width, layout = kwargs.get("width"), kwargs.get("layout", "")
            if not isinstance(width, int) or width < 1:
                raise ValueError(f"rung '{size}' needs a positive whole `width`; got {width}")
            if layout not in self.classes:
                raise ValueError(f"rung '{size}' has layout '{layout}', which `classes` lacks")
        return self

    @property
    def baseline(self) -> bool:
        """Whether it is fine-tuned from scratch only."""
        return self.pretrain_lr is None and not self.external

    @property
    def external(self) -> bool:
        """Whether its weights come from elsewhere, made for pixels of its own (`input`)."""
        return self.input is not None

    def kwargs(self, size: str) -> Kwargs | None:
        """Constructor arguments of a size; None where it has no such size."""
        if size not in self.rungs and self.any_size is not None:
            return self.any_size(size)
        return self.rungs.get(size)

    def sides(self, size: str) -> range:
        """Image sides one of its sizes takes, in pixels."""
        return self.sides_px if isinstance(self.sides_px, range) else self.sides_px(self.kwargs(size) or {})
