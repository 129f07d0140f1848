r"""Maps from the names and layouts of other code's weights to ours; nothing is taken or left silently.

A map is YAML with any of these keys:

    key: state_dict                         # where the weights are, in a file that holds more: model.state_dict
    names:                                  # ours: theirs
      encoder.cls: cls_token
    rules:                                  # regular expressions on whole names; the first match wins
      - {theirs: 'blocks\.(\d+)\.attn\.qkv\.(\w+)', ours: 'encoder.blocks.\1.qkv.\2'}
    ignore:                                 # regular expressions on whole names of theirs that are not wanted
      - 'head\..*'
    initial:                                # regular expressions on whole names of ours that may be missing
      - 'decoder\..*'

Where layouts differ, a rule says how theirs becomes ours, in this order:

- `bands`: those of theirs, along the second axis, which are put into the order of ours
- `permute`: the axes of theirs in the order of ours
- `shape`: as ONNX has it, 0 keeps an axis, -1 is what is left
- `unstack: true`: entries of the first axis are weights of their own, whose numbers stand for {} in `ours`
- `part`: this is number 0, 1, ... of several of theirs that follow each other along the first axis of ours

Maps that come with the package, in `maps/`, are called by name: `mamba-ssm`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import regex
import torch
from pydantic import AfterValidator, Field, ValidationError, model_validator
from torch import Tensor

from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError, faults_of
from geoladder.study.block import Block, Whole
from geoladder.text import read_yaml
from geoladder.training.checkpoints import refuse

MAPS = Path(__file__).parent / "maps"
"""Maps that come with the package."""
PATIENCE_S = 1.0
"""Of one match; a pattern such as (a+)+ can take longer than the Earth is old."""


def _compiles(pattern: str) -> str:
    try:
        regex.compile(pattern)
    except regex.error as problem:
        raise ValueError(f"'{pattern}' is no regular expression: {problem}") from None
    return pattern


def _all_ten(bands: list[str]) -> list[str]:
    if sorted(bands) != sorted(BANDS):
        raise ValueError(
            f"`bands` are the ten {' '.join(BANDS)}, each once, in their order; got {' '.join(bands)}"
        )
    return bands


Pattern = Annotated[str, AfterValidator(_compiles)]


class Rule(Block):
    """A regular expression on a whole name of theirs, our name with its groups put in, and how layouts differ."""

    theirs: Pattern
    ours: str
    bands: Annotated[list[str], AfterValidator(_all_ten)] | None = None
    permute: list[Whole] | None = None
    shape: list[Annotated[Whole, Field(ge=-1)]] | None = None
    unstack: bool = False
    part: Annotated[Whole, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _entries_have_numbers(self) -> Self:
        if self.unstack != ("{}" in self.ours):
            raise ValueError("`unstack: true` and {} in `ours`, for the number of an entry, belong together")
        return self


class NameMap(Block):
    """Where each of their weights goes."""

    key: str | None = None
    names: dict[str, str] = Field(default_factory=dict)
    rules: list[Rule] = Field(default_factory=list)
    ignore: list[Pattern] = Field(default_factory=list)
    initial: list[Pattern] = Field(default_factory=list)

    def may_be_initial(self, ours: Iterable[str]) -> set[str]:
        """Names of ours that need not be given."""
        return {name for name in ours if any(_match(pattern, name) for pattern in self.initial)}


class Renamed(NamedTuple):
    """Their weights under our names, and how many of theirs were ignored."""

    weights: dict[str, Tensor]
    ignored: int


class _Piece(NamedTuple):
    """A weight of theirs on its way to ours: its name there, its place among several, itself."""

    theirs: str
    part: int | None
    value: Tensor


def read_map(path: Path) -> NameMap:
    """Read a map, from a file or by the name of one that comes with the package.

    Raises:
        GeoladderError: it is missing, no YAML, or of another form.
    """
    shipped = MAPS / f"{path}.yaml"
    if not path.exists() and shipped.parent == MAPS and shipped.is_file():
        path = shipped
    if not path.exists():
        names = ", ".join(sorted(file.stem for file in MAPS.glob("*.yaml")))
        raise GeoladderError(
            f"there is no map of names at {path}; those that come with the package are {names}"
        )
    try:
        return NameMap.model_validate(read_yaml(path) or {})
    except ValidationError as problem:
        raise GeoladderError(
            f"{path} is no map of names ({faults_of(problem)}); it has `key`, `names` (ours: theirs), `rules` (a "
            "list of theirs, ours: regular expressions), `ignore` and `initial` (lists), see docs/checkpoints.md"
        ) from None


def rename(theirs: Mapping[str, Tensor], names: NameMap, source: Path) -> Renamed:
    """Their weights under our names and in our layout.

    Raises:
        GeoladderError: a weight of theirs that nothing maps or ignores, a name of theirs in the map that they do not
            have, two weights for one of ours, a rule that asks for a group it does not have or whose layout does not
            fit, or a pattern that takes too long. Begins with `source`, the map.
    """
    absent = [name for name in names.names.values() if name not in theirs]
    refuse(f"{source} names weights that are not there", {"missing": absent})
    ours_of = {theirs_name: ours for ours, theirs_name in names.names.items()}
    pieces: dict[str, list[_Piece]] = {}
    ignored, extra = list[str](), list[str]()
    for name, value in theirs.items():
        if name in ours_of:
            renamed = {ours_of[name]: _Piece(name, None, value)}
        else:
            renamed = _by_rule(name, value, names, source)
        for ours, piece in renamed.items():
            pieces.setdefault(ours, []).append(piece)
        if not renamed:
            is_ignored = any(_match(pattern, name) for pattern in names.ignore)
            (ignored if is_ignored else extra).append(name)
    twice = [
        f"{ours} from {' and '.join(piece.theirs for piece in several)}"
        for ours, several in pieces.items()
        if len(several) > 1 and {piece.part for piece in several} != set(range(len(several)))
    ]
    refuse(
        f"{source} does not map every weight to a place of its own",
        {"extra, neither mapped nor ignored": extra, "given twice": twice},
    )
    return Renamed({ours: _joined(ours, several, source) for ours, several in pieces.items()}, len(ignored))


def _match(pattern: str, name: str) -> "regex.Match[str] | None":
    try:
        return regex.fullmatch(pattern, name, timeout=PATIENCE_S)
    except TimeoutError:
        raise GeoladderError(
            f"the pattern '{pattern}' takes more than {PATIENCE_S:g} s on '{name}'; write no repeats in repeats"
        ) from None


def _by_rule(name: str, value: Tensor, names: NameMap, source: Path) -> dict[str, _Piece]:
    """Pieces by our name that the first rule with this name makes of a weight; none where no rule has it."""
    for rule in names.rules:
        match = _match(rule.theirs, name)
        if match is None:
            continue
        try:
            ours = match.expand(rule.ours)
            value = _laid_out(value, rule)
            entries = list(value) if rule.unstack else [value]
            return {
                ours.replace("{}", str(number)): _Piece(name, rule.part, entry)
                for number, entry in enumerate(entries)
            }
        except (regex.error, IndexError, RuntimeError, TypeError) as problem:
            raise GeoladderError(
                f"{source}: the rule '{rule.theirs}' to '{rule.ours}' does not fit {name} of shape "
                f"{tuple(value.shape)}: {problem}"
            ) from None
    return {}


def _laid_out(value: Tensor, rule: Rule) -> Tensor:
    if rule.bands:
        value = value.index_select(1, torch.tensor([rule.bands.index(band) for band in BANDS]))
    if rule.permute is not None:
        value = value.permute(rule.permute)
    if rule.shape is not None:
        value = value.reshape([length or value.shape[axis] for axis, length in enumerate(rule.shape)])
    return value


def _joined(ours: str, pieces: list[_Piece], source: Path) -> Tensor:
    if len(pieces) == 1:
        return pieces[0].value
    try:
        return torch.cat([piece.value for piece in sorted(pieces, key=lambda piece: piece.part or 0)])
    except RuntimeError as problem:
        theirs = ", ".join(piece.theirs for piece in pieces)
        raise GeoladderError(f"{source}: {theirs} do not fit together to {ours}: {problem}") from None
