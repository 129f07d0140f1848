"""What a study's grids are made of: cells, arms and runs, and the names that may stand in place of a corpus."""

from typing import NamedTuple

from geoladder.study.architectures import Mode, Transfer

SCRATCH = "scratch"
ORACLE = "oracle"
"""Corpus of encoders that learnt the labels of pretraining tiles."""
RELEASED = "released"
"""In place of a corpus: weights that others have trained, of an external architecture."""
RANDOM = "random"
"""Corpus of encoders that were never trained at all, under linear heads."""


class Cell(NamedTuple):
    """One pretraining run."""

    corpus: str
    architecture: str
    size: str
    seed: int


class Arm(NamedTuple):
    """One way to start and train a fine-tuning curve.

    `corpus` is `scratch` if untrained, `oracle` for an encoder of labels, `released` for weights of others.
    """

    corpus: str
    architecture: str
    size: str
    mode: Mode = "full"
    transfer: Transfer = "all"
    """Of the pretrained weights; `all` for arms that have none."""


class Point(NamedTuple):
    """One fine-tuning run: one n of one curve."""

    arm: Arm
    task: str
    seed: int
    n: int


class LinearSubsets(NamedTuple):
    """Subsets of labelled patches for linear heads: all combinations of these."""

    tasks: list[str]
    draws: list[int]
    n: list[int]


PIXEL_ARM = Arm(SCRATCH, "pixel", "mlp")
