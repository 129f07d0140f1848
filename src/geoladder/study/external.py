"""External models of a study: where the weights of each are, and which pixels it gets."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer

from geoladder.registry import ARCHITECTURES
from geoladder.registry.ladder import named
from geoladder.study.block import Block, collected
from geoladder.study.paths import expand, written

HUB_ADDRESS = re.compile(r"hf://[\w.-]+/[\w.-]+@[0-9a-f]{7,40}")


def _pinned(weights: str) -> str:
    """A path, or an address on the hub with a commit: branches move, and tags can be moved."""
    if not weights.startswith("hf://"):
        return expand(weights)
    if not HUB_ADDRESS.fullmatch(weights):
        raise ValueError(
            f"{weights} names no fixed revision, so its weights may change while results that rest on them stay; "
            "write hf://owner/name@<40 hexadecimal digits of a commit>"
        )
    return weights


def _external_rung(name: str) -> str:
    with collected():
        architecture, _ = named(name)
    if not ARCHITECTURES[architecture].external:
        names = ", ".join(name for name, entry in ARCHITECTURES.items() if entry.external)
        raise ValueError(f"'{name}' is trained here; external architectures are {names}")
    return name


ExternalName = Annotated[str, AfterValidator(_external_rung)]
"""An external architecture-size: `terramind-base`."""


class External(Block):
    """One external architecture-size: weights that others have trained. See docs/external.md."""

    weights: Annotated[str, AfterValidator(_pinned), PlainSerializer(written, when_used="json")] = Field(
        description="file of released weights, the folder it lies in, or hf://owner/name@commit"
    )
    harmonise: Literal["baseline", "none"] | None = Field(
        None, description="as cleaning.harmonise, for this model; none given: as it was trained"
    )
