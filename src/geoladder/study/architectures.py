"""Names of architectures and rungs in a study, arms and learning rates by them, checked against the entries."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from geoladder.registry import ARCHITECTURES
from geoladder.study.block import Block, Positive
from geoladder.study.corpora import CorpusKey
from geoladder.suggest import nearest


def _pretrained() -> list[str]:
    return [name for name, entry in ARCHITECTURES.items() if not entry.baseline]


def _one_of(allowed: list[str], name: str, kind: str) -> str:
    if name in allowed:
        return name
    if name in ARCHITECTURES:
        raise ValueError(
            f"'{name}' is a baseline: fine-tuned from scratch beside the grids, never pretrained"
        )
    raise ValueError(f"unknown {kind} '{name}'{nearest(name, allowed)}")


def _architecture(name: str) -> str:
    return _one_of(_pretrained(), name, "architecture")


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
    return defaults | {_architecture(name): rate for name, rate in rates.items()}


def _finetune_rates(rates: "RatesAndChoice") -> "RatesAndChoice":
    defaults = {name: entry.finetune_lr for name, entry in ARCHITECTURES.items()}
    for name, value in rates.items():
        if (name == "choose") != isinstance(value, list):
            raise ValueError(
                f"'{name}' is {value}; `choose` takes a list of factors, everything else one rate"
            )
        if name not in ("all", "choose"):
            _one_of(list(defaults), name, "architecture")
    return defaults | rates


def _ascending(factors: list[float]) -> list[float]:
    if len(set(factors)) < len(factors):
        raise ValueError(f"{factors} names a factor twice")
    return sorted(factors)


ArchitectureName = Annotated[str, AfterValidator(_architecture)]
"""An architecture that may stand in a grid: `unet`."""
Architectures = Annotated[list[ArchitectureName], Field(min_length=1, description="see docs/ladder.md")]
RungName = Annotated[str, AfterValidator(_rung)]
"""An architecture, or one of its sizes: `unet`, `unet-s`."""
PretrainRates = Annotated[dict[str, Positive], AfterValidator(_pretrain_rates)]
"""Peak learning rates of pretraining; those not given are the entries'."""
Factors = Annotated[list[Positive], Field(min_length=3), AfterValidator(_ascending)]
RatesAndChoice = dict[str, Positive | Factors]
FinetuneRates = Annotated[RatesAndChoice, AfterValidator(_finetune_rates)]
"""Peak learning rates of fine-tuning, baselines among them; those not given are the entries'. `all` is one rate for
every architecture at any width, `choose` a list of factors that each arm chooses among."""
Mode = Literal["full", "frozen", "probe"]
"""Weights that are trained: all, all but the encoder's, or the last 1x1 convolution's alone."""
Transfer = Literal["all", "encoder"]
"""Pretrained weights that are taken over: the whole backbone's, or its encoder's alone."""


class Arms(Block):
    """A block of a grid: the product of its lists."""

    corpora: Annotated[list[CorpusKey], Field(min_length=1)]
    architectures: Architectures
    sizes: Annotated[list[str], Field(min_length=1)]


class FinetuneArms(Arms):
    """A block of fine-tuning arms: the product of its lists. `scratch` is the same architecture, untrained."""

    mode: Mode | None = Field(None, description="of this block; none: finetune.mode")
    transfer: Transfer | None = Field(None, description="of this block; none: finetune.transfer")
