"""What a pretraining run reads and what it computes on, as options of `geoladder pretrain`; without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geoladder.scans import ScanName

StrategyName = Literal["auto", "ddp", "fsdp"]


@dataclass(frozen=True)
class Inputs:
    """Files a run reads."""

    validation: Path
    """chip folder of the common validation set"""
    stats: Path
    """JSON written by `stats`"""
    chips: Path | None = None
    """chip folder, for runs that read chips"""
    labels: Path | None = None
    """labels of the chips of the validation set's folder, for the oracle, which trains on that folder"""
    archive: Path | None = None
    """MajorTOM folder, for runs that read tiles"""
    index: Path | None = None
    """parquet of its tiles, for runs that read tiles"""


@dataclass(frozen=True)
class Hardware:
    """What a run computes on; none of it changes results beyond rounding.

    Results are bit-identical at a fixed number of `threads`; `workers` changes none.
    """

    threads: int = 1
    """of the CPU, for each device"""
    devices: int = 1
    """GPUs, or CPU processes; each takes a slice of a batch"""
    strategy: StrategyName = "auto"
    """how devices share the model"""
    micro_batch: int | None = None
    """samples in one pass of one device (default: its whole share of a batch)"""
    activation_checkpointing: bool = False
    """save memory, compute the inside of blocks twice"""
    compile: bool = False
    """compile the blocks"""
    scan: ScanName = "auto"
    """backend of Mamba's scans: the first that works, or this one"""
    workers: int = 0
    """processes of each device that read tiles"""
