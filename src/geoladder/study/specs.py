"""What each node of the graph depends on, and nothing else: one canonical JSON string per node.

Equal specs, equal results. A spec is a node's only Snakemake parameter. Upstream nodes appear in it as fingerprints,
so that a change far up the graph reaches exactly what follows from it. Paths, colours, threads and comments never
appear.
"""

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from geoladder.errors import GeoladderError
from geoladder.registry import ARCHITECTURES
from geoladder.registry.architecture import Input, Kwargs, Release
from geoladder.registry.ladder import rung, scaled_lr
from geoladder.study.architectures import Mode, Transfer
from geoladder.study.block import Block
from geoladder.study.corpora import Corpus, Earth, RealSource, Select, corpus_fraction, corpus_name
from geoladder.study.downstream import Bench
from geoladder.study.linear import Linear
from geoladder.study.pretraining import Objective, Rung
from geoladder.study.recipe import Recipe
from geoladder.study.study import RANDOM, Cell, Point, Study


def _digest(path: Path | None) -> str | None:
    """Twelve digits of a small file's content; None where there is none (yet)."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path and path.is_file() else None


SUBSET_KEYS = ("protocol", "validation", "allow_short", "indices")
"""Of `bench`: how few-shot subsets are drawn from its files."""


class ArchiveSpec(Block):
    """A synthetic MajorTOM archive, or a reference to a real one."""

    corpus: Corpus
    earth: Earth | None

    @classmethod
    def of(cls, study: Study, name: str) -> Self:
        """Spec of the archive of corpus `name`; the Earth counts only for synthetic archives."""
        corpus = study.corpora[name]
        # Of a remote archive the selected tiles are all there is.
        files = {"one_product_per_cell": True, "select": corpus.select if corpus.url else Select()}
        earth = study.earth if corpus.source == "synthetic" else None
        return cls(corpus=corpus.model_copy(update=files), earth=earth)


class FetchSpec(Block):
    """The tiles of one archive to fetch from a server."""

    url: str
    select: Select
    cells: str | None = None
    """Digest of the file of cells."""

    @classmethod
    def of(cls, study: Study, name: str) -> Self:
        """Spec of the download of corpus `name`, which has a `url`."""
        corpus = study.corpora[name]
        return cls(url=str(corpus.url), select=corpus.select, cells=_digest(corpus.select.cells))


class BenchArchiveSpec(Block):
    """A synthetic PhilEO Bench, or a reference to the real one."""

    bench: Bench
    earth: Earth | None

    @classmethod
    def of(cls, study: Study) -> Self:
        """Spec of the bench's files."""
        subsets = {key: Bench.model_fields[key].default for key in SUBSET_KEYS}  # no part of the files
        bench = study.bench.model_copy(update=subsets)
        return cls(bench=bench, earth=study.earth if study.bench.source == "synthetic" else None)


class Layout(Block):
    """How the files of a real archive lie, and what of each tile counts."""

    source: RealSource = "majortom"
    derive: Literal["none", "fasttom"] = "none"
    water_raster: Path | None = None
    max_ice_share: float | None = None
    koppen_raster: Path | None = None
    """Of the ice."""
    climate: Literal["sampled", "stored"] = "sampled"

    @classmethod
    def of(cls, study: Study, name: str) -> Self:
        """Layout of corpus `name`; synthetic archives are MajorTOM parquet."""
        corpus = study.corpora[name]
        source = "majortom" if corpus.source == "synthetic" else corpus.source
        ice_raster = None if corpus.max_ice_share is None else study.cleaning.koppen_raster
        return cls.take(corpus, source=source, koppen_raster=ice_raster)


class IndexSpec(Block):
    """The usable tiles of one archive, and which of them are held out for validation."""

    archive: str
    bench: str
    one_product_per_cell: bool
    max_cloud_percent: float
    max_nodata_share: float
    max_corrupt_share: float
    harmonise: Literal["baseline", "none"]
    validation_share: float
    bench_buffer_km: float
    exclude_bench: Literal["test", "all", "none"] = "test"
    layout: Layout = Layout()
    select: Select = Select()
    cells: str | None = None
    """Digest of the file of cells: another content, another index."""

    @classmethod
    def of(cls, study: Study, name: str) -> Self:
        """Spec of data/<name>/index.parquet."""
        corpus = study.corpora[name]
        select = corpus.select
        if corpus.url:  # the fraction was drawn from the whole archive
            select = select.model_copy(update={"fraction": Fraction(1), "seed": 0})
        upstream = {
            "archive": ArchiveSpec.of(study, name).fingerprint,
            "bench": BenchArchiveSpec.of(study).fingerprint,
            "cells": _digest(select.cells),
        }
        taken = {
            "select": select,
            "layout": Layout.of(study, name),
            "validation_share": study.validation.share,
        }
        return cls.take(study.cleaning, study.validation, corpus, **upstream, **taken)


class ChipsSpec(Block):
    """The chips cut from one index."""

    index: str
    chip_px: int
    chip_max_cloud_share: float
    max_corrupt_share: float
    chip_codec: Literal["none", "blosc2"] = "none"
    split: Literal["val"] | None = None
    """Of the tiles to cut; where training reads tiles, only those of validation."""
    layout: Layout = Layout()
    koppen_raster: Path | None = None

    @property
    def pixels(self) -> str:
        """Fingerprint of the chips' content, which is the same in every file format."""
        return self.model_copy(update={"chip_codec": "none"}).fingerprint

    @classmethod
    def of(cls, study: Study, name: str) -> Self:
        """Spec of data/<name>/chips/."""
        index, layout = IndexSpec.of(study, name).fingerprint, Layout.of(study, name)
        split = "val" if study.pretrain.read == "tiles" else None
        return cls.take(study.cleaning, index=index, layout=layout, split=split)


class LabelsSpec(Block):
    """Labels of the chips of the validation corpus, which only the synthetic Earth knows."""

    earth: Earth
    chips: str
    tasks: list[str]

    @classmethod
    def of(cls, study: Study) -> Self:
        """Spec of data/<name>/labels/; only for studies with an oracle."""
        if study.oracle is None:
            raise GeoladderError("this study has no `oracle` block, for which alone labels of chips are made")
        chips = ChipsSpec.of(study, study.validation.corpus).pixels
        return cls(earth=study.earth, chips=chips, tasks=study.oracle.tasks)


class StatsSpec(Block):
    """Band statistics, taken once, from the training chips of the validation corpus.

    Where training reads tiles, which are not cut into chips, from those of validation.
    """

    chips: str
    split: Literal["train", "val"] = "train"

    @classmethod
    def of(cls, study: Study) -> Self:
        """Spec of data/stats.json."""
        chips = ChipsSpec.of(study, study.validation.corpus)
        return cls(chips=chips.pixels, split=chips.split or "train")


class TileReading(Block):
    """How crops are taken straight from an archive's tiles; their side is that of the validation chips."""

    crops_per_tile: int
    shuffle_window: int
    max_cloud_share: float
    layout: Layout = Layout()
    koppen_raster: Path | None = None

    @classmethod
    def of(cls, study: Study, name: str) -> Self | None:
        """None where the study reads chips."""
        if study.pretrain.read == "chips":
            return None
        layout, cloudiest = Layout.of(study, name), study.cleaning.chip_max_cloud_share
        return cls.take(study.pretrain, study.cleaning, layout=layout, max_cloud_share=cloudiest)


class TrainingSpec(Block):
    """What pretraining and fine-tuning runs have in common."""

    corpus: str
    architecture: str
    size: str
    model: Kwargs
    seed: int
    stats: str
    transform: Literal["sqrt", "linear"]
    batch: int
    lr: float
    weight_decay: float
    warmup_share: float
    precision: Literal["auto", "32-true", "bf16-mixed"]
    code: str | None
    """Fingerprint of the code where the study lets its edits rerun this run."""


class PretrainSpec(TrainingSpec):
    """One pretraining run."""

    fraction: Fraction
    chips: str
    validation_chips: int
    samples: int
    gradient_clip: float
    checkpoint_every: int
    objective: Objective
    tensorboard: bool
    tiles: TileReading | None = None
    labels: str | None = Field(None, exclude_if=lambda labels: labels is None)
    """Of the chips, where the objective has tasks."""

    @classmethod
    def of(cls, study: Study, cell: Cell, code: str | None = None) -> Self:
        """Spec of one cell."""
        pretrain, name = study.pretrain, corpus_name(cell.corpus)
        chosen = rung(cell.architecture, cell.size)
        settings: dict[str, object] = {"lr": scaled_lr(pretrain.lr[cell.architecture], chosen)}
        for key in (cell.architecture, f"{cell.architecture}-{cell.size}"):
            settings |= pretrain.rungs.get(key, Rung()).model_dump(exclude_none=True)
        return cls.take(
            pretrain,
            study.compute,
            **cell._replace(corpus=name)._asdict(),
            **settings,
            fraction=corpus_fraction(cell.corpus),
            model=chosen.kwargs,
            code=code,
            chips=ChipsSpec.of(study, name).pixels,
            stats=StatsSpec.of(study).fingerprint,
            validation_chips=study.validation.chips,
            tiles=TileReading.of(study, name),
        )

    @classmethod
    def of_oracle(cls, study: Study, cell: Cell, code: str | None = None) -> Self:
        """Spec of one cell of the oracle: it sees every pixel of all training chips, and learns their labels."""
        labels, name = LabelsSpec.of(study), study.validation.corpus
        objective = Objective(mask_ratio=0, masked_weight=0, targets={}, tasks=labels.tasks)
        samples = (study.oracle and study.oracle.samples) or study.pretrain.samples
        changed = {"objective": objective, "labels": labels.fingerprint, "samples": samples}
        return cls.of(study, cell._replace(corpus=name), code).model_copy(update=changed)


class ReleasedSpec(Block):
    """The weights of one external architecture-size, from where they were released to our checkpoint."""

    architecture: str
    size: str
    model: Kwargs
    weights: str
    input: Input
    release: Release

    @classmethod
    def of(cls, study: Study, architecture: str, size: str) -> Self:
        """Spec of the checkpoint of a size that stands under `external` in the study."""
        entry, chosen = ARCHITECTURES[architecture], rung(architecture, size)
        return cls.model_validate(
            {
                "architecture": architecture,
                "size": size,
                "model": chosen.kwargs,
                "weights": study.external[f"{architecture}-{size}"].weights,
                "input": entry.input,
                "release": entry.release,
            }
        )


def pixels_of(study: Study, architecture: str, size: str) -> dict[str, object]:
    """Values of the keys `transform`, `harmonise` and `input` of a spec: how pixels are made for an architecture.

    External ones get digital numbers standardised by constants of their own, see `training.patches.input_of`.
    """
    given = ARCHITECTURES[architecture].input
    if given is None:
        return {"transform": study.pretrain.transform, "harmonise": study.cleaning.harmonise, "input": None}
    chosen = study.external.get(f"{architecture}-{size}")
    harmonise = (chosen and chosen.harmonise) or given.harmonise
    return {"transform": "linear", "harmonise": harmonise, "input": given}


class SplitSpec(Block):
    """The few-shot subsets of a task at one seed, one for each n, which all arms share."""

    task: str
    n: list[int]
    protocol: Literal["seeded", "philEO", "official"]
    seed: int | None
    """None where every seed has the same subsets."""
    validation: Literal["apart", "adjacent"]
    allow_short: bool
    indices: list[str | None]
    """Digests of the official index files, one for each n."""
    bench: str

    @classmethod
    def of(cls, study: Study, task: str, seed: int, n: list[int]) -> Self:
        """Spec of results/splits/<task>/<name>.parquet."""
        bench = study.bench
        files = [bench.index_file(task, size) for size in n] if bench.indices else []
        return cls(
            task=task,
            n=n,
            protocol="official" if bench.indices else bench.protocol,
            seed=seed if bench.draws_by_seed else None,
            validation=bench.validation,
            allow_short=bench.allow_short,
            indices=[_digest(file) for file in files],
            bench=BenchArchiveSpec.of(study).fingerprint,
        )

    @property
    def name(self) -> str:
        """Of the file: `seed3`, `philEO` or `official`."""
        return self.protocol if self.seed is None else f"seed{self.seed}"

    def subset(self, n: int) -> str:
        """Fingerprint of the subset of one n: the same whatever other n are drawn beside it."""
        digest = self.indices[self.n.index(n) :][:1] if self.indices else []
        return self.model_copy(update={"n": [n], "indices": digest}).fingerprint


class TrivialSpec(Block):
    """The subset of one (task, seed, n), and the patches it is tested on."""

    task: str
    seed: int
    n: int
    subset: str
    """Fingerprint of the patches, `SplitSpec.subset`."""
    bench: str
    harmonise: Literal["baseline", "none"]
    test_patches: int

    @classmethod
    def of(cls, study: Study, point: Point) -> Self:
        """Spec of the subset of a fine-tuning run."""
        split = SplitSpec.of(study, point.task, point.seed, [point.n])
        subset = {"task": point.task, "seed": point.seed, "n": point.n, "subset": split.fingerprint}
        return cls.take(study.finetune, study.cleaning, bench=split.bench, **subset)


class BaselineSpec(TrivialSpec):
    """The predictors that need no network, on one subset."""

    baseline_pixels: int
    """Training pixels of per-pixel models, at most."""

    @classmethod
    def of(cls, study: Study, point: Point) -> Self:
        """Spec of the baselines beside a fine-tuning run."""
        return cls.take(TrivialSpec.of(study, point), study.finetune)


class FinetuneSpec(TrainingSpec, TrivialSpec, Recipe):
    """One fine-tuning run: one n of one curve. `pretrained` is the fingerprint of the checkpoint's run, or None."""

    pretrained: str | None
    input: Input | None = Field(None, exclude_if=lambda pixels: pixels is None)
    mode: Mode
    transfer: Transfer = "all"
    choice: str | None = None
    """Fingerprint of the run that chose a multiple of `lr`; None where `lr` itself is taken."""
    keep: bool = False
    """Whether the fine-tuned model is left beside the result."""

    @classmethod
    def of(
        cls,
        study: Study,
        point: Point,
        pretrained: str | None = None,
        code: str | None = None,
        **more: object,
    ) -> Self:
        """Spec of one fine-tuning run; `more` are other keys of it."""
        finetune, arm, gates = study.finetune, point.arm, study.gates
        values: dict[str, object] = {
            "model": rung(arm.architecture, arm.size).kwargs,
            "pretrained": pretrained,
            "stats": StatsSpec.of(study).fingerprint,
            "lr": finetune.peak_lr(arm.architecture, arm.size),
            "keep": _is_kept(study, point),
            "code": code,
            **pixels_of(study, arm.architecture, arm.size),
        }
        if gates is not None and study.is_gate(point):
            values |= {"steps": gates.steps, "batch": gates.batch, "epochs": None, "patience": None}
        values |= arm._asdict() | more
        spec = cls.take(TrivialSpec.of(study, point), finetune, study.compute, **values)
        return spec.without_idle_keys()


class RateSpec(FinetuneSpec):
    """The choice of a rate, among multiples of `lr`, for one arm, task and n: runs of one seed, each to its end."""

    factors: list[float]


def _is_kept(study: Study, point: Point) -> bool:
    keep, first_seed = study.finetune.keep, study.finetune.seeds[0]
    if study.is_gate(point) or keep == "all":
        return not study.is_gate(point)
    return point.seed == first_seed and (keep == "first_seed" or point.n in keep)


class LinearSpec(Block):
    """The linear heads of one cell on one task, for every draw and n. `pretrained` as of `FinetuneSpec`."""

    mode: Literal["linear"] = "linear"
    task: str
    corpus: str
    fraction: Fraction | None
    architecture: str
    size: str
    model: Kwargs
    seed: int
    """Of pretraining, or of the random encoder."""
    pretrained: str | None
    n: list[int]
    subsets: list[list[str]]
    """Fingerprints of the training patches, `SplitSpec.subset`, by draw and n."""
    strengths: list[float]
    pixels: int
    keep: list[int]
    """Each n whose model of the first draw is kept."""
    bench: str
    harmonise: Literal["baseline", "none"]
    test_patches: int
    stats: str
    transform: Literal["sqrt", "linear"]
    input: Input | None = Field(None, exclude_if=lambda pixels: pixels is None)
    code: str | None

    @classmethod
    def of(
        cls, study: Study, linear: Linear, cell: Cell, task: str, pretrained: str | None, code: str | None
    ) -> Self:
        """Spec of one file of one cell."""
        _, draws, n = study.linear_subsets()
        arm = [other for other in study.linear_cells() if other[:3] == cell[:3]]
        largest = [max(n)] if cell == arm[0] else []
        random = cell.corpus == RANDOM
        return cls.take(
            linear,
            mode="linear",
            test_patches=study.finetune.test_patches,
            **cell._replace(corpus=corpus_name(cell.corpus))._asdict(),
            fraction=None if random else corpus_fraction(cell.corpus),
            model=rung(cell.architecture, cell.size).kwargs,
            task=task,
            pretrained=pretrained,
            n=n,
            subsets=[[SplitSpec.of(study, task, draw, [size]).fingerprint for size in n] for draw in draws],
            keep={"none": [], "largest": largest, "all": n}[linear.keep],
            bench=BenchArchiveSpec.of(study).fingerprint,
            stats=StatsSpec.of(study).fingerprint,
            **pixels_of(study, cell.architecture, cell.size),
            code=code,
        )


class LinearCell(Block):
    """The linear heads of one cell on every task, which one job makes; they differ in nothing but the task."""

    heads: list[LinearSpec]
