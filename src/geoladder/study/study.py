"""One whole study: which cells, arms and fine-tuning runs its grids mean, and whether its names fit together."""

from itertools import chain, product, starmap
from typing import Annotated, Self

from pydantic import Field, model_validator

from geoladder.registry import ARCHITECTURES
from geoladder.registry.ladder import named, rung
from geoladder.study.analysis import Figures, Fit
from geoladder.study.architectures import FinetuneArms
from geoladder.study.arms import (
    ORACLE,
    PIXEL_ARM,
    RANDOM,
    RELEASED,
    SCRATCH,
    Arm,
    Cell,
    LinearSubsets,
    Point,
)
from geoladder.study.block import Block, collected
from geoladder.study.compute import Compute, accumulation
from geoladder.study.corpora import Cleaning, Corpus, CorpusName, Earth, Validation, corpus_name
from geoladder.study.downstream import Bench, Finetune, Gates
from geoladder.study.external import External, ExternalName
from geoladder.study.linear import FEW, Linear
from geoladder.study.oracle import Oracle
from geoladder.study.paths import ResultsFolder
from geoladder.study.pretraining import Pretrain, Sweep
from geoladder.suggest import nearest

LARGEST_N = 5000
"""Patches of a bucket that are drawn by seed; the bench's own largest n. Only a larger one draws again."""


def _sides(architecture: str, size: str) -> range:
    """Sides of images that a model takes, in pixels."""
    return ARCHITECTURES[architecture].sides(rung(architecture, size).size)


class Study(Block):
    """Everything one study runs."""

    name: str = "study"
    results: ResultsFolder = Field(
        "results",
        description="folder of what is made from data; `results/NAME` keeps a study's apart from others' that share "
        "its data, see docs/studies.md",
    )
    earth: Earth = Earth()
    corpora: Annotated[dict[CorpusName, Corpus], Field(min_length=1)]
    cleaning: Cleaning = Cleaning()
    validation: Validation = Validation()
    bench: Bench = Bench()
    pretrain: Pretrain
    finetune: Finetune
    external: dict[ExternalName, External] = Field(
        {},
        description="external models by architecture-size (`terramind-base`), for arms of corpus `released`",
    )
    gates: Gates | None = Gates()
    linear: Linear | None = Linear()
    sweep: Sweep | None = None
    oracle: Oracle | None = None
    fit: Fit = Fit()
    figures: Figures = Figures()
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _external_models_are_used_as_such(self) -> Self:
        trained = [(cell, "pretrain.grid") for cell in self.cells()]
        for cell, place in [*trained, *((cell, "sweep") for cell, _ in self.sweep_runs())]:
            if ARCHITECTURES[cell.architecture].external:
                raise ValueError(
                    f"{cell.architecture} is external: its weights are released and not pretrained here; take it out "
                    f"of {place}, and name `released` among the corpora of finetune.grid"
                )
        for corpus, architecture, size in dict.fromkeys(point.arm[:3] for point in self.points()):
            name, external = f"{architecture}-{size}", ARCHITECTURES[architecture].external
            if external and corpus not in (RELEASED, SCRATCH):
                raise ValueError(
                    f"{name} is external: its corpora are `released` and `scratch`, not '{corpus}'"
                )
            if corpus == RELEASED and not external:
                raise ValueError(
                    f"{name} is trained here and has no released weights; take `released` out of its block"
                )
            if corpus == RELEASED and name not in self.external:
                raise ValueError(
                    f"nothing says where the weights of {name} are; write external.{name}.weights"
                )
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        cells = {*self.cells(), *self.oracle_cells()}
        keys = {cell.corpus for cell in self.cells()} | {cell.corpus for cell, _ in self.sweep_runs()}
        for name in sorted({self.validation.corpus, *map(corpus_name, keys)} - set(self.corpora)):
            raise ValueError(f"corpus '{name}' is not defined under `corpora`{nearest(name, self.corpora)}")
        for name in sorted({SCRATCH, RANDOM, ORACLE, RELEASED} & set(self.corpora)):
            raise ValueError(f"no corpus can be called '{name}', which names encoders without one; rename it")
        if self.gates is not None and self.gates.n in self.finetune.n:
            raise ValueError(
                f"gates.n is {self.gates.n}, which is also in finetune.n; the gates train longer, so give them an n "
                "of their own"
            )
        for point in self.points():
            start = self.cell_of(point)
            if start is not None and start.corpus != RELEASED and start not in cells:
                grid = "oracle" if start.corpus == ORACLE else "pretrain.grid"
                raise ValueError(
                    f"finetune needs the pretraining cell {'/'.join(map(str, start))}, which {grid} does not "
                    "contain; add it there, or set finetune.pretrain_seed to a seed that is"
                )
        return self

    @model_validator(mode="after")
    def _oracle_has_labels(self) -> Self:
        if self.oracle is None:
            return self
        name = self.validation.corpus
        if self.corpora[name].source != "synthetic":
            raise ValueError(
                f"`oracle` learns labels that only the synthetic Earth has, but validation.corpus, '{name}', is of "
                f"source: {self.corpora[name].source}; leave `oracle` out"
            )
        if self.pretrain.read == "tiles":
            raise ValueError(
                "`oracle` learns labels of chips; set pretrain.read: chips, or leave `oracle` out"
            )
        return self

    @model_validator(mode="after")
    def _images_fit_the_models(self) -> Self:
        cells = [*self.cells(), *self.oracle_cells(), *(cell for cell, _ in self.sweep_runs())]
        chip_px, patch_px = self.cleaning.chip_px, self.bench.patch_px
        uses = [(cell.architecture, cell.size, "cleaning.chip_px", chip_px) for cell in cells]
        if self.bench.source == "synthetic":
            arms = [point.arm for point in self.points()]
            uses += [(arm.architecture, arm.size, "bench.patch_px", patch_px) for arm in arms]
        for architecture, size, key, side_px in dict.fromkeys(uses):
            with collected():
                sides = _sides(architecture, size)
            if side_px not in sides:
                allowed = f"{sides.start} only" if len(sides) == 1 else f"a multiple of {sides.step}"
                raise ValueError(
                    f"{key} is {side_px}, but {architecture}-{size} takes images of {allowed}; change it, or take "
                    "that rung out of the grid"
                )
        return self

    @model_validator(mode="after")
    def _batch_can_be_shared(self) -> Self:
        if self.compute.devices % self.compute.nodes:
            raise ValueError(
                f"compute.devices is {self.compute.devices}, which compute.nodes = {self.compute.nodes} cannot share "
                "evenly"
            )
        with collected():
            accumulation(self.pretrain.batch, self.compute.devices, self.compute.micro_batch)
        batches = {"finetune": self.finetune.batch, "gates": self.gates.batch if self.gates else None}
        for block, batch in batches.items():
            if batch is not None and batch < self.compute.devices:
                raise ValueError(
                    f"{block}.batch is {batch}, fewer samples than the {self.compute.devices} of compute.devices; "
                    "raise it, or take fewer devices"
                )
        return self

    def cells(self) -> list[Cell]:
        """Pretraining cells, without repetition, in the order of the grid."""
        blocks = [
            product(block.corpora, block.architectures, block.sizes, block.seeds)
            for block in self.pretrain.grid
        ]
        return list(dict.fromkeys(starmap(Cell, chain(*blocks))))

    def oracle_cells(self) -> list[Cell]:
        """Runs of the oracle, of a corpus that bears its name."""
        if self.oracle is None:
            return []
        cells = product([ORACLE], self.oracle.architectures, self.oracle.sizes, self.oracle.seeds)
        return list(dict.fromkeys(starmap(Cell, cells)))

    def linear_cells(self) -> list[Cell]:
        """Encoders with linear heads: cells, oracles, external models, then random ones of their sizes and seeds.

        Those that cannot take patches of the synthetic bench's size are left out.
        """
        if self.linear is None:
            return []
        released = [Cell(RELEASED, *named(name), 0) for name in self.external]
        any_size = self.bench.source != "synthetic"
        trained = [*self.cells(), *self.oracle_cells(), *released]
        cells = [
            cell
            for cell in trained
            if any_size or self.bench.patch_px in _sides(cell.architecture, cell.size)
        ]
        return list(dict.fromkeys([*cells, *(cell._replace(corpus=RANDOM) for cell in cells)]))

    def linear_subsets(self) -> LinearSubsets:
        """Which subsets of labelled patches linear heads are fitted to; none where the study has no such heads."""
        if self.linear is None:
            return LinearSubsets([], [], [])
        few = self.finetune.n if self.bench.indices else [n for n in FEW if n <= max(self.finetune.n)]
        draws = self.linear.draws if self.bench.draws_by_seed else 1
        return LinearSubsets(
            self.linear.tasks or self.finetune.tasks, list(range(draws)), self.linear.n or few
        )

    def sweep_runs(self) -> list[tuple[Cell, float]]:
        """Runs of the learning-rate sweep: a cell, and the factor of its rate."""
        if self.sweep is None:
            return []
        cells = product([self.sweep.corpus], self.sweep.architectures, self.sweep.sizes, self.sweep.seeds)
        return list(product(starmap(Cell, cells), self.sweep.factors))

    def points(self) -> list[Point]:
        """Fine-tuning runs without repetition: the grid's curves, the per-pixel baseline, the gates."""
        arms = list(chain.from_iterable(map(self._arms, self.finetune.grid)))
        points = list(product([*arms, PIXEL_ARM], self.finetune.tasks, self.finetune.seeds, self.finetune.n))
        if self.gates is not None:
            arms = [Arm(SCRATCH, self.gates.architecture, self.gates.size), PIXEL_ARM]
            points += product(arms, self.finetune.tasks, self.gates.seeds, [self.gates.n])
        return list(dict.fromkeys(starmap(Point, points)))

    def _arms(self, block: FinetuneArms) -> list[Arm]:
        mode, transfer = block.mode or self.finetune.mode, block.transfer or self.finetune.transfer
        return [
            Arm(corpus, architecture, size, mode, "all" if corpus == SCRATCH else transfer)
            for corpus, architecture, size in product(block.corpora, block.architectures, block.sizes)
        ]

    def is_gate(self, point: Point) -> bool:
        """Whether a run is one of the gates' own, which are no points of a curve."""
        return self.gates is not None and point.n == self.gates.n

    def judged_points(self) -> dict[tuple[str, int], list[Point]]:
        """By task and seed a run of each n, smallest first: of the subsets of fine-tuning and of linear heads."""
        points: dict[tuple[str, int], dict[int, Point]] = {}
        heads = (Point(PIXEL_ARM, *subset) for subset in product(*self.linear_subsets()))
        for point in (*self.points(), *heads):
            points.setdefault((point.task, point.seed), {})[point.n] = point
        return {key: [of_key[n] for n in sorted(of_key)] for key, of_key in points.items()}

    def subsets(self) -> dict[tuple[str, int], list[int]]:
        """Every n that is drawn for a task at a seed; where seeds share their subsets, that of 0 stands for all.

        Subsets drawn by seed are the first patches of one order, so one large n serves all: a new n changes no file.
        """
        sizes: dict[tuple[str, int], set[int]] = {}
        for (task, seed), points in self.judged_points().items():
            of_key = sizes.setdefault((task, seed if self.bench.draws_by_seed else 0), set())
            of_key |= {point.n for point in points}
        if self.bench.draws_by_seed:
            return {key: [max(LARGEST_N, *of_key)] for key, of_key in sizes.items()}
        return {key: sorted(of_key) for key, of_key in sizes.items()}

    def cell_of(self, point: Point) -> Cell | None:
        """Cell whose checkpoint a fine-tuning run starts from, external ones with seed 0; None from scratch."""
        if point.arm.corpus == SCRATCH:
            return None
        if point.arm.corpus == RELEASED:
            return Cell(*point.arm[:3], 0)
        seed = point.seed if self.finetune.pretrain_seed == "same" else self.finetune.pretrain_seed
        return Cell(*point.arm[:3], seed)
