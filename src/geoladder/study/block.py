"""A block of the study, and the numbers its keys may be."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geoladder.errors import GeoladderError

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Seeds = Annotated[list[Seed], Field(min_length=1)]
WarmupShare = Annotated[float, Field(ge=0, lt=1)]


class Block(BaseModel):
    """A block of the study: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def canonical(self) -> str:
        """Sorted JSON without white space: the same text for the same meaning."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that name this block where it is the spec of a node."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:12]

    @classmethod
    def take(cls, *blocks: "Block", **values: object) -> Self:
        """A block of these values and, for its other keys, of the first of `blocks` that has a key of that name."""
        taken = {key: value for block in reversed(blocks) for key, value in block if key in cls.model_fields}
        return cls.model_validate(taken | values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `canonical`; raises GeoladderError that names every wrong key of --spec."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as problem:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'text'}: {fault['msg']}" for fault in problem.errors()
            )
            raise GeoladderError(
                f"--spec is no {cls.__name__}: {faults}; take it from the rule's command"
            ) from None


@contextmanager
def collected() -> Iterator[None]:
    """Turn a GeoladderError into a fault of the study's key that is being read, listed with the other faults."""
    try:
        yield
    except GeoladderError as problem:
        raise ValueError(str(problem)) from None
