"""How a fine-tuning run is trained: for how long, at which rate, on which loss, with what augmentation.

The steps of a run either are a fixed number, or grow with its patches (`epochs`, with a floor and a ceiling) and end
when validation loss has settled. `recipe: paper` sets all of it as the authors' bench does.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from geoladder.study.block import Block, Count, NotNegative, Positive, Real, Share, WarmupShare

EPOCHS = 40
"""Of a study that says neither `steps` nor `epochs`."""
PATIENCE = 8
"""Validations, where runs end when they have settled and the study names no number."""
VALIDATIONS_FIXED, VALIDATIONS_SETTLING = 4, 40

PAPER: Mapping[str, Any] = MappingProxyType(
    {
        "epochs": 500,
        "min_steps": 1,
        "max_steps": 10_000_000,
        "validations": 500,
        "patience": 15,
        "tolerance": 0.0,
        "batch": 64,
        "lr": {"all": 1e-4},
        "weight_decay": 0.01,
        "adam_eps": 1e-6,
        "warmup": "exponential",
        "warmup_epochs": 5,
        "schedule": "plateau",
        "plateau_factor": 0.1,
        "plateau_patience": 6,
        "min_lr": 1e-6,
        "gradient_clip": None,
        "loss": "mse",
        "class_weights": "none",
        "augmentation": "paper",
    }
)
"""The authors' fine-tuning (arXiv 2506.14765; options of their PhilEO Bench): AdamW on all weights, one validation an
epoch, squared error on the raw output for densities."""


class Length(NamedTuple):
    """How many steps a run may take, and after how many of them it is validated."""

    ceiling: int
    validated: frozenset[int]


class Recipe(Block):
    """How a fine-tuning run is trained."""

    steps: Count | None = Field(None, description="of every run, whatever n; in place of `epochs`")
    epochs: Count | None = Field(
        None,
        description=f"passes over the training patches, within min_steps and max_steps; none: {EPOCHS}, or `steps`",
    )
    min_steps: Count = Field(200, description="floor under the steps of `epochs`")
    max_steps: Count = Field(4000, description="ceiling of the steps of `epochs`")
    validations: Count | None = Field(
        None,
        description="evaluations on the val patches, evenly spaced over the steps allowed; the best state of all is "
        f"tested; none: {VALIDATIONS_SETTLING} with `epochs`, {VALIDATIONS_FIXED} with `steps`",
    )
    patience: Count | None = Field(
        None,
        description="validations without a fall of the loss after which a run ends and counts as settled; none: "
        f"{PATIENCE} with `epochs`, and with `steps`, or a cosine, the run goes on to its last step",
    )
    tolerance: Share = Field(
        0.01,
        description="falls of validation loss by no more than this share of its whole fall count as none",
    )
    batch: Count = 16
    weight_decay: NotNegative = 0.05
    adam_eps: Positive = 1e-8
    warmup: Literal["linear", "exponential"] = Field(
        "linear", description="linear over warmup_share; exponential: tenfold each epoch over warmup_epochs"
    )
    warmup_share: WarmupShare = Field(0.1, description="of the steps allowed")
    warmup_epochs: Count = 5
    schedule: Literal["cosine", "plateau", "constant"] | None = Field(
        None,
        description="of the rate after the warm-up; none: `plateau` with `epochs`, `cosine` with `steps`",
    )
    plateau_factor: Annotated[Real, Field(gt=0, lt=1)] = Field(
        0.3, description="of the rate, each time validation loss did not fall"
    )
    plateau_patience: Count = Field(3, description="validations without a fall before the rate does")
    min_lr: NotNegative = Field(0.0, description="plateau does not go below it")
    gradient_clip: Positive | None = Field(
        1.0, description="norm of all gradients together; none: not clipped"
    )
    loss: Literal["task", "mse"] = Field(
        "task",
        description="`task`: cross-entropy; `mse`: densities by the squared error of the raw output, classes as ever",
    )
    class_weights: Literal["none", "inverse_frequency"] = Field(
        "none", description="of the training labels, in the loss of class maps"
    )
    augmentation: Literal["turns", "none", "paper"] = Field(
        "turns",
        description="`turns`: one of eight turns and flips each; `paper`: quarter turns, flips and noise, each with "
        "probability 0.2",
    )

    @model_validator(mode="after")
    def _keys_go_together(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("`steps` and `epochs` are two ways to say how long a run is; give one of them")
        if self.steps is None and self.min_steps > self.max_steps:
            raise ValueError(f"min_steps is {self.min_steps}, above max_steps, {self.max_steps}")
        if self.patience is not None and self.schedule_name == "cosine":
            raise ValueError(
                "`patience` ends a run early, but a cosine has lowered its rate only at the last step; leave it out, "
                "or take schedule: plateau or constant"
            )
        return self

    @property
    def schedule_name(self) -> str:
        """The schedule, also where the study leaves it to the kind of length."""
        return self.schedule or ("plateau" if self.steps is None else "cosine")

    @property
    def patience_validations(self) -> int | None:
        """Validations without a fall that end a run; None where it goes on to its last step."""
        if self.patience is not None or self.steps is not None or self.schedule_name == "cosine":
            return self.patience
        return PATIENCE

    def without_idle_keys(self) -> Self:
        """The same recipe with keys that the others leave without effect at their defaults."""
        idle: list[str] = []
        if self.steps is not None:
            idle += ["min_steps", "max_steps"]
        if self.schedule_name != "plateau":
            idle += ["plateau_factor", "plateau_patience", "min_lr"]
        idle += ["warmup_epochs"] if self.warmup == "linear" else ["warmup_share"]
        return self.model_copy(update={key: Recipe.model_fields[key].default for key in idle})

    def length(self, patches: int) -> Length:
        """Steps of a run on so many training patches, and those after which it is validated."""
        validations = self.validations or (VALIDATIONS_SETTLING if self.steps is None else VALIDATIONS_FIXED)
        ceiling = self.steps
        if ceiling is None:
            passes = -(-(self.epochs or EPOCHS) * patches // self.batch)
            ceiling = min(max(passes, self.min_steps), self.max_steps)
        evenly = {round(ceiling * (i + 1) / validations) for i in range(validations)}
        return Length(ceiling, frozenset(evenly - {0}))
