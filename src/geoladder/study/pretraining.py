"""Pretraining: its grid of cells, its objective, its rates, and the learning-rate sweep."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from geoladder.study.architectures import ArchitectureName, PretrainRates, RungName
from geoladder.study.block import Block, Count, Positive, Seed
from geoladder.study.corpora import CorpusKey


class LabelRaster(Block):
    """A map of classes of the whole Earth; its class at a chip's centre is one more thing to predict."""

    raster: Path = Field(
        description="GeoTIFF of integers, such as landcover_4326.tif of the authors' statics"
    )
    codes: Annotated[list[int], Field(min_length=2)] = Field(
        description="the raster's values, one class each; chips with any other value have no label"
    )

    @model_validator(mode="after")
    def _codes_differ(self) -> Self:
        if len(set(self.codes)) != len(self.codes):
            raise ValueError(f"codes {self.codes} must differ from one another")
        return self


LabelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Objective(Block):
    """Pretraining objective (arXiv 2506.14765): masked reconstruction, geo-location, Köppen-Geiger class."""

    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.6
    fill: Literal["mean", "zero", "noise"] = Field(
        "mean",
        description="what hidden pixels are replaced by: the image's own visible mean, 0, or fixed noise; wholly "
        "hidden patches of token models are a learned token besides",
        exclude_if=lambda fill: fill == "mean",
    )
    mask_block_px: Count = Field(4, description="side of a hidden block, 10 m pixels")
    masked_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="of the squared error on hidden pixels"
    )
    visible_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="of the squared error on visible pixels"
    )
    geo_weight: Annotated[float, Field(ge=0)] = 0.05
    climate_weight: Annotated[float, Field(ge=0)] = 0.02
    labels: dict[LabelName, LabelRaster] = Field(
        {}, description="by name: classes of other maps to predict", exclude_if=lambda labels: not labels
    )
    label_weight: Annotated[float, Field(ge=0)] = Field(
        0.02, description="of the cross-entropy of each", exclude_if=lambda weight: weight == 0.02
    )

    @property
    def label_sizes(self) -> dict[str, int]:
        """Classes of each further map, by its name."""
        return {name: len(label.codes) for name, label in self.labels.items()}


class Cells(Block):
    """A block of the pretraining grid: the product of its lists."""

    corpora: Annotated[list[CorpusKey], Field(min_length=1)]
    architectures: Annotated[list[ArchitectureName], Field(min_length=1)] = Field(
        description="see docs/ladder.md"
    )
    sizes: Annotated[list[str], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field([0])


class Rung(Block):
    """Settings of one architecture or one architecture-size that differ from the study's."""

    lr: Positive | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None


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
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    gradient_clip: Positive = 1.0
    transform: Literal["sqrt", "linear"] = Field(
        "sqrt",
        description="of reflectance, before standardisation; sqrt keeps cloud and snow from ruling the loss",
    )
    checkpoint_every: Count = Field(100, description="steps between two resumable checkpoints")
    objective: Objective = Objective()
    rungs: dict[RungName, Rung] = Field(
        {}, description="by architecture (`unet`) or architecture-size (`unet-s`)"
    )
    tensorboard: bool = False
    read: Literal["chips", "tiles"] = Field(
        "chips", description="`tiles`: random crops straight from the archive, new ones each epoch"
    )
    crops_per_tile: Count = Field(16, description="crops taken each time a tile is read; for read: tiles")
    shuffle_window: Annotated[int, Field(ge=4)] = Field(
        960, description="tiles mixed at a time, over all devices; for read: tiles"
    )
    code_changes: Literal["warn", "rerun"] = Field(
        "warn", description="whether cells pretrained by older code are kept (and reported) or trained again"
    )


class Sweep(Block):
    """Learning-rate sweep: does a family's best base rate stay put as its rungs widen? See studies/lr.yaml."""

    corpus: CorpusKey
    architectures: Annotated[list[ArchitectureName], Field(min_length=1)] = Field(
        description="see docs/ladder.md"
    )
    sizes: Annotated[list[str], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field([0])
    factors: Annotated[list[Positive], Field(min_length=3)] = Field(
        [0.25, 0.5, 1.0, 2.0, 4.0], description="of the rate the study gives each rung"
    )
