"""Pretraining: its grid of cells, its objective, its rates, and the learning-rate sweep."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from geoladder.registry import TARGETS, TASKS
from geoladder.registry.target import Name, Settings, Target
from geoladder.study.architectures import Architectures, Arms, PretrainRates, RungName
from geoladder.study.block import (
    MOST,
    Block,
    Count,
    NotNegative,
    Positive,
    Real,
    Seeds,
    WarmupShare,
    Whole,
    collected,
)
from geoladder.study.corpora import CorpusKey
from geoladder.suggest import nearest

RENAMED = {
    "geo_weight": "geo: {weight: 0.05}",
    "climate_weight": "climate: {weight: 0.02}",
    "label_weight": "urban: {kind: raster, raster: FILE, codes: [1, 2], weight: 0.02}",
    "labels": "urban: {kind: raster, raster: FILE, codes: [1, 2], weight: 0.02}",
}
"""Keys of older studies, and what they are now below `targets`."""


class TargetUse(Block):
    """One thing to predict of a whole chip; keys besides these are settings of its kind.

    The kind `raster` takes `raster` (GeoTIFF of integers) and `codes` (its values, one class each).
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str = Field(description="a file of geoladder/training/targets; by default the target's own name")
    weight: NotNegative = Field(description="of its loss")

    @model_validator(mode="before")
    @classmethod
    def _of_its_kind(cls, raw: Any) -> Any:  # noqa: ANN401  (whatever the study has there)
        """Let the kind's entry check its own settings, and write them out in full."""
        if not isinstance(raw, dict) or not isinstance(raw.get("kind"), str):
            return raw
        with collected():
            kind = TARGETS[raw["kind"]].settings
        settings = {key: value for key, value in raw.items() if key not in cls.model_fields}
        for key in settings.keys() - kind.model_fields:
            raise ValueError(f"unknown key '{key}'{nearest(key, [*cls.model_fields, *kind.model_fields])}")
        try:
            return raw | kind.model_validate(settings).model_dump()
        except ValidationError as problem:
            lines = [f"{'.'.join(map(str, e['loc']))} {e['msg']}".strip() for e in problem.errors()]
            raise ValueError(f"{raw['kind']}: {'; '.join(lines)}") from None

    @property
    def entry(self) -> Target:
        """What its kind does."""
        return TARGETS[self.kind]

    @property
    def settings(self) -> Settings:
        """Settings of its kind."""
        return self.entry.settings.model_validate(self.model_extra)


class Objective(Block):
    """Pretraining objective (arXiv 2506.14765): masked reconstruction, and targets of whole chips."""

    mask_ratio: Annotated[Real, Field(ge=0, lt=1)] = Field(0.6, description="hidden; 0: nothing is")
    fill: Literal["mean", "zero", "noise"] = Field(
        "mean",
        description="what hidden pixels are replaced by: the image's own visible mean, 0, or fixed noise; wholly "
        "hidden patches of token models are a learned token besides",
        exclude_if=lambda fill: fill == "mean",
    )
    mask_block_px: Count = Field(4, description="side of a hidden block, 10 m pixels")
    masked_weight: NotNegative = Field(1.0, description="of the squared error on hidden pixels")
    visible_weight: NotNegative = Field(0.0, description="of the squared error on visible pixels")
    targets: dict[Name, TargetUse] = Field(
        default_factory=lambda: {
            "geo": TargetUse(kind="geo", weight=0.05),
            "climate": TargetUse(kind="climate", weight=0.02),
        },
        description="by name; those listed are all there are. By default `geo: {weight: 0.05}`, the place, and "
        "`climate: {weight: 0.02}`, the Köppen-Geiger class",
    )
    tasks: list[Name] = Field(
        [],
        description="whose labels are predicted at every pixel; of the `oracle` alone, which sets it",
        exclude_if=lambda tasks: not tasks,
    )

    @model_validator(mode="before")
    @classmethod
    def _kinds_default_to_names(cls, raw: Any) -> Any:  # noqa: ANN401  (whatever the study has there)
        if not isinstance(raw, dict):
            return raw
        for key in RENAMED.keys() & raw.keys():
            raise ValueError(
                f"{key} is no key any more; write `targets: {{{RENAMED[key]}}}`, and list all targets there: those "
                "left out are not predicted"
            )
        targets = raw.get("targets")
        if not isinstance(targets, dict):
            return raw
        uses = {name: {"kind": name} | use if isinstance(use, dict) else use for name, use in targets.items()}
        return raw | {"targets": uses}

    @field_validator("targets", mode="after")
    @classmethod
    def _in_order(cls, targets: dict[str, TargetUse]) -> dict[str, TargetUse]:
        """Order them as their heads are made, whatever order the study or a spec has them in."""
        for name in {"masked", "visible"} & targets.keys():
            raise ValueError(f"no target can be called '{name}', which is a loss of pixels; rename it")
        return dict(sorted(targets.items(), key=lambda target: (target[1].entry.order, target[0])))

    @property
    def head_sizes(self) -> dict[str, int]:
        """Numbers that the head of each target gives for a chip, in the order heads are made."""
        return {name: use.entry.size(use.settings) for name, use in self.targets.items()}

    @property
    def map_sizes(self) -> dict[str, int]:
        """Numbers that the head of each task gives for a pixel, in the order heads are made."""
        return {name: TASKS[name].outputs for name in self.tasks}


class Cells(Arms):
    """A block of the pretraining grid: the product of its lists."""

    seeds: Seeds = Field([0])


class Rung(Block):
    """Settings of one architecture or one architecture-size that differ from the study's."""

    lr: Positive | None = None
    weight_decay: NotNegative | None = None


class Pretrain(Block):
    """Pretraining: every cell sees the same number of samples, whatever its corpus."""

    grid: Annotated[list[Cells], Field(min_length=1)]
    samples: Count = Field(8192, description="training chips seen, with repetition")
    batch: Count = 32
    lr: PretrainRates = Field(
        {},
        validate_default=True,
        description="peak learning rates by architecture, at its base width (docs/ladder.md); other widths follow "
        "from the width rule, other architectures keep their own",
    )
    weight_decay: NotNegative = 0.05
    warmup_share: WarmupShare = 0.05
    gradient_clip: Positive = 1.0
    transform: Literal["sqrt", "linear"] = Field(
        "sqrt",
        description="of reflectance, before standardisation; sqrt keeps cloud and snow from ruling the loss",
    )
    checkpoint_every: Count = Field(100, description="steps between two resumable checkpoints")
    objective: Objective = Field(default_factory=Objective)
    rungs: dict[RungName, Rung] = Field(
        {}, description="by architecture (`unet`) or architecture-size (`unet-s`)"
    )
    tensorboard: bool = False
    read: Literal["chips", "tiles"] = Field(
        "chips", description="`tiles`: random crops straight from the archive, new ones each epoch"
    )
    crops_per_tile: Count = Field(16, description="crops taken each time a tile is read; for read: tiles")
    shuffle_window: Annotated[Whole, Field(ge=4, le=MOST)] = Field(
        960, description="tiles mixed at a time, over all devices; for read: tiles"
    )
    code_changes: Literal["warn", "rerun"] = Field(
        "warn", description="whether cells pretrained by older code are kept (and reported) or trained again"
    )

    @field_validator("objective", mode="after")
    @classmethod
    def _without_labels(cls, objective: Objective) -> Objective:
        if objective.tasks:
            raise ValueError("`tasks` is the oracle's alone: give the study an `oracle` block instead")
        return objective


class Sweep(Block):
    """Learning-rate sweep: does a family's best base rate stay put as its rungs widen? See studies/lr.yaml."""

    corpus: CorpusKey
    architectures: Architectures
    sizes: Annotated[list[str], Field(min_length=1)]
    seeds: Seeds = Field([0])
    factors: Annotated[list[Positive], Field(min_length=3)] = Field(
        [0.25, 0.5, 1.0, 2.0, 4.0], description="of the rate the study gives each rung"
    )
