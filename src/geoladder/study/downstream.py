"""PhilEO Bench and few-shot fine-tuning on it, and what the synthetic Earth must show there."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.registry.ladder import rung, scaled_lr
from geoladder.study.architectures import ArchitectureName, FinetuneArms, FinetuneRates, Mode, Transfer
from geoladder.study.block import Block, Count, Seed, Seeds, Share, Whole
from geoladder.study.recipe import PAPER, Recipe
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
    patch_px: Annotated[Whole, Field(ge=16, le=512, multiple_of=4)] = Field(
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


class Finetune(Recipe):
    """Few-shot fine-tuning on PhilEO Bench. Keys from `steps` to `augmentation` say how a run is trained."""

    recipe: Literal["own", "paper"] = Field(
        "own", description="`paper`: those keys and lr as the authors have them, but for what is given beside"
    )
    grid: Annotated[list[FinetuneArms], Field(min_length=1)]
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
    lr: FinetuneRates = Field(
        {},
        validate_default=True,
        description="as pretrain.lr; `all: 0.0001` is one rate for every architecture at any width; `choose: [0.25, "
        "0.5, 1, 2, 4]` has each arm, task and n choose among these multiples of its rate, on the validation patches "
        "of the first seed, and beyond them where the best is at an end",
    )
    mode: Mode = "full"
    transfer: Transfer = Field(
        "all",
        description="pretrained weights that are taken over: the whole backbone's, or its encoder's alone",
    )
    test_patches: Count = Field(512, description="at most so many at natural density, drawn once")
    keep: Literal["first_seed", "all"] | list[Count] = Field(
        "first_seed",
        description="fine-tuned models kept beside the results: of the first seed, or all; `[64]`: of the first seed "
        "at these n",
    )
    baseline_pixels: Count = Field(
        20_000, description="training pixels, at most, of the per-pixel baselines; drawn by seed"
    )
    code_changes: Literal["warn", "rerun"] = "rerun"

    @model_validator(mode="before")
    @classmethod
    def _follow_the_recipe(cls, raw: Any) -> Any:  # noqa: ANN401  (whatever the study has there)
        if not isinstance(raw, dict) or raw.get("recipe") != "paper":
            return raw
        idle = {"epochs"} if raw.get("steps") else set()
        idle |= {"patience"} if raw.get("schedule") == "cosine" else set()
        recipe = {key: value for key, value in PAPER.items() if key not in idle}
        rates = raw.get("lr")
        return recipe | raw | ({"lr": PAPER["lr"] | rates} if isinstance(rates, dict) else {})

    @model_validator(mode="after")
    def _kept_n_exist(self) -> Self:
        if isinstance(self.keep, list) and (strange := sorted(set(self.keep) - set(self.n))):
            raise ValueError(f"`keep` names n that are not fine-tuned at: {strange}; n is {self.n}")
        return self

    @property
    def factors(self) -> list[float] | None:
        """Multiples of its rate that each arm chooses among; None where it takes the rate itself."""
        factors = self.lr.get("choose")
        return factors if isinstance(factors, list) else None

    def peak_lr(self, architecture: str, size: str) -> float:
        """Rate of a rung, from which its arms may choose multiples; raises GeoladderError for an unknown rung."""
        rates = {name: rate for name, rate in self.lr.items() if not isinstance(rate, list)}
        return rates.get("all", scaled_lr(rates[architecture], rung(architecture, size)))


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
