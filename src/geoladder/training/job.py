"""What a pretraining run reads and what it computes on, as options of `geoladder pretrain`; without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

StrategyName = Literal["auto", "ddp", "fsdp"]


@Parameter(name="*")
@dataclass(frozen=True)
class Inputs:
    """Files a run reads."""

    validation: Annotated[Path, Parameter(help="chip folder of the common validation set")]
    stats: Annotated[Path, Parameter(help="JSON written by `stats`")]
    chips: Annotated[Path | None, Parameter(help="chip folder, for runs that read chips")] = None
    archive: Annotated[Path | None, Parameter(help="MajorTOM folder, for runs that read tiles")] = None
    index: Annotated[Path | None, Parameter(help="parquet of its tiles, for runs that read tiles")] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Hardware:
    """What a run computes on; none of it changes results beyond rounding.

    Results are bit-identical at a fixed number of `threads`; `workers` changes none.
    """

    threads: Annotated[int, Parameter(help="of the CPU, for each device")] = 1
    devices: Annotated[int, Parameter(help="GPUs, or CPU processes; each takes a slice of a batch")] = 1
    strategy: Annotated[StrategyName, Parameter(help="how devices share the model")] = "auto"
    micro_batch: Annotated[
        int | None, Parameter(help="samples in one pass of one device (default: its whole share of a batch)")
    ] = None
    activation_checkpointing: Annotated[
        bool, Parameter(help="save memory, compute the inside of blocks twice")
    ] = False
    compile_model: Annotated[bool, Parameter(name="--compile", help="compile the blocks")] = False
    workers: Annotated[int, Parameter(help="processes of each device that read tiles")] = 0
