"""Reading a study file, and saying in the user's own terms what is wrong with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from geoladder.errors import GeoladderError
from geoladder.study.block import Block
from geoladder.study.study import Study
from geoladder.suggest import nearest


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
    where = ".".join(str(step) for step in error["loc"] if step != "[key]") or "study"
    if error["type"] == "extra_forbidden":
        *location, key = error["loc"]
        return f"{where}: unknown key{nearest(str(key), _keys_at(location))}"
    got = "" if error["type"] in {"missing", "value_error"} else f" (got {error['input']!r})"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}{got}"


def parse_study(raw: dict[str, Any], source: str = "config.yaml") -> Study:
    """Validate a study of plain dictionaries; raises GeoladderError that names every bad key and what is allowed."""
    try:
        return Study.model_validate(raw)
    except ValidationError as problem:
        lines = "\n".join(f"  {_explain(error)}" for error in problem.errors())
        raise GeoladderError(f"{source} is not a valid study:\n{lines}") from None


def load_study(path: Path | str) -> Study:
    """Read and validate a study file; raises GeoladderError where it is missing, no YAML, or no valid study."""
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise GeoladderError(
            f"no study at {path.resolve()}; give --study FILE or run from the project's root"
        ) from None
    except yaml.YAMLError as problem:
        raise GeoladderError(f"{path} is not valid YAML: {problem}") from None
    return parse_study(raw or {}, str(path))
