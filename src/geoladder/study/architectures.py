"""Names of architectures and rungs in a study, arms and learning rates by them, checked against the entries."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field

from geoladder.registry import ARCHITECTURES
from geoladder.study.block import Block, Positive
from geoladder.study.corpora import CorpusKey
from geoladder.suggest import nearest


def _check(kind: str, names: Iterable[str], allowed: list[str]) -> None:
    for name in names:
        if name in ARCHITECTURES and name not in allowed:
            raise ValueError(
                f"'{name}' is a baseline: fine-tuned from scratch beside the grids, never pretrained"
            )
        if name not in allowed:
            raise ValueError(f"unknown {kind} '{name}'{nearest(name, allowed)}")


def _pretrained() -> list[str]:
    return [name for name, entry in ARCHITECTURES.items() if not entry.baseline]


def _architecture(name: str) -> str:
    _check("architecture", [name], _pretrained())
    return name


def _rung(name: str) -> str:
    names = _pretrained()
    rungs = [f"{architecture}-{size}" for architecture in names for size in ARCHITECTURES[architecture].rungs]
    _check("architecture or rung", [name], names + rungs)
    return name


def _pretrain_rates(rates: dict[str, float]) -> dict[str, float]:
    _check("architecture", rates, _pretrained())
    defaults = {
        name: entry.pretrain_lr for name, entry in ARCHITECTURES.items() if entry.pretrain_lr is not None
    }
    return defaults | rates


def _finetune_rates(rates: dict[str, float]) -> dict[str, float]:
    _check("architecture", rates, list(ARCHITECTURES))
    return {name: entry.finetune_lr for name, entry in ARCHITECTURES.items()} | rates


ArchitectureName = Annotated[str, AfterValidator(_architecture)]
"""An architecture that may stand in a grid: `unet`."""
RungName = Annotated[str, AfterValidator(_rung)]
"""An architecture, or one of its sizes: `unet`, `unet-s`."""
PretrainRates = Annotated[dict[str, Positive], AfterValidator(_pretrain_rates)]
"""Peak learning rates of pretraining; those not given are the entries'."""
FinetuneRates = Annotated[dict[str, Positive], AfterValidator(_finetune_rates)]
"""Peak learning rates of fine-tuning, baselines among them; those not given are the entries'."""


class Arms(Block):
    """A block of fine-tuning arms: the product of its lists. `scratch` is the same architecture, untrained."""

    corpora: Annotated[list[CorpusKey], Field(min_length=1)]
    architectures: Annotated[list[ArchitectureName], Field(min_length=1)] = Field(
        description="see docs/ladder.md"
    )
    sizes: Annotated[list[str], Field(min_length=1)]
