"""Reading a study file, and saying in the user's own terms what is wrong with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from geoladder.errors import GeoladderError
from geoladder.study.block import Block
from geoladder.study.study import Study
from geoladder.suggest import nearest


def _block_at(location: tuple[int | str, ...]) -> type[Block] | None:
    """Class of the study block at a pydantic error location; None where there is none."""
    block: Any = Study
    for step in location:
        if isinstance(step, int) or not (isinstance(block, type) and issubclass(block, BaseModel)):
            continue
        annotation = block.model_fields[step].annotation if step in block.model_fields else block
        block = next((t for t in _types_in(annotation) if issubclass(t, Block)), block)
    return block if issubclass(block, Block) else None


def _types_in(annotation: Any) -> Iterator[type]:  # noqa: ANN401  (annotations have no common type)
    if isinstance(annotation, type) and not getattr(annotation, "__args__", None):
        yield annotation
    for inner in getattr(annotation, "__args__", ()) or ():
        yield from _types_in(inner)


def _explain(error: Any) -> str:  # noqa: ANN401  (pydantic's ErrorDetails)
    where = ".".join(str(step) for step in error["loc"] if step != "[key]") or "study"
    if error["type"] == "extra_forbidden":
        block = _block_at(error["loc"][:-1])
        fields = dict.fromkeys(block.model_fields) if block else {}
        return f"{where}: unknown key{nearest(str(error['loc'][-1]), fields)}"
    got = "" if error["type"] in {"missing", "value_error"} else f" (got {error['input']!r})"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}{got}"


def parse_study(raw: dict[str, Any], source: str = "config.yaml") -> Study:
    """Validate a study given as plain dictionaries.

    Raises:
        GeoladderError: names every bad key, where it is, what was got and what is allowed.
    """
    try:
        return Study.model_validate(raw)
    except ValidationError as problem:
        lines = "\n".join(f"  {_explain(error)}" for error in problem.errors())
        raise GeoladderError(f"{source} is not a valid study:\n{lines}") from None


def load_study(path: Path | str) -> Study:
    """Read and validate a study file.

    Raises:
        GeoladderError: the file is missing, is not YAML, or is not a valid study.
    """
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
