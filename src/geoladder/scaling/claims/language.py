"""Claims about runs written as data, so that the sentence of a paper and the test of it are the same few lines.

A file is a YAML list. A claim says that one *arm* (corpus, architecture, size) has less error than another, or the
least of a set::

    - id: C1
      text: The 44M U-Net pretrained on MajorTOM beats the one pretrained on Globe on roads at every n.
      source: arXiv 2506.14765 v1
      better: {architecture: unet, size: 44M, corpus: majortom}
      than: {architecture: unet, size: 44M, corpus: globe}      # or: best: {...} with among: {...} or among: all
      on: {task: roads, n: [50, 100, 500, 1000, 5000]}          # or n: all, the default
      scope: every                                              # every | most | mean
      margin: 0.01                                              # optional: not worse by more than 1 %
      note: what of the sentence is not tested                  # optional

All else being equal: a column that neither selector names has to be equal in the two arms that are compared.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from geoladder.errors import GeoladderError
from geoladder.suggest import nearest

STRICT = ConfigDict(extra="forbid")


class _Loader(yaml.SafeLoader):
    """YAML in which only true and false are booleans: plain YAML 1.1 reads the key `on` as True."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (as PyYAML declares it)
        letter: [(tag, pattern) for tag, pattern in patterns if letter in "tTfF" or not tag.endswith(":bool")]
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


def _unless_all(value: object) -> object:
    return None if value == "all" else value


def _names(value: object) -> tuple[str, ...]:
    """A name, or a list of names, as a tuple; numbers become text (`size: 44`)."""
    items = value if isinstance(value, list | tuple) else [value]
    if not items or any(isinstance(i, bool) or not isinstance(i, str | int | float) for i in items):
        raise ValueError("must be a name or a list of names")
    return tuple(str(i) for i in items)


def _counts(value: object) -> tuple[int, ...]:
    """An n, or a list of them, as a tuple."""
    items = value if isinstance(value, list | tuple) else [value]
    if not items or any(isinstance(i, bool) or not isinstance(i, int) or i <= 0 for i in items):
        raise ValueError("must be 'all', a positive integer or a list of them")
    return tuple(items)


Names = Annotated[tuple[str, ...], BeforeValidator(_names)] | None
NamesOrAll = Annotated[Names, BeforeValidator(_unless_all)]
CountsOrAll = Annotated[
    Annotated[tuple[int, ...], BeforeValidator(_counts)] | None, BeforeValidator(_unless_all)
]


@dataclass(frozen=True, config=STRICT)
class Selector:
    """Which arms: the allowed values of each column; None is any."""

    corpus: Names = None
    architecture: Names = None
    size: Names = None

    def matches(self, arm: Arm) -> bool:
        """Whether an arm has one of the allowed values in every column."""
        return all(
            allowed is None or value in allowed
            for allowed, value in zip((self.corpus, self.architecture, self.size), arm, strict=True)
        )

    def __str__(self) -> str:
        """As in YAML, of the columns it names."""
        named = ((column, getattr(self, column)) for column in Arm._fields)
        return "{" + ", ".join(f"{column}: {' or '.join(v)}" for column, v in named if v) + "}"


def _all_or_selector(value: object) -> object:
    return {} if value == "all" else value


Among = Annotated[Selector | None, BeforeValidator(_all_or_selector)]


@dataclass(frozen=True, config=STRICT)
class Where:
    """Where a claim is made; None is everywhere that the table can tell."""

    task: NamesOrAll = None
    n: CountsOrAll = None
    metric: NamesOrAll = None

    def matches(self, task: str, metric: str, n: int) -> bool:
        """Whether a task, metric and n are among those of the claim."""
        pairs = ((self.task, task), (self.metric, metric), (self.n, n))
        return all(allowed is None or value in allowed for allowed, value in pairs)


@dataclass(frozen=True, config=STRICT)
class Claim:
    """One claim: `better` than `than`, or `best` among `among`.

    Attributes:
        id: short name, unique in its file.
        text: the sentence.
        source: who said it, and where.
        better: the arms said to have less error.
        than: the arms said to have more.
        best: the arms said to have the least error ...
        among: ... of these (`all`: of all in the table).
        on: tasks and n.
        scope: at `every` comparison, at `most` of them, or in the `mean` over them (of log error).
        margin: if given, "not worse by more than this" (relative; 0.01 is 1 %) takes the place of "better".
        note: what of the sentence is not tested.
    """

    id: Annotated[str, Field(min_length=1)]
    text: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    better: Selector | None = None
    than: Selector | None = None
    best: Selector | None = None
    among: Among = None
    on: Where = Where()
    scope: Literal["every", "most", "mean"] = "every"
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    note: str = ""

    @model_validator(mode="after")
    def _one_form(self) -> "Claim":
        given = tuple(key for key in ("better", "than", "best", "among") if getattr(self, key) is not None)
        if given not in {("better", "than"), ("best", "among")}:
            raise ValueError(
                f"needs either better and than, or best and among (got {', '.join(given) or 'none'})"
            )
        for key in given:
            if getattr(self, key) == Selector() and key != "among":
                raise ValueError(f"{key} selects nothing in particular; name {', '.join(Arm._fields)}")
        return self

    @property
    def first(self) -> Selector:
        """The arms the claim favours."""
        return self.better or self.best or Selector()

    @property
    def second(self) -> Selector:
        """The arms they are compared with."""
        return self.than or self.among or Selector()


_BLOCKS: Mapping[str, type] = {"on": Where} | dict.fromkeys(("better", "than", "best", "among"), Selector)
_CLAIM = TypeAdapter(Claim)


def _explain(error: Any) -> str:  # noqa: ANN401  (pydantic's ErrorDetails)
    where = ".".join(str(step) for step in error["loc"])
    if error["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        block = _BLOCKS.get(str(error["loc"][0]), Claim) if len(error["loc"]) > 1 else Claim
        return f"{where}: unknown key; allowed are: {', '.join(f.name for f in fields(block))}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing" or not where:
        return f"{where}: {message}".removeprefix(": ")
    return f"{where}: {message} (got {error['input']!r})"


def _parse(raw: object, place: int, path: Path) -> Claim:
    if not isinstance(raw, dict):
        raise GeoladderError(f"{path}: claim number {place} must be a mapping with an id, got {raw!r}")
    name = f"claim {raw['id']}" if "id" in raw else f"claim number {place}"
    try:
        return _CLAIM.validate_python(raw)
    except ValidationError as problem:
        lines = "\n".join(f"  {_explain(error)}" for error in problem.errors())
        raise GeoladderError(f"{path}: {name} is not valid:\n{lines}") from None


def load_claims(path: Path | str) -> list[Claim]:
    """Read a YAML list of claims.

    Raises:
        GeoladderError: no such file, not YAML, no claims in it, an invalid claim, or an id used twice.
    """
    path = Path(path)
    try:
        raw = yaml.load(path.read_text(), _Loader)
    except FileNotFoundError:
        raise GeoladderError(f"no claims at {path}") from None
    except yaml.YAMLError as problem:
        raise GeoladderError(f"{path} is not valid YAML: {problem}") from None
    if not isinstance(raw, list) or not raw:
        raise GeoladderError(
            f"{path} must be a YAML list of claims (- id: ...), got {type(raw).__name__}, or nothing"
        )
    claims = [_parse(item, place, path) for place, item in enumerate(raw, 1)]
    ids = [claim.id for claim in claims]
    if repeated := [name for name in ids if ids.count(name) > 1]:
        raise GeoladderError(f"{path}: the id {repeated[0]} is used twice; ids must be unique")
    return claims


def no_such(selector: Selector, arms: list[Arm]) -> str:
    """Why a selector matches none of these arms: the first column whose value none of them has."""
    for column in Arm._fields:
        wanted, values = getattr(selector, column), {getattr(arm, column) for arm in arms}
        if wanted is not None and not values & set(wanted):
            return f"no run has {column} {' or '.join(wanted)}{nearest(wanted[0], values) if values else ''}"
    return "no run has these together"
