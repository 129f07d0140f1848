"""Names of architectures and rungs in a study, arms and learning rates by them, checked against the entries."""

from typing import Annotated

from pydantic import AfterValidator, Field

from geoladder.registry import ARCHITECTURES
from geoladder.study.block import Block, Positive
from geoladder.study.corpora import CorpusKey
from geoladder.suggest import nearest


def _in_grids() -> list[str]:
    return [name for name, entry in ARCHITECTURES.items() if not entry.baseline]


def _pretrained() -> list[str]:
    return [name for name in _in_grids() if not ARCHITECTURES[name].external]


def _one_of(allowed: list[str], name: str, kind: str) -> str:
    if name in allowed:
        return name
    if name in ARCHITECTURES and ARCHITECTURES[name].external:
        raise ValueError(f"'{name}' is external: its weights are released and never pretrained here")
    if name in ARCHITECTURES:
        raise ValueError(
            f"'{name}' is a baseline: fine-tuned from scratch beside the grids, never pretrained"
        )
    raise ValueError(f"unknown {kind} '{name}'{nearest(name, allowed)}")


def _architecture(name: str) -> str:
    return _one_of(_in_grids(), name, "architecture")


def _rung(name: str) -> str:
    rungs = [
        f"{architecture}-{size}"
        for architecture in _pretrained()
        for size in ARCHITECTURES[architecture].rungs
    ]
    return _one_of(_pretrained() + rungs, name, "architecture or rung")


def _pretrain_rates(rates: dict[str, float]) -> dict[str, float]:
    defaults = {
        name: entry.pretrain_lr for name, entry in ARCHITECTURES.items() if entry.pretrain_lr is not None
    }
    return defaults | {_one_of(_pretrained(), name, "architecture"): rate for name, rate in rates.items()}


def _finetune_rates(rates: dict[str, float]) -> dict[str, float]:
    defaults = {name: entry.finetune_lr for name, entry in ARCHITECTURES.items()}
    return defaults | {_one_of(list(defaults), name, "architecture"): rate for name, rate in rates.items()}


ArchitectureName = Annotated[str, AfterValidator(_architecture)]
"""An architecture that may stand in a grid: `unet`."""
Architectures = Annotated[list[ArchitectureName], Field(min_length=1, description="see docs/ladder.md")]
RungName = Annotated[str, AfterValidator(_rung)]
"""An architecture, or one of its sizes: `unet`, `unet-s`."""
PretrainRates = Annotated[dict[str, Positive], AfterValidator(_pretrain_rates)]
"""Peak learning rates of pretraining; those not given are the entries'."""
FinetuneRates = Annotated[dict[str, Positive], AfterValidator(_finetune_rates)]
"""Peak learning rates of fine-tuning, baselines among them; those not given are the entries'."""


class Arms(Block):
    """A block of fine-tuning arms: the product of its lists.

    `scratch` is the same architecture, untrained; `released` are the weights of an external one.
    """

    corpora: Annotated[list[CorpusKey], Field(min_length=1)]
    architectures: Architectures
    sizes: Annotated[list[str], Field(min_length=1)]
