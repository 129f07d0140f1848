"""What a model's card, model.json, may hold: it comes from elsewhere as often as from a run, and is checked here."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from geoladder.errors import GeoladderError, faults_of
from geoladder.runs.digest import intact
from geoladder.text import read_object

DEEPEST = 1000
"""Blocks of a model, at most."""
WIDEST = 10**6
"""Any other number of a model, at most."""
Whole = Annotated[int, Field(strict=True, ge=0, le=WIDEST)]
Place = Annotated[int, Field(strict=True, ge=-1, le=WIDEST)]
"""Of a band among others; -1 where it is not there."""
Argument = Whole | Annotated[float, Field(strict=True)] | str | list[Place]


def _buildable(model: dict[str, Argument]) -> dict[str, Argument]:
    for name, value in model.items():
        blocks = sum(value) if isinstance(value, list) else value
        if name.startswith("depth") and isinstance(blocks, int) and blocks > DEEPEST:
            raise ValueError(f"{name} is {value}; at most {DEEPEST} blocks are built")
    return model


class Card(BaseModel, extra="allow"):
    """Keys of a card that a model is built from, where it has them."""

    architecture: str = ""
    size: str | None = None
    model: Annotated[dict[str, Argument], AfterValidator(_buildable)] = {}
    bands: Annotated[list[str], Field(min_length=1, max_length=100)] = ["B02"]
    transform: Literal["sqrt", "linear"] | None = None
    statistics: dict[str, Any] | None = None
    objective: dict[str, Any] | None = None
    fingerprint: str | None = None


def read_card(folder: Path) -> dict[str, Any]:
    """Read model.json; raises GeoladderError where it is missing, damaged, or a key holds what no card has there."""
    path = folder / "model.json"
    intact(path)
    try:
        card = read_object(path)
        Card.model_validate(card)
    except GeoladderError as problem:
        raise GeoladderError(f"{path} is no model card ({problem}); is it a finished run?") from None
    except ValidationError as problem:
        raise GeoladderError(
            f"{path} is no model card ({faults_of(problem, 3)}); take it from the folder of a run or an export"
        ) from None
    return card
