"""Reading a study file, and saying in the user's own terms what is wrong with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from geoladder.errors import GeoladderError
from geoladder.study.block import Block
from geoladder.study.study import Study
from geoladder.suggest import nearest
from geoladder.text import read_yaml

SHOWN_CHARACTERS = 200
"""Of a wrong value, at most."""
YTE = "__use_yte__"
"""Key at which Snakemake takes a file for a template."""


def _keys_at(location: list[int | str]) -> list[str]:
    """Keys of the study's block at a pydantic error location."""
    block: type[Block] = Study
    for step in location:
        if step in block.model_fields:
            block = next(_blocks_in(block.model_fields[str(step)].annotation), block)
    return list(block.model_fields)


def _blocks_in(annotation: Any) -> Iterator[type[Block]]:  # noqa: ANN401  (annotations have no common type)
    if isinstance(annotation, type) and issubclass(annotation, Block):
        yield annotation
    for inner in get_args(annotation):
        yield from _blocks_in(inner)


def _explain(error: Any) -> str:  # noqa: ANN401  (pydantic's ErrorDetails)
    # Steps with a bracket are not the study's: they say which of several types was tried.
    where = ".".join(str(step) for step in error["loc"] if "[" not in str(step)) or "study"
    if error["type"] == "extra_forbidden":
        *location, key = error["loc"]
        return f"{where}: unknown key{nearest(str(key), _keys_at(location))}"
    got = "" if error["type"] in {"missing", "value_error"} else f" (got {_shown(error['input'])})"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}{got}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) < SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."


def parse_study(raw: dict[str, Any], source: str = "config.yaml") -> Study:
    """Validate a study of plain dictionaries; raises GeoladderError that names every bad key and what is allowed."""
    try:
        return Study.model_validate(raw)
    except ValidationError as problem:
        lines = "\n".join(f"  {_explain(error)}" for error in problem.errors())
        raise GeoladderError(f"{source} is not a valid study:\n{lines}") from None


def read_study(path: Path | str) -> dict[str, Any]:
    """A study file as plain dictionaries, not yet validated.

    Raises:
        GeoladderError: there is no such file, or none that `geoladder.text.read_yaml` takes, or it is a template,
            whose code Snakemake would run.
    """
    path = Path(path)
    if not path.exists():
        raise GeoladderError(
            f"no study at {path.resolve()}; give --study FILE or run from the project's root"
        )
    raw = read_yaml(path)
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        raise GeoladderError(f"{path} is no study, but {_shown(raw)}; a study has blocks such as `pretrain:`")
    if YTE in raw:
        raise GeoladderError(f"{path} is a template with code ({YTE}), and no study; write out what it makes")
    return raw


def load_study(path: Path | str) -> Study:
    """Read and validate a study file; raises GeoladderError as `read_study`, or where it is no valid study."""
    return parse_study(read_study(path), str(path))
