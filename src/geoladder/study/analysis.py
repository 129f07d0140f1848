"""What is made of results: fits and figures."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from geoladder.study.block import Block, Seed
from geoladder.suggest import nearest

COLORBLIND = "colorblind"


class Fit(Block):
    """Scaling-law fits."""

    parameters: Literal["total", "encoder", "no_norm"] = Field("total", description="how N is counted")
    bootstrap: Annotated[int, Field(ge=0)] = 400
    interval: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: Seed = 42


def _palette(name: str) -> str:
    """Check what seaborn takes; its import takes a second, so it is left out for the default palette."""
    if name != COLORBLIND:
        import seaborn

        try:
            seaborn.color_palette(name, 1)
        except ValueError:
            near = nearest(name, seaborn.palettes.SEABORN_PALETTES)
            raise ValueError(f"'{name}' is no palette of seaborn or matplotlib{near}") from None
    return name


class Figures(Block):
    """How figures look. Nothing here touches a number."""

    width_mm: Annotated[float, Field(ge=60, le=300)] = 180.0
    font_pt: Annotated[float, Field(ge=4, le=20)] = 7.0
    as_printed: bool = Field(
        False, description="whether figures of the paper's numbers have its known defects, too"
    )
    palette: Annotated[str, AfterValidator(_palette)] = Field(
        COLORBLIND, description="a seaborn palette, for what has no colour of its own, as architectures have"
    )
