"""A block of the study, and the numbers its keys may be."""

import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


Positive = Annotated[float, Field(gt=0)]


Count = Annotated[int, Field(ge=1)]


Seed = Annotated[int, Field(ge=0)]


class Block(BaseModel):
    """A block of the study: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def canonical(self) -> str:
        """Sorted JSON without white space: the same text for the same meaning."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
