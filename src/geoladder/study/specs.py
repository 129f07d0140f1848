"""What each node of the graph depends on, and nothing else: one canonical JSON string per node.

A spec is a node's only Snakemake parameter. Upstream nodes appear in it as fingerprints, so that a change far up
the graph reaches exactly what follows from it. Paths, colours, threads and comments never appear.
"""

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from geoladder.models.ladder import rung, scaled_lr
from geoladder.study.block import Block
from geoladder.study.corpora import Cleaning, Corpus, Earth, RealSource, Select, corpus_fraction, corpus_name
from geoladder.study.downstream import Bench
from geoladder.study.pretraining import Objective
from geoladder.study.study import Cell, Point, Study


class Spec(Block):
    """A node's dependencies. Equal specs, equal results."""

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that name this spec."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:12]


class ArchiveSpec(Spec):
    """A synthetic MajorTOM archive, or a reference to a real one."""

    corpus: Corpus
    earth: Earth | None

    @property
    def tile_px(self) -> int:
        """Side of a synthetic archive's tiles, 10 m pixels; 0 for a real one, whose tiles say it themselves."""
        return self.earth.tile_px if self.earth else 0

    @classmethod
    def of(cls, study: Study, name: str) -> Self:
        """Spec of the archive of corpus `name`; the Earth counts only for synthetic archives."""
        corpus = study.corpora[name]
        # Of a remote archive the selected tiles are all there is.
        select = corpus.select if corpus.url else Select()
        return cls(
            corpus=corpus.model_copy(update={"one_product_per_cell": True, "select": select}),
            earth=study.earth if corpus.source == "synthetic" else None,
        )


class FetchSpec(Spec):
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


class BenchArchiveSpec(Spec):
    """A synthetic PhilEO Bench, or a reference to the real one."""

    bench: Bench
    earth: Earth | None

    @classmethod
    def of(cls, study: Study) -> Self:
        """Spec of the bench's files."""
        bench = study.bench.model_copy(update={"indices": None})  # subsets are no part of the files
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
    def of(cls, study: Study, name: str) -> Self | None:
        """Layout of corpus `name`; None for whole tiles of MajorTOM parquet, which synthetic archives are as well."""
        corpus = study.corpora[name]
        layout = cls(
            source="majortom" if corpus.source == "synthetic" else corpus.source,
            derive=corpus.derive,
            water_raster=corpus.water_raster,
            max_ice_share=corpus.max_ice_share,
            koppen_raster=study.cleaning.koppen_raster if corpus.max_ice_share is not None else None,
            climate=corpus.climate,
        )
        return None if layout == cls() else layout


def _without(value: object) -> bool:
    """Leave what is not set out of a spec, so that specs from before it could be set stay as they were."""
    return value is None


class IndexSpec(Spec):
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
    layout: Layout | None = Field(None, exclude_if=_without)
    select: Select | None = Field(None, exclude_if=_without)
    cells: str | None = Field(None, exclude_if=_without)
    """Digest of the file of cells: another content, another index."""

    @classmethod
    def of(cls, study: Study, name: str) -> Self:
        """Spec of data/<name>/index.parquet."""
        cleaning, select = study.cleaning, study.corpora[name].select
        if study.corpora[name].url:  # the fraction was drawn from the whole archive
            select = select.model_copy(update={"fraction": Fraction(1), "seed": 0})
        return cls(
            archive=ArchiveSpec.of(study, name).fingerprint,
            bench=BenchArchiveSpec.of(study).fingerprint,
            one_product_per_cell=study.corpora[name].one_product_per_cell,
            max_cloud_percent=cleaning.max_cloud_percent,
            max_nodata_share=cleaning.max_nodata_share,
            max_corrupt_share=cleaning.max_corrupt_share,
            harmonise=cleaning.harmonise,
            validation_share=study.validation.share,
            bench_buffer_km=study.validation.bench_buffer_km,
            layout=Layout.of(study, name),
            select=None if select == Select() else select,
            cells=_digest(select.cells),
        )


def _digest(path: Path | None) -> str | None:
    """Twelve digits of a small file's content; None where there is none (yet)."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path and path.is_file() else None


class ChipsSpec(Spec):
    """The chips cut from one index."""

    index: str
    chip_px: int
    chip_max_cloud_share: float
    max_corrupt_share: float
    chip_codec: Literal["none", "blosc2"] = Field("none", exclude_if=lambda codec: codec == "none")
    split: Literal["val"] | None = Field(None, exclude_if=_without)
    """Of the tiles to cut; where training reads tiles, only those of validation."""
    layout: Layout | None = Field(None, exclude_if=_without)
    koppen_raster: Path | None = Field(None, exclude_if=_without)

    @property
    def pixels(self) -> str:
        """Fingerprint of the chips' content, which is the same in every file format."""
        return self.model_copy(update={"chip_codec": "none"}).fingerprint

    @classmethod
    def of(cls, study: Study, name: str) -> Self:
        """Spec of data/<name>/chips/."""
        cleaning: Cleaning = study.cleaning
        return cls(
            index=IndexSpec.of(study, name).fingerprint,
            chip_px=cleaning.chip_px,
            chip_max_cloud_share=cleaning.chip_max_cloud_share,
            max_corrupt_share=cleaning.max_corrupt_share,
            chip_codec=cleaning.chip_codec,
            split="val" if study.pretrain.read == "tiles" else None,
            layout=Layout.of(study, name),
            koppen_raster=cleaning.koppen_raster,
        )


class StatsSpec(Spec):
    """Band statistics, taken once, from the training chips of the validation corpus.

    Where training reads tiles, which are not cut into chips, from those of validation.
    """

    chips: str
    split: Literal["train", "val"] = Field("train", exclude_if=lambda split: split == "train")

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
    layout: Layout | None = Field(None, exclude_if=_without)
    koppen_raster: Path | None = Field(None, exclude_if=_without)

    @classmethod
    def of(cls, study: Study, name: str) -> Self | None:
        """None where the study reads chips."""
        if study.pretrain.read == "chips":
            return None
        return cls(
            crops_per_tile=study.pretrain.crops_per_tile,
            shuffle_window=study.pretrain.shuffle_window,
            max_cloud_share=study.cleaning.chip_max_cloud_share,
            layout=Layout.of(study, name),
            koppen_raster=study.cleaning.koppen_raster,
        )


class PretrainSpec(Spec):
    """One pretraining run."""

    corpus: str
    fraction: Fraction
    architecture: str
    size: str
    model: dict[str, int | float | str | list[int]]
    seed: int
    chips: str
    stats: str
    validation_chips: int
    transform: Literal["sqrt", "linear"]
    samples: int
    batch: int
    lr: float
    weight_decay: float
    warmup_share: float
    gradient_clip: float
    checkpoint_every: int
    objective: Objective
    tensorboard: bool
    precision: Literal["auto", "32-true", "bf16-mixed"]
    code: str | None
    tiles: TileReading | None = Field(None, exclude_if=lambda tiles: tiles is None)

    @classmethod
    def of(cls, study: Study, cell: Cell, code: str | None = None) -> Self:
        """Spec of one cell; `code` is the code fingerprint where the study lets code edits rerun cells."""
        pretrain = study.pretrain
        own = pretrain.rungs.get(f"{cell.architecture}-{cell.size}")
        family = pretrain.rungs.get(cell.architecture)
        lr = next((r.lr for r in (own, family) if r and r.lr is not None), None)
        decay = next((r.weight_decay for r in (own, family) if r and r.weight_decay is not None), None)
        chosen = rung(cell.architecture, cell.size)
        return cls(
            corpus=corpus_name(cell.corpus),
            fraction=corpus_fraction(cell.corpus),
            architecture=cell.architecture,
            size=cell.size,
            model=chosen.kwargs,
            seed=cell.seed,
            chips=ChipsSpec.of(study, corpus_name(cell.corpus)).pixels,
            stats=StatsSpec.of(study).fingerprint,
            validation_chips=study.validation.chips,
            lr=lr if lr is not None else scaled_lr(getattr(pretrain.lr, cell.architecture), chosen),
            weight_decay=pretrain.weight_decay if decay is None else decay,
            precision=study.compute.precision,
            code=code,
            tiles=TileReading.of(study, corpus_name(cell.corpus)),
            **pretrain.model_dump(
                include={
                    "transform",
                    "samples",
                    "batch",
                    "warmup_share",
                    "gradient_clip",
                    "checkpoint_every",
                    "objective",
                    "tensorboard",
                }
            ),
        )


class FinetuneSpec(Spec):
    """One fine-tuning run: one n of one curve. `pretrained` is the fingerprint of the checkpoint's run, or None."""

    corpus: str
    architecture: str
    size: str
    model: dict[str, int | float | str | list[int]]
    pretrained: str | None
    task: str
    seed: int
    n: int
    indices: str | None = None
    """Digest of the official index file the patches are from; None where they are drawn by seed."""
    bench: str
    stats: str
    harmonise: Literal["baseline", "none"]
    transform: Literal["sqrt", "linear"]
    steps: int
    batch: int
    lr: float
    weight_decay: float
    warmup_share: float
    validations: int
    mode: Literal["full", "frozen", "probe"]
    test_patches: int
    precision: Literal["auto", "32-true", "bf16-mixed"]
    code: str | None

    @classmethod
    def of(cls, study: Study, point: Point, pretrained: str | None, code: str | None = None) -> Self:
        """Spec of one fine-tuning run."""
        finetune, arm, gates = study.finetune, point.arm, study.gates
        length = gates if gates is not None and point.n == gates.n else finetune
        chosen = rung(arm.architecture, arm.size)
        return cls(
            corpus=arm.corpus,
            architecture=arm.architecture,
            size=arm.size,
            model=chosen.kwargs,
            pretrained=pretrained,
            task=point.task,
            seed=point.seed,
            n=point.n,
            indices=_digest(study.bench.index_file(point.task, point.n)),
            bench=BenchArchiveSpec.of(study).fingerprint,
            stats=StatsSpec.of(study).fingerprint,
            harmonise=study.cleaning.harmonise,
            transform=study.pretrain.transform,
            lr=scaled_lr(getattr(finetune.lr, arm.architecture), chosen),
            precision=study.compute.precision,
            code=code,
            steps=length.steps,
            batch=length.batch,
            **finetune.model_dump(
                include={
                    "weight_decay",
                    "warmup_share",
                    "validations",
                    "mode",
                    "test_patches",
                }
            ),
        )


class TrivialSpec(Spec):
    """Predict-zero and predict-mean on the subset of one (task, seed, n)."""

    task: str
    seed: int
    n: int
    indices: str | None = None
    """Digest of the official index file the patches are from; None where they are drawn by seed."""
    bench: str
    harmonise: Literal["baseline", "none"]
    test_patches: int

    @classmethod
    def of(cls, study: Study, task: str, seed: int, n: int) -> Self:
        """Spec of the trivial predictors that go with one n of every curve."""
        return cls(
            task=task,
            seed=seed,
            n=n,
            indices=_digest(study.bench.index_file(task, n)),
            bench=BenchArchiveSpec.of(study).fingerprint,
            harmonise=study.cleaning.harmonise,
            test_patches=study.finetune.test_patches,
        )
