"""How one job computes, and one optimiser step in pieces: devices x micro_batch x accumulation = batch.

Imports no torch, since a study is checked before anything is computed.
"""

from typing import Annotated, Literal

from pydantic import Field

from geoladder.errors import GeoladderError
from geoladder.scans import ScanName
from geoladder.study.block import MOST, Block, Count, Whole


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
    workers: Annotated[Whole, Field(ge=0, le=MOST)] = Field(
        0, description="processes of each device that read tiles; for pretrain.read: tiles"
    )
    scan: ScanName = Field(
        "auto",
        description="backend of Mamba's scans; `auto`: the first that works, another: that or an error",
    )
    compile: bool = Field(False, description="torch.compile of the blocks; needs a C++ compiler, or a GPU")


def accumulation(batch: int, devices: int, micro_batch: int | None) -> int:
    """Forward and backward passes of one device in one optimiser step, which takes `batch` samples of all devices.

    `micro_batch` is samples in one pass of one device; None: the device's whole share. Raises GeoladderError where
    the three do not multiply to the batch; the message says what does.
    """
    if batch % devices:
        raise GeoladderError(
            f"a batch of {batch} samples cannot be shared evenly by {devices} devices; pretrain.batch must be "
            f"compute.devices x compute.micro_batch x a whole number: use one of {_divisors(batch)} devices, or make "
            f"pretrain.batch a multiple of {devices}"
        )
    share = batch // devices
    micro_batch = micro_batch or share
    if share % micro_batch:
        raise GeoladderError(
            f"compute.micro_batch {micro_batch} does not divide the {share} samples that each of {devices} devices "
            f"has of a batch of {batch}; use one of {_divisors(share)}"
        )
    return share // micro_batch


def _divisors(number: int) -> str:
    """All divisors, smallest first."""
    return ", ".join(str(divisor) for divisor in range(1, number + 1) if number % divisor == 0)
