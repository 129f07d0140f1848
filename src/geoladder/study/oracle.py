"""The oracle: pretraining on the labels of the pretraining tiles, which the synthetic Earth alone knows."""

from typing import Annotated

from pydantic import Field

from geoladder.registry import TASKS
from geoladder.study.architectures import Architectures
from geoladder.study.block import Block, Count, Seeds
from geoladder.study.downstream import TaskName


class Oracle(Block):
    """Pretraining on the synthetic Earth's own labels of the validation corpus: the ceiling of transfer."""

    architectures: Architectures
    sizes: Annotated[list[str], Field(min_length=1)]
    seeds: Seeds = Field([0])
    samples: Count | None = Field(
        None, description="training chips seen; none: as `pretrain`, like all else here"
    )
    tasks: Annotated[list[TaskName], Field(min_length=1)] = Field(
        default_factory=lambda: [name for name, task in TASKS.items() if task.by_default],
        description="learnt all at once; those that are `by_default` where none is named",
    )
