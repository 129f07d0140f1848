"""Linear heads on frozen encoders: the cheap judgement of every pretraining cell."""

from typing import Annotated, Literal

from pydantic import Field

from geoladder.study.block import Block, Count, Positive
from geoladder.study.downstream import TaskName

STRENGTHS = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0]
FEW = (1, 4, 32)


class Linear(Block):
    """Linear heads in closed form on the taps of every cell's encoder, and of random ones; see docs/linear.md."""

    n: Annotated[list[Count], Field(min_length=1)] | None = Field(
        None,
        description="patches per bucket; by default those of 1, 4 and 32 that finetune.n reaches",
    )
    draws: Count = Field(10, description="subsets of each n; those of draw k are those of finetune's seed k")
    tasks: Annotated[list[TaskName], Field(min_length=1)] | None = Field(
        None, description="by default those of finetune"
    )
    strengths: Annotated[list[Positive], Field(min_length=1)] = Field(
        STRENGTHS,
        description="of the ridge, relative to the Gram matrix of standardised features divided by its pixels; "
        "one is chosen by leaving out training patches",
    )
    pixels: Count = Field(1024, description="labelled pixels of a training patch that are used, at most")
    keep: Literal["none", "largest", "all"] = Field(
        "largest",
        description="linear models of the first draw that are kept beside the results; `largest`: those of the "
        "largest n and each arm's first seed",
    )
    code_changes: Literal["warn", "rerun"] = "rerun"
