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
from geoladder.registry.architecture import Kwargs
from geoladder.registry.ladder import rung, scaled_lr
from geoladder.study.arms import Cell
from geoladder.study.block import Block
from geoladder.study.corpora import Corpus, Earth, RealSource, Select, corpus_fraction, corpus_name
from geoladder.study.downstream import Bench
from geoladder.study.paths import UserPath
from geoladder.study.pretraining import Objective, Rung
from geoladder.study.study import Study


def digest_of(path: Path | None) -> str | None:
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
        files = {
            "one_product_per_cell": True,
            "harmonise": None,
            "select": corpus.select if corpus.url else Select(),
        }
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
        return cls(url=str(corpus.url), select=corpus.select, cells=digest_of(corpus.select.cells))


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
    water_raster: UserPath | None = None
    max_ice_share: float | None = None
    koppen_raster: UserPath | None = None
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
    harmonise: Literal["baseline", "pixels", "none"]
    harmonise_stated: bool = Field(False, exclude_if=lambda stated: not stated)
    """Whether the study says so of this corpus, so that its names may contradict its pixels."""
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
            "cells": digest_of(select.cells),
        }
        taken = {
            "select": select,
            "layout": Layout.of(study, name),
            "validation_share": study.validation.share,
            "harmonise": corpus.harmonise or study.cleaning.harmonise,
            "harmonise_stated": corpus.harmonise is not None,
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
    koppen_raster: UserPath | None = None

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
    koppen_raster: UserPath | None = None

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
