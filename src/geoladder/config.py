"""The blocks of config.yaml as types: every key, its unit, its default and what it may be.

This is the only place with defaults. `geoladder.study` puts the blocks together, `geoladder.load` reads a file,
and `geoladder.specs` cuts out what one node of the graph depends on.
"""

import json
import re
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from geoladder.address import resolve
from geoladder.errors import GeoladderError

Architecture = Literal["unet", "vit_upernet", "mamba_upernet", "geoaware_unet", "mamba2d", "rs3mamba"]
Task = Literal["roads", "buildings", "landcover"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]

Box = tuple[
    Annotated[float, Field(ge=-90, le=90)],
    Annotated[float, Field(ge=-180, le=180)],
    Annotated[float, Field(ge=-90, le=90)],
    Annotated[float, Field(ge=-180, le=180)],
]
"""South, west, north, east in degrees; west > east crosses the date line."""
RealSource = Literal["majortom", "tree", "fasttom_tree", "globe", "auto"]
"""Layouts of archives that exist; see docs/archives.md."""

CORPUS_KEY = re.compile(r"^(?P<name>[a-z][a-z0-9_]*)(@(?P<top>\d+)/(?P<bottom>\d+))?$")


def _corpus_key(value: str) -> str:
    match = CORPUS_KEY.match(value)
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


class Block(BaseModel):
    """A block of the study: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def canonical(self) -> str:
        """Sorted JSON without white space: the same text for the same meaning."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


class Earth(Block):
    """The synthetic Earth. Used by corpora and benches whose source is `synthetic`; see docs/synthetic_earth.md."""

    seed: Seed = Field(
        2506, description="names the Earth; another seed is another Earth on the same climate map"
    )
    tile_px: Annotated[int, Field(ge=48, le=1068, multiple_of=12)] = Field(
        192, description="side of a tile in 10 m pixels; real MajorTOM tiles have 1068"
    )
    styles: Count = Field(64, description="vegetation and settlement styles each; more make the tail longer")
    zipf_exponent: Positive = Field(
        1.1, description="a style of rank r has frequency proportional to r^-exponent"
    )
    regional_share: Share = Field(0.6, description="of styles that are the region's own")
    noise_reflectance: Annotated[float, Field(ge=0)] = Field(
        0.003, description="standard deviation of sensor noise"
    )
    haze: Annotated[float, Field(ge=0)] = Field(1.0, description="multiplier of residual haze; 0: none")
    texture: Annotated[float, Field(ge=0)] = Field(1.0, description="multiplier of within-class texture")
    settlement: Annotated[float, Field(ge=0)] = Field(1.0, description="multiplier of settled land")
    ocean_share: Share = Field(0.15, description="of open-ocean cells in an all-Earth archive")
    offset_share: Share = Field(
        0.4, description="of products of baseline 04.00 or later, which carry +1000 DN"
    )


def _address(value: str) -> str:
    try:
        resolve(value)
    except GeoladderError as problem:
        raise ValueError(str(problem)) from None
    return value


class Select(Block):
    """Which tiles of an archive a corpus takes, by metadata. The ledger names the limit a tile fell to."""

    fraction: Fraction = Field(
        Fraction(1),
        description="of the archive's grid cells, nested: 1/16",
        gt=0,
        le=1,
        exclude_if=lambda value: value == 1,
    )
    seed: Seed = Field(0, description="draws the fraction", exclude_if=lambda value: value == 0)
    since: date | None = Field(None, description="first day of acquisition, 2018-01-01")
    until: date | None = Field(None, description="last day of acquisition, whole")
    boxes: list[Box] = Field(
        [], description="[south, west, north, east] degrees each, around tile centres; west > east: date line"
    )
    cells: Path | None = Field(None, description="text file, a grid cell like 433D_629L on each line")
    max_cloud_percent: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None, description="of this corpus; `cleaning` limits all"
    )
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

    source: Literal["synthetic", "majortom", "tree", "fasttom_tree", "globe", "auto"] = Field(
        "synthetic",
        description="`majortom`: metadata.parquet and images/, as on the hub; `tree`: that extracted into folders; "
        "`fasttom_tree`: the released FastTOM; `globe`: npy files of PhilEO Globe; `auto`: told by the folder",
    )
    path: Path | None = Field(None, description="folder of a source that is not synthetic")
    url: Annotated[str, AfterValidator(_address)] | None = Field(
        None,
        description="in place of a path, for `majortom`: https://host/folder or hf://datasets/owner/name@commit; "
        "what `select` takes is fetched to data/<corpus>/archive",
        exclude_if=lambda value: value is None,
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
        exclude_if=lambda value: value == "none",
    )
    water_raster: Path | None = Field(
        None,
        description="for derive: GeoTIFF, above 0 for water; none: sea of the packaged climate map",
        exclude_if=lambda value: value is None,
    )
    max_ice_share: Share | None = Field(
        None,
        description="for derive: of a quadrant with an ice-cap climate; none: no limit, as in FastTOM",
        exclude_if=lambda value: value is None,
    )
    climate: Literal["sampled", "stored"] = Field(
        "sampled",
        description="`stored`: a patch's climate is the commonest of its labels; for `globe`",
        exclude_if=lambda value: value == "sampled",
    )
    select: Select = Field(
        Select(), description="which tiles are taken", exclude_if=lambda value: value == Select()
    )

    @model_validator(mode="after")
    def _path_goes_with_source(self) -> Self:
        if self.source == "synthetic" and (self.path is not None or self.url is not None):
            raise ValueError(
                "`path` and `url` belong to a source that is not synthetic, such as source: majortom"
            )
        if self.url is not None and (self.source != "majortom" or self.path is not None):
            raise ValueError("`url` belongs to source: majortom, and stands in place of a `path`")
        if self.source != "synthetic" and self.path is None and self.url is None:
            raise ValueError(
                f"source: {self.source} needs a `path`, the archive's folder (majortom: or a `url`)"
            )
        return self

    @model_validator(mode="after")
    def _options_go_with_source(self) -> Self:
        if self.derive == "fasttom" and self.source in ("fasttom_tree", "globe"):
            raise ValueError(
                f"derive: fasttom cuts quadrants of whole MajorTOM tiles, which {self.source} has not"
            )
        if self.derive == "none" and (self.water_raster is not None or self.max_ice_share is not None):
            raise ValueError("`water_raster` and `max_ice_share` belong to derive: fasttom")
        if self.climate == "stored" and self.source not in ("globe", "auto"):
            raise ValueError("climate: stored belongs to source: globe, whose patches have labels")
        return self


class Cleaning(Block):
    """Which tiles and chips are usable. Everything dropped is counted by reason in data/<corpus>/ledger.csv."""

    harmonise: Literal["baseline", "none"] = Field(
        "baseline", description="subtract 1000 DN from products of processing baseline 04.00 and later"
    )
    max_cloud_percent: Annotated[float, Field(ge=0, le=100)] = 80.0
    max_nodata_share: Share = Field(0.99, description="of a tile, by the metadata")
    max_corrupt_share: Share = Field(
        0.1, description="of the rows; more unreadable rows than this stop the run"
    )
    chip_px: Annotated[int, Field(ge=16, le=1024, multiple_of=4)] = Field(
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
    share: Annotated[float, Field(gt=0, lt=1)] = Field(0.15, description="of all grid cells, by stable hash")
    chips: Count = Field(1024, description="at most so many, drawn once")
    bench_buffer_km: Annotated[float, Field(ge=0)] = Field(
        20.0, description="validation tiles nearer than this to a bench test tile are dropped"
    )


class Bench(Block):
    """PhilEO Bench: the downstream tiles."""

    source: Literal["synthetic", "phileo"] = "synthetic"
    path: Path | None = Field(None, description="folder of a `phileo` source: *_s2.npy and *_label_*.npy")
    patch_px: Annotated[int, Field(ge=16, le=512, multiple_of=4)] = Field(
        32, description="side of a synthetic patch in 10 m pixels; real ones have 128"
    )
    train_tiles: Count = Field(4, description="per region, synthetic")
    test_tiles: Count = Field(1, description="per region, synthetic")
    patches_per_tile: Count = Field(36, description="per tile and date, synthetic")
    seed: Seed = 7

    @model_validator(mode="after")
    def _path_goes_with_source(self) -> Self:
        if (self.source == "phileo") != (self.path is not None):
            raise ValueError("`path` belongs to source: phileo, and only to it")
        return self


class LabelRaster(Block):
    """A map of classes of the whole Earth; its class at a chip's centre is one more thing to predict."""

    raster: Path = Field(
        description="GeoTIFF of integers, such as landcover_4326.tif of the authors' statics"
    )
    codes: Annotated[list[int], Field(min_length=2)] = Field(
        description="the raster's values, one class each; chips with any other value have no label"
    )

    @model_validator(mode="after")
    def _codes_differ(self) -> Self:
        if len(set(self.codes)) != len(self.codes):
            raise ValueError(f"codes {self.codes} must differ from one another")
        return self


LabelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Objective(Block):
    """Pretraining objective (arXiv 2506.14765): masked reconstruction, geo-location, Köppen-Geiger class."""

    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.6
    fill: Literal["mean", "zero", "noise"] = Field(
        "mean",
        description="what hidden pixels are replaced by: the image's own visible mean, 0, or fixed noise; wholly "
        "hidden patches of token models are a learned token besides",
        exclude_if=lambda fill: fill == "mean",
    )
    mask_block_px: Count = Field(4, description="side of a hidden block, 10 m pixels")
    masked_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="of the squared error on hidden pixels"
    )
    visible_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="of the squared error on visible pixels"
    )
    geo_weight: Annotated[float, Field(ge=0)] = 0.05
    climate_weight: Annotated[float, Field(ge=0)] = 0.02
    labels: dict[LabelName, LabelRaster] = Field(
        {}, description="by name: classes of other maps to predict", exclude_if=lambda labels: not labels
    )
    label_weight: Annotated[float, Field(ge=0)] = Field(
        0.02, description="of the cross-entropy of each", exclude_if=lambda weight: weight == 0.02
    )

    @property
    def label_sizes(self) -> dict[str, int]:
        """Classes of each further map, by its name."""
        return {name: len(label.codes) for name, label in self.labels.items()}


class Cells(Block):
    """A block of the pretraining grid: the product of its lists."""

    corpora: Annotated[list[CorpusKey], Field(min_length=1)]
    architectures: Annotated[list[Architecture], Field(min_length=1)]
    sizes: Annotated[list[str], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]


class PretrainRates(Block):
    """Peak learning rates at each family's base width (docs/ladder.md); other widths follow from the width rule.

    Those of the first three were tuned on the synthetic Earth's CPU rungs; the others exist only at paper size, where
    nothing was tuned: they are what the authors' rates come to on 32 devices.
    """

    unet: Positive = 0.008
    vit_upernet: Positive = 0.011
    mamba_upernet: Positive = 0.009
    geoaware_unet: Positive = 0.0005
    mamba2d: Positive = 0.0005
    rs3mamba: Positive = 0.0003


class FinetuneRates(Block):
    """Peak learning rates of fine-tuning at each family's base width; the same for pretrained and scratch."""

    unet: Positive = 0.012
    vit_upernet: Positive = 0.008
    mamba_upernet: Positive = 0.008
    geoaware_unet: Positive = 0.001
    mamba2d: Positive = 0.001
    rs3mamba: Positive = 0.0005
    pixel: Positive = 0.012


class Rung(Block):
    """Settings of one architecture or one architecture-size that differ from the study's."""

    lr: Positive | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None


class Pretrain(Block):
    """Pretraining: every cell sees the same number of samples, whatever its corpus."""

    grid: Annotated[list[Cells], Field(min_length=1)]
    samples: Count = Field(8192, description="training chips seen, with repetition")
    batch: Count = 32
    lr: PretrainRates = PretrainRates()
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    gradient_clip: Positive = 1.0
    transform: Literal["sqrt", "linear"] = Field(
        "sqrt",
        description="of reflectance, before standardisation; sqrt keeps cloud and snow from ruling the loss",
    )
    checkpoint_every: Count = Field(100, description="steps between two resumable checkpoints")
    objective: Objective = Objective()
    rungs: dict[str, Rung] = Field({}, description="by architecture (`unet`) or architecture-size (`unet-s`)")
    tensorboard: bool = False
    read: Literal["chips", "tiles"] = Field(
        "chips", description="`tiles`: random crops straight from the archive, new ones each epoch"
    )
    crops_per_tile: Count = Field(16, description="crops taken each time a tile is read; for read: tiles")
    shuffle_window: Annotated[int, Field(ge=4)] = Field(
        960, description="tiles mixed at a time, over all devices; for read: tiles"
    )
    code_changes: Literal["warn", "rerun"] = Field(
        "warn", description="whether cells pretrained by older code are kept (and reported) or trained again"
    )


class Sweep(Block):
    """Learning-rate sweep: does a family's best base rate stay put as its rungs widen? See studies/lr.yaml."""

    corpus: CorpusKey
    architectures: Annotated[list[Architecture], Field(min_length=1)]
    sizes: Annotated[list[str], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    factors: Annotated[list[Positive], Field(min_length=3)] = Field(
        [0.25, 0.5, 1.0, 2.0, 4.0], description="of the rate the study gives each rung"
    )


class Arms(Block):
    """A block of fine-tuning arms: the product of its lists. `scratch` is the same architecture, untrained."""

    corpora: Annotated[list[CorpusKey], Field(min_length=1)]
    architectures: Annotated[list[Architecture], Field(min_length=1)]
    sizes: Annotated[list[str], Field(min_length=1)]


class Finetune(Block):
    """Few-shot fine-tuning on PhilEO Bench."""

    grid: Annotated[list[Arms], Field(min_length=1)]
    tasks: Annotated[list[Task], Field(min_length=1)] = ["roads", "buildings", "landcover"]
    n: Annotated[list[Count], Field(min_length=1)] = Field([4, 16, 64], description="patches per bucket")
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(
        [0, 1, 2], description="draw, head and order; shared by all arms"
    )
    pretrain_seed: Literal["same"] | Seed = Field(
        "same",
        description="`same`: curve seed k starts from pretraining seed k; or one fixed pretraining seed",
    )
    steps: Count = 160
    batch: Count = 16
    lr: FinetuneRates = FinetuneRates()
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    validations: Count = Field(
        4, description="evaluations on the val patches, evenly spaced; the best one is tested"
    )
    mode: Literal["full", "frozen", "probe"] = "full"
    test_patches: Count = Field(512, description="at most so many at natural density, drawn once")
    code_changes: Literal["warn", "rerun"] = "rerun"


class Gates(Block):
    """What the synthetic Earth must show before a claim rests on it."""

    architecture: Architecture = "unet"
    size: str = "s"
    n: Count = Field(256, description="patches per bucket: 'many labels'; none of finetune.n")
    steps: Count = Field(450, description="optimiser steps of these runs")
    batch: Count = 32
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    min_margin: Share = Field(
        0.03, description="U-Net over per-pixel model: R2 (roads, buildings) or accuracy"
    )


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


class Compute(Block):
    """How one job computes. Which node it runs on, and for how long, is the profile's business."""

    threads: Count = 1
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto", description="auto: bf16-mixed on GPUs that have it"
    )
    devices: Count = Field(1, description="GPUs, or CPU processes, that share each batch; over all nodes")
    nodes: Count = Field(1, description="machines of a cluster that share the devices of a cell evenly")
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        "auto", description="`ddp`: each device holds the whole model (auto: this); `fsdp`: a part of it"
    )
    micro_batch: Count | None = Field(
        None,
        description="samples in one pass of one device; devices x micro_batch x passes = pretrain.batch",
    )
    activation_checkpointing: bool = Field(
        False, description="compute the inside of blocks again in the backward pass: less memory, more time"
    )
    fetch_jobs: Count = Field(
        1, description="jobs that fetch an archive's parts side by side; choose before the first run"
    )
    connections: Count = Field(4, description="of one fetching job to the server, at most at one time")
    chip_jobs: Count = Field(
        1, description="jobs that cut an archive's chips side by side; choose before the first run"
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        0, description="processes of each device that read tiles; for pretrain.read: tiles"
    )
    compile: bool = Field(False, description="torch.compile of the blocks; needs a C++ compiler, or a GPU")
