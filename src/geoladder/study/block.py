"""A block of the study, and the numbers its keys may be."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from fractions import Fraction
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from geoladder.errors import GeoladderError, faults_of

MOST = 10**12
"""Of anything that is counted: more than that no run can take."""
LARGEST_SEED = 2**32 - 1
"""That every library takes."""
POWER_OF_TEN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")


def _number(value: object) -> object:
    """Let nothing but numbers be read as one: pydantic alone would take true for 1, and text with digits.

    Text such as `1e-3` is one, since YAML takes powers of ten without a point for text.
    """
    if isinstance(value, bool):
        raise ValueError(
            f"a number is expected, got {str(value).lower()} (as YAML reads yes, no, on and off, too)"
        )
    if isinstance(value, str):
        if not POWER_OF_TEN.fullmatch(value):
            raise ValueError(f"a number is expected, got {value!r}, which is text; write it without quotes")
        return float(value)
    return value


Whole = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Share = Annotated[Real, Field(ge=0, le=1)]
NotNegative = Annotated[Real, Field(ge=0)]
Positive = Annotated[Real, Field(gt=0)]
Count = Annotated[Whole, Field(ge=1, le=MOST)]
Seed = Annotated[Whole, Field(ge=0, le=LARGEST_SEED)]
Seeds = Annotated[list[Seed], Field(min_length=1)]
WarmupShare = Annotated[Real, Field(ge=0, lt=1)]


def _is_day(value: object) -> object:
    """Let no number be read as a day: pydantic alone would take it for seconds since 1970."""
    if isinstance(value, int | float):
        raise ValueError("a day is expected, such as 2018-01-01, not a number")
    return value


def _is_fraction(value: object) -> object:
    """Let nothing but a finite number, or text such as 1/16, be read as a fraction."""
    try:
        if not isinstance(value, bool):
            Fraction(value)  # type: ignore[call-overload]  # whatever the study has there
            return value
    except (TypeError, ValueError, ArithmeticError):
        pass
    raise ValueError("a fraction is expected, such as 1/16 or 0.25")


Day = Annotated[date, BeforeValidator(_is_day)]
Portion = Annotated[Fraction, BeforeValidator(_is_fraction)]


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
            raise GeoladderError(
                f"--spec is no {cls.__name__}: {faults_of(problem)}; take it from the rule's command"
            ) from None


@contextmanager
def collected() -> Iterator[None]:
    """Turn a GeoladderError into a fault of the study's key that is being read, listed with the other faults."""
    try:
        yield
    except GeoladderError as problem:
        raise ValueError(str(problem)) from None
