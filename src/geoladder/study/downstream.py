"""PhilEO Bench and few-shot fine-tuning on it, and what the synthetic Earth must show there."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.study.architectures import ArchitectureName, Arms, FinetuneRates
from geoladder.study.block import Block, Count, NotNegative, Seed, Seeds, Share, WarmupShare
from geoladder.suggest import nearest


def _task_name(name: str) -> str:
    if name not in TASKS:
        raise ValueError(f"unknown task '{name}'{nearest(name, TASKS)}")
    return name


TaskName = Annotated[str, AfterValidator(_task_name)]


class Bench(Block):
    """PhilEO Bench: the downstream tiles."""

    source: Literal["synthetic", "phileo"] = "synthetic"
    path: Path | None = Field(None, description="folder of a `phileo` source: *_s2.npy and *_label_*.npy")
    patch_px: Annotated[int, Field(ge=16, le=512, multiple_of=4)] = Field(
        32, description="side of a synthetic patch in 10 m pixels; real ones have 128"
    )
    train_tiles: Count = Field(4, description="per region, synthetic")
    test_tiles: Count = Field(1, description="per region, synthetic")
    patches_per_tile: Count = Field(36, description="per tile and date, synthetic")
    seed: Seed = 7
    protocol: Literal["seeded", "philEO"] = Field(
        "seeded",
        description="how few-shot subsets are drawn: by seed, or once as the bench's own code draws them",
    )
    validation: Literal["apart", "adjacent"] = Field(
        "apart",
        description="`apart`: validation patches come from whole training tiles set aside for them; `adjacent`: from "
        "the bench's own validation files, the last tenth of each training image (so always with philEO or indices)",
    )
    allow_short: bool = Field(
        False, description="whether a bucket with fewer than n patches gives all it has; else it is an error"
    )
    indices: Path | None = Field(
        None,
        description="folder of index files indices_*_<task>_<n>.json: take those few-shot subsets, draw none",
    )

    @property
    def draws_by_seed(self) -> bool:
        """Whether seeds differ in their few-shot subsets."""
        return self.protocol == "seeded" and self.indices is None

    def index_file(self, task: str, n: int) -> Path | None:
        """Official index file of one task and n, named by the task or its label files; None where subsets are drawn.

        Raises GeoladderError where the folder has no such file, or several.
        """
        if self.indices is None:
            return None
        patterns = [f"indices_*_{name}_{n}.json" for name in dict.fromkeys((task, TASKS[task].label))]
        files = [path for pattern in patterns for path in self.indices.glob(pattern)]
        if len(files) == 1:
            return files[0]
        count = f"{len(files)} files" if files else "no file"
        raise GeoladderError(
            f"bench.indices: {self.indices} has {count} {' or '.join(patterns)}, but one is needed for each n of "
            "finetune and gates; add it, change n, set gates: null, or leave out bench.indices to draw by seed"
        )

    @model_validator(mode="before")
    @classmethod
    def _subsets_of_the_bench_have_its_validation(cls, raw: Any) -> Any:  # noqa: ANN401  (whatever the study has)
        if isinstance(raw, dict) and (raw.get("protocol") == "philEO" or raw.get("indices") is not None):
            return {"validation": "adjacent"} | raw
        return raw

    @model_validator(mode="after")
    def _validation_goes_with_protocol(self) -> Self:
        if self.validation == "apart" and not self.draws_by_seed:
            raise ValueError(
                "validation: apart belongs to protocol: seeded without `indices`; the bench's own subsets validate "
                "on patches next to the training ones, so leave `validation` out or set it to adjacent"
            )
        return self

    @model_validator(mode="after")
    def _path_goes_with_source(self) -> Self:
        if (self.source == "phileo") != (self.path is not None):
            raise ValueError("`path` belongs to source: phileo, and only to it")
        return self


class Finetune(Block):
    """Few-shot fine-tuning on PhilEO Bench."""

    grid: Annotated[list[Arms], Field(min_length=1)]
    tasks: Annotated[list[TaskName], Field(min_length=1)] = Field(
        default_factory=lambda: [name for name, task in TASKS.items() if task.by_default],
        description="files of training/tasks/; those that are `by_default` where none is named",
    )
    n: Annotated[list[Count], Field(min_length=1)] = Field([4, 16, 64], description="patches per bucket")
    seeds: Seeds = Field([0, 1, 2], description="draw, head and order; shared by all arms")
    pretrain_seed: Literal["same"] | Seed = Field(
        "same",
        description="`same`: curve seed k starts from pretraining seed k; or one fixed pretraining seed",
    )
    steps: Count = 160
    batch: Count = 16
    lr: FinetuneRates = Field(
        {}, validate_default=True, description="as pretrain.lr; the same for pretrained and scratch"
    )
    weight_decay: NotNegative = 0.05
    warmup_share: WarmupShare = 0.1
    validations: Count = Field(
        4, description="evaluations on the val patches, evenly spaced; the best one is tested"
    )
    mode: Literal["full", "frozen", "probe"] = "full"
    test_patches: Count = Field(512, description="at most so many at natural density, drawn once")
    baseline_pixels: Count = Field(
        20_000, description="training pixels, at most, of the per-pixel baselines; drawn by seed"
    )
    code_changes: Literal["warn", "rerun"] = "rerun"


class Gates(Block):
    """What the synthetic Earth must show before a claim rests on it."""

    architecture: ArchitectureName = "unet"
    size: str = "s"
    n: Count = Field(256, description="patches per bucket: 'many labels'; none of finetune.n")
    steps: Count = Field(450, description="optimiser steps of these runs")
    batch: Count = 32
    seeds: Seeds = Field([0])
    min_margin: Share = Field(
        0.03, description="U-Net over per-pixel model, in the task's skill: R2 or accuracy"
    )
