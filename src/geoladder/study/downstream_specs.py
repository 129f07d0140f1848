"""What each node downstream of pretraining depends on: subsets, baselines, fine-tuning, linear heads.

As in `geoladder.study.specs`, which has the nodes before.
"""

from fractions import Fraction
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from geoladder.registry import ARCHITECTURES
from geoladder.registry.architecture import Input, Kwargs, Release
from geoladder.registry.ladder import rung
from geoladder.study.architectures import Mode, Transfer
from geoladder.study.arms import RANDOM, Cell, Point
from geoladder.study.block import Block
from geoladder.study.corpora import corpus_fraction, corpus_name
from geoladder.study.linear import Linear
from geoladder.study.recipe import Recipe
from geoladder.study.specs import BenchArchiveSpec, StatsSpec, TrainingSpec, digest_of
from geoladder.study.study import Study


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

    @property
    def file_name(self) -> str:
        """Of the released file; empty where it is not known."""
        return self.release.files.get(self.size, "").rpartition("/")[2]

    @property
    def file(self) -> Path | None:
        """The released file on this machine, there or not; None for weights on the hub."""
        if self.weights.startswith("hf://"):
            return None
        path = Path(self.weights)
        return path / self.file_name if path.is_dir() else path


def pixels_of(study: Study, architecture: str, size: str) -> dict[str, object]:
    """Values of the keys `transform`, `harmonise` and `input` of a spec: how pixels are made for an architecture.

    External ones get digital numbers standardised by constants of their own, see `training.patches.input_of`.
    """
    given = ARCHITECTURES[architecture].input
    if given is None:
        return {"transform": study.pretrain.transform, "harmonise": study.cleaning.harmonise, "input": None}
    chosen = study.external.get(f"{architecture}-{size}")
    harmonise = (chosen and chosen.harmonise) or given.harmonise or study.cleaning.harmonise
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
            indices=[digest_of(file) for file in files],
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


class BaselineSpec(Block):
    """The predictors that need no network, on every subset of a task at one seed."""

    task: str
    seed: int
    subsets: list[TrivialSpec]
    """One for each n."""
    baseline_pixels: int
    """Training pixels of per-pixel models, at most."""

    @classmethod
    def of(cls, study: Study, task: str, seed: int, points: list[Point]) -> Self:
        """Spec of the baselines beside runs of a task at one seed."""
        subsets = [TrivialSpec.of(study, point) for point in points]
        return cls.take(study.finetune, task=task, seed=seed, subsets=subsets)


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
