"""How one job computes."""

from typing import Annotated, Literal

from pydantic import Field

from geoladder.study.block import Block, Count


class Compute(Block):
    """How one job computes. Which node it runs on, and for how long, is the profile's business."""

    threads: Count = 1
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto", description="auto: bf16-mixed on GPUs that have it"
    )
    devices: Count = Field(1, description="GPUs, or CPU processes, that share each batch; over all nodes")
    nodes: Count = Field(1, description="machines of a cluster that share the devices of a cell evenly")
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        "auto", description="`ddp`: each device holds the whole model (auto: this); `fsdp`: a part of it"
    )
    micro_batch: Count | None = Field(
        None,
        description="samples in one pass of one device; devices x micro_batch x passes = pretrain.batch",
    )
    activation_checkpointing: bool = Field(
        False, description="compute the inside of blocks again in the backward pass: less memory, more time"
    )
    fetch_jobs: Count = Field(
        1, description="jobs that fetch an archive's parts side by side; choose before the first run"
    )
    connections: Count = Field(4, description="of one fetching job to the server, at most at one time")
    chip_jobs: Count = Field(
        1, description="jobs that cut an archive's chips side by side; choose before the first run"
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        0, description="processes of each device that read tiles; for pretrain.read: tiles"
    )
    compile: bool = Field(False, description="torch.compile of the blocks; needs a C++ compiler, or a GPU")
