"""What is made of results: fits and figures."""

from typing import Annotated, Literal

from pydantic import Field

from geoladder.study.block import Block, Seed


class Fit(Block):
    """Scaling-law fits."""

    parameters: Literal["total", "encoder", "no_norm"] = Field("total", description="how N is counted")
    bootstrap: Annotated[int, Field(ge=0)] = 400
    interval: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: Seed = 42


class Figures(Block):
    """How figures look. Nothing here touches a number."""

    width_mm: Annotated[float, Field(ge=60, le=300)] = 180.0
    font_pt: Annotated[float, Field(ge=4, le=20)] = 7.0
    palette: str = Field("colorblind", description="a seaborn palette")
