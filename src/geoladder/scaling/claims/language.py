"""Claims about runs written as data, so that the sentence of a paper and the test of it are the same few lines.

A file is a YAML list. A claim says that one *arm* (corpus, architecture, size) has less error than another, or the
least of a set::

    - id: C1                                                    # short, unique in its file
      text: The 44M U-Net pretrained on MajorTOM beats the one pretrained on Globe on roads at every n.
      source: arXiv 2506.14765 v1                               # who said it, and where
      better: {architecture: unet, size: 44M, corpus: majortom} # the arms said to have less error
      than: {architecture: unet, size: 44M, corpus: globe}      # or: best: {...} with among: {...} or among: all
      on: {task: roads, n: [50, 100, 500, 1000, 5000]}          # or n: all, the default; metric likewise
      scope: every                                              # every | most comparisons | mean (of log error)
      margin: 0.01                                              # optional: not worse by more than 1 %
      note: what of the sentence is not tested                  # optional

All else being equal: a column that neither selector names has to be equal in the two arms that are compared.
"""

from math import log1p
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from geoladder.errors import GeoladderError
from geoladder.text import StrictLoader, read_yaml


class _Loader(StrictLoader):
    """YAML in which a value is text, or null: plain YAML reads the key `on` as True and the size 44 as a number."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (as PyYAML declares it)
        letter: [(tag, pattern) for tag, pattern in patterns if tag.endswith((":null", ":merge"))]
        for letter, patterns in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class Arm(NamedTuple):
    """What is compared: one kind of model, whatever the task, n and seed."""

    corpus: str
    architecture: str
    size: str

    def __str__(self) -> str:
        """As corpus/architecture/size."""
        return "/".join(self)


def _names(value: object) -> tuple[str, ...]:
    """A name, or a list of names."""
    names = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("must be a name or a list of names")
    return names


def _counts(value: object) -> tuple[int, ...]:
    """An n, or a list of them, in digits."""
    items = value if isinstance(value, list | tuple) else (value,)
    try:
        counts = tuple(int(str(item)) for item in items)
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise ValueError("must be 'all', a positive integer or a list of them")
    return counts


Names = Annotated[tuple[str, ...], BeforeValidator(_names)] | None
Counts = Annotated[tuple[int, ...], BeforeValidator(_counts)] | None
UNLESS_ALL = BeforeValidator(lambda value: None if value == "all" else value)


class Selector(BaseModel, frozen=True, extra="forbid"):
    """Which arms: the allowed values of each column; None is any."""

    corpus: Names = None
    architecture: Names = None
    size: Names = None

    def matches(self, arm: Arm) -> bool:
        """Whether an arm has one of the allowed values in every column."""
        return all(allowed is None or value in allowed for (_, allowed), value in zip(self, arm, strict=True))

    def __str__(self) -> str:
        """As in YAML, of the columns it names."""
        return "{" + ", ".join(f"{column}: {' or '.join(names)}" for column, names in self if names) + "}"


class Where(BaseModel, frozen=True, extra="forbid"):
    """Where a claim is made; None is everywhere that the table can tell."""

    task: Annotated[Names, UNLESS_ALL] = None
    n: Annotated[Counts, UNLESS_ALL] = None
    metric: Annotated[Names, UNLESS_ALL] = None

    def matches(self, task: str, metric: str, n: int) -> bool:
        """Whether a task, metric and n are among those of the claim."""
        pairs = ((self.task, task), (self.metric, metric), (self.n, n))
        return all(allowed is None or value in allowed for allowed, value in pairs)


Text = Annotated[str, Field(min_length=1)]


class Claim(BaseModel, frozen=True, extra="forbid"):
    """One claim, `better` than `than` or `best` among `among`; the module's example says what each field holds."""

    id: Text
    text: Text
    source: Text
    better: Selector | None = None
    than: Selector | None = None
    best: Selector | None = None
    among: Annotated[Selector | None, BeforeValidator(lambda value: {} if value == "all" else value)] = None
    on: Where = Where()
    scope: Literal["every", "most", "mean"] = "every"
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    note: str = ""

    @model_validator(mode="after")
    def _one_form(self) -> "Claim":
        given = [key for key in ("better", "than", "best", "among") if getattr(self, key) is not None]
        if given not in (["better", "than"], ["best", "among"]):
            raise ValueError(
                f"needs either better and than, or best and among (got {', '.join(given) or 'none'})"
            )
        for key in given:
            if getattr(self, key) == Selector() and key != "among":
                raise ValueError(f"{key} selects nothing in particular; name {', '.join(Arm._fields)}")
        return self

    @property
    def sides(self) -> tuple[Selector, Selector]:
        """The arms the claim favours, and those they are compared with."""
        return self.better or self.best or Selector(), self.than or self.among or Selector()

    @property
    def limit(self) -> float:
        """Log ratio of errors below which the claim is true."""
        return log1p(self.margin or 0.0)


def _explain(error: Any) -> str:  # noqa: ANN401  (pydantic's ErrorDetails)
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        block = Claim if len(error["loc"]) == 1 else Where if error["loc"][0] == "on" else Selector
        return f"{where}: unknown key; allowed are: {', '.join(block.model_fields)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing" or not where:
        return f"{where}: {message}".removeprefix(": ")
    return f"{where}: {message} (got {error['input']!r})"


def _parse(raw: object, place: int, path: Path | str) -> Claim:
    if not isinstance(raw, dict):
        raise GeoladderError(f"{path}: claim number {place} must be a mapping with an id, got {raw!r}")
    try:
        return Claim.model_validate(raw)
    except ValidationError as problem:
        name = f"claim {raw['id']}" if "id" in raw else f"claim number {place}"
        lines = "\n".join(f"  {_explain(error)}" for error in problem.errors())
        raise GeoladderError(f"{path}: {name} is not valid:\n{lines}") from None


def load_claims(path: Path | str) -> list[Claim]:
    """Read a YAML list of claims.

    Raises:
        GeoladderError: no such file, not YAML, no claims in it, an invalid claim, or an id used twice.
    """
    raw = read_yaml(path, _Loader)
    if not isinstance(raw, list) or not raw:
        raise GeoladderError(
            f"{path} must be a YAML list of claims (- id: ...), got {type(raw).__name__}, or nothing"
        )
    claims = [_parse(item, place, path) for place, item in enumerate(raw, 1)]
    ids = [claim.id for claim in claims]
    if repeated := [name for name in ids if ids.count(name) > 1]:
        raise GeoladderError(f"{path}: the id {repeated[0]} is used twice; ids must be unique")
    return claims
