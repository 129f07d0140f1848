"""Where pretraining data come from: archives, selections, cleaning, the common validation set."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from geoladder.study.address import resolve
from geoladder.study.block import (
    Block,
    Count,
    Day,
    NotNegative,
    Portion,
    Positive,
    Real,
    Seed,
    Share,
    Whole,
    collected,
)

Percent = Annotated[Real, Field(ge=0, le=100)]
Latitude = Annotated[Real, Field(ge=-90, le=90)]
Longitude = Annotated[Real, Field(ge=-180, le=180)]
Box = tuple[Latitude, Longitude, Latitude, Longitude]
"""South, west, north, east in degrees; west > east crosses the date line."""

ArchiveSource = Literal["majortom", "tree", "fasttom_tree", "globe"]
RealSource = Literal[ArchiveSource, "auto"]
"""Layouts of archives that exist; see docs/archives.md."""


def _corpus_key(value: str) -> str:
    match = re.match(r"^(?P<name>[a-z][a-z0-9_]*)(@(?P<top>\d+)/(?P<bottom>\d+))?$", value)
    if match is None:
        raise ValueError(
            f"'{value}' is no corpus; write a name, or a name with a nested fraction: majortom@1/16"
        )
    if match["top"] and not 0 < int(match["top"]) <= int(match["bottom"]):
        raise ValueError(f"the fraction in '{value}' must lie in (0, 1]")
    return value


CorpusKey = Annotated[str, AfterValidator(_corpus_key)]


def corpus_name(key: str) -> str:
    """Archive a corpus key draws from: `majortom@1/16` -> `majortom`."""
    return key.partition("@")[0]


def corpus_fraction(key: str) -> Fraction:
    """Share of the archive's grid cells a corpus key keeps: `majortom@1/16` -> 1/16, `majortom` -> 1."""
    return Fraction(key.partition("@")[2] or "1")


def corpus_slug(key: str) -> str:
    """Corpus key as a folder name: `majortom@1/16` -> `majortom@1-16`."""
    return key.replace("/", "-")


class Earth(Block):
    """The synthetic Earth. Used by corpora and benches whose source is `synthetic`; see docs/synthetic_earth.md."""

    seed: Seed = Field(
        2506, description="names the Earth; another seed is another Earth on the same climate map"
    )
    tile_px: Annotated[Whole, Field(ge=48, le=1068, multiple_of=12)] = Field(
        192, description="side of a tile in 10 m pixels; real MajorTOM tiles have 1068"
    )
    styles: Count = Field(64, description="vegetation and settlement styles each; more make the tail longer")
    zipf_exponent: Positive = Field(
        1.1, description="a style of rank r has frequency proportional to r^-exponent"
    )
    regional_share: Share = Field(0.6, description="of styles that are the region's own")
    noise_reflectance: NotNegative = Field(0.003, description="standard deviation of sensor noise")
    haze: NotNegative = Field(1.0, description="multiplier of residual haze; 0: none")
    texture: NotNegative = Field(1.0, description="multiplier of within-class texture")
    settlement: NotNegative = Field(1.0, description="multiplier of settled land")
    ocean_share: Share = Field(0.15, description="of open-ocean cells in an all-Earth archive")
    offset_share: Share = Field(
        0.4, description="of products of baseline 04.00 or later, which carry +1000 DN"
    )


def _address(value: str) -> str:
    with collected():
        resolve(value)
    return value


class Select(Block):
    """Which tiles of an archive a corpus takes, by metadata. The ledger names the limit a tile fell to."""

    fraction: Portion = Field(
        Fraction(1), description="of the archive's grid cells, nested: 1/16", gt=0, le=1
    )
    seed: Seed = Field(0, description="draws the fraction")
    since: Day | None = Field(None, description="first day of acquisition, 2018-01-01")
    until: Day | None = Field(None, description="last day of acquisition, whole")
    boxes: list[Box] = Field(
        [], description="[south, west, north, east] degrees each, around tile centres; west > east: date line"
    )
    cells: Path | None = Field(None, description="text file, a grid cell like 433D_629L on each line")
    max_cloud_percent: Percent | None = Field(None, description="of this corpus; `cleaning` limits all")
    max_nodata_share: Share | None = Field(None, description="of this corpus; `cleaning` limits all")
    min_land_share: Share = Field(0.0, description="of a tile, by the packaged climate map (12 km)")

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if self.since and self.until and self.since > self.until:
            raise ValueError(f"since {self.since} is after until {self.until}")
        for south, west, north, east in self.boxes:
            if south >= north:
                raise ValueError(
                    f"box [{south:g}, {west:g}, {north:g}, {east:g}] must be [south, west, north, east], "
                    "south below north"
                )
        return self


class Corpus(Block):
    """One pretraining archive. docs/archives.md has an example of each source."""

    source: Literal["synthetic", RealSource] = Field(
        "synthetic",
        description="`majortom`: metadata.parquet and images/, as on the hub; `tree`: that extracted into folders; "
        "`fasttom_tree`: the released FastTOM; `globe`: npy files of PhilEO Globe; `auto`: told by the folder",
    )
    path: Path | None = Field(None, description="folder of a source that is not synthetic")
    url: Annotated[str, AfterValidator(_address)] | None = Field(
        None,
        description="in place of a path, for `majortom`: https://host/folder or hf://datasets/owner/name@commit; "
        "what `select` takes is fetched to data/<corpus>/archive",
    )
    like: Literal["majortom", "fasttom", "globe"] = Field(
        "majortom", description="what a synthetic archive imitates"
    )
    tiles: Count = Field(256, description="tiles (parquet rows) of a synthetic archive")
    seed: Seed = Field(0, description="draws the cells and dates of a synthetic archive")
    one_product_per_cell: bool = Field(
        True, description="drop later products of a grid cell; false for archives with several seasons"
    )
    derive: Literal["none", "fasttom"] = Field(
        "none",
        description="`fasttom`: of each tile only the 516 px quadrant FastTOM would keep; for `majortom`, `tree`",
    )
    water_raster: Path | None = Field(
        None, description="for derive: GeoTIFF, above 0 for water; none: sea of the packaged climate map"
    )
    max_ice_share: Share | None = Field(
        None, description="for derive: of a quadrant with an ice-cap climate; none: no limit, as in FastTOM"
    )
    climate: Literal["sampled", "stored"] = Field(
        "sampled", description="`stored`: a patch's climate is the commonest of its labels; for `globe`"
    )
    select: Select = Field(Select(), description="which tiles are taken")

    @model_validator(mode="after")
    def _options_go_with_source(self) -> Self:
        source, place = self.source, self.path or self.url
        if source == "synthetic" and place:
            raise ValueError(
                "`path` and `url` belong to a source that is not synthetic, such as source: majortom"
            )
        if self.url and (source != "majortom" or self.path):
            raise ValueError("`url` belongs to source: majortom, and stands in place of a `path`")
        if source != "synthetic" and not place:
            raise ValueError(f"source: {source} needs a `path`, the archive's folder (majortom: or a `url`)")
        if self.derive == "fasttom" and source in ("fasttom_tree", "globe"):
            raise ValueError(
                f"derive: fasttom cuts quadrants of whole MajorTOM tiles, which {source} has not"
            )
        if self.derive == "none" and (self.water_raster or self.max_ice_share is not None):
            raise ValueError("`water_raster` and `max_ice_share` belong to derive: fasttom")
        if self.climate == "stored" and source not in ("globe", "auto"):
            raise ValueError("climate: stored belongs to source: globe, whose patches have labels")
        return self


class Cleaning(Block):
    """Which tiles and chips are usable. Everything dropped is counted by reason in data/<corpus>/ledger.csv."""

    harmonise: Literal["baseline", "none"] = Field(
        "baseline", description="subtract 1000 DN from products of processing baseline 04.00 and later"
    )
    max_cloud_percent: Percent = 80.0
    max_nodata_share: Share = Field(0.99, description="of a tile, by the metadata")
    max_corrupt_share: Share = Field(
        0.1, description="of the rows; more unreadable rows than this stop the run"
    )
    exclude_bench: Literal["test", "all", "none"] = Field(
        "test",
        description="tiles whose footprint overlaps that of a bench tile, of test or of any, are dropped",
    )
    chip_px: Annotated[Whole, Field(ge=16, le=1024, multiple_of=4)] = Field(
        32, description="side of a chip, 10 m pixels"
    )
    chip_max_cloud_share: Share = 0.3
    chip_codec: Literal["none", "blosc2"] = Field(
        "none", description="of the files: `none`: memory-mapped npy; `blosc2`: the same pixels, compressed"
    )
    koppen_raster: Path | None = Field(
        None,
        description="GeoTIFF of Beck's Köppen-Geiger codes, such as the one of 1 km; none: the packaged map of 12 km",
    )


class Validation(Block):
    """The one validation set all corpora are judged on, held out by grid cell from every corpus."""

    corpus: str = Field("majortom", description="its archive is sampled; it should cover the whole Earth")
    share: Annotated[Real, Field(gt=0, lt=1)] = Field(0.15, description="of all grid cells, by stable hash")
    chips: Count = Field(1024, description="at most so many, drawn once")
    bench_buffer_km: NotNegative = Field(
        20.0, description="validation tiles nearer than this to a bench test tile are dropped"
    )
