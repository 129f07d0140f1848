"""One whole study: which cells, arms and fine-tuning runs its grids mean, and whether its names fit together."""

from itertools import chain, product, starmap
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from geoladder.registry import ARCHITECTURES
from geoladder.registry.ladder import rung
from geoladder.study.analysis import Figures, Fit
from geoladder.study.block import Block, collected
from geoladder.study.compute import Compute, accumulation
from geoladder.study.corpora import Cleaning, Corpus, Earth, Validation, corpus_name
from geoladder.study.downstream import Bench, Finetune, Gates
from geoladder.study.linear import FEW, Linear
from geoladder.study.oracle import Oracle
from geoladder.study.pretraining import Pretrain, Sweep
from geoladder.suggest import nearest


class Cell(NamedTuple):
    """One pretraining run."""

    corpus: str
    architecture: str
    size: str
    seed: int


class Arm(NamedTuple):
    """One way to start a fine-tuning curve; `corpus` is `scratch` for the untrained arm, `oracle` for labels."""

    corpus: str
    architecture: str
    size: str


class Point(NamedTuple):
    """One fine-tuning run: one n of one curve."""

    arm: Arm
    task: str
    seed: int
    n: int


class LinearSubsets(NamedTuple):
    """Subsets of labelled patches for linear heads: all combinations of these."""

    tasks: list[str]
    draws: list[int]
    n: list[int]


SCRATCH = "scratch"
ORACLE = "oracle"
"""Corpus of encoders that learnt the labels of pretraining tiles."""
RANDOM = "random"
"""Corpus of encoders that were never trained at all, under linear heads."""
PIXEL_ARM = Arm(SCRATCH, "pixel", "mlp")


def _sides(cell: Cell) -> range:
    """Sides of images that a cell's model takes, in pixels."""
    return ARCHITECTURES[cell.architecture].sides(rung(cell.architecture, cell.size).size)


class Study(Block):
    """Everything one study runs."""

    name: str = "study"
    earth: Earth = Earth()
    corpora: Annotated[dict[str, Corpus], Field(min_length=1)]
    cleaning: Cleaning = Cleaning()
    validation: Validation = Validation()
    bench: Bench = Bench()
    pretrain: Pretrain
    finetune: Finetune
    gates: Gates | None = Gates()
    linear: Linear | None = Linear()
    sweep: Sweep | None = None
    oracle: Oracle | None = None
    fit: Fit = Fit()
    figures: Figures = Figures()
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        cells = {*self.cells(), *self.oracle_cells()}
        keys = {cell.corpus for cell in self.cells()} | {cell.corpus for cell, _ in self.sweep_runs()}
        for name in sorted({self.validation.corpus, *map(corpus_name, keys)} - set(self.corpora)):
            raise ValueError(f"corpus '{name}' is not defined under `corpora`{nearest(name, self.corpora)}")
        for name in sorted({SCRATCH, RANDOM, ORACLE} & set(self.corpora)):
            raise ValueError(f"no corpus can be called '{name}', which names encoders without one; rename it")
        if self.gates is not None and self.gates.n in self.finetune.n:
            raise ValueError(
                f"gates.n is {self.gates.n}, which is also in finetune.n; the gates train longer, so give them an n "
                "of their own"
            )
        for point in self.points():
            start = self.cell_of(point)
            if start is not None and start not in cells:
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
                sides = ARCHITECTURES[architecture].sides(rung(architecture, size).size)
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
        """Encoders with linear heads: of every pretraining cell and oracle, then random ones of their sizes.

        Those that cannot take patches of the synthetic bench's size are left out.
        """
        if self.linear is None:
            return []
        any_size = self.bench.source != "synthetic"
        trained = [*self.cells(), *self.oracle_cells()]
        cells = [cell for cell in trained if any_size or self.bench.patch_px in _sides(cell)]
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
        blocks = [product(block.corpora, block.architectures, block.sizes) for block in self.finetune.grid]
        arms = list(starmap(Arm, chain(*blocks)))
        points = list(product([*arms, PIXEL_ARM], self.finetune.tasks, self.finetune.seeds, self.finetune.n))
        if self.gates is not None:
            arms = [Arm(SCRATCH, self.gates.architecture, self.gates.size), PIXEL_ARM]
            points += product(arms, self.finetune.tasks, self.gates.seeds, [self.gates.n])
        return list(dict.fromkeys(starmap(Point, points)))

    def subsets(self) -> dict[tuple[str, int], list[int]]:
        """Every n that is drawn for a task at a seed; where seeds share their subsets, that of 0 stands for all."""
        sizes: dict[tuple[str, int], set[int]] = {}
        tuned = ((point.task, point.seed, point.n) for point in self.points())
        for task, seed, n in (*tuned, *product(*self.linear_subsets())):
            sizes.setdefault((task, seed if self.bench.draws_by_seed else 0), set()).add(n)
        return {key: sorted(of_key) for key, of_key in sizes.items()}

    def cell_of(self, point: Point) -> Cell | None:
        """Pretraining cell (maybe the oracle's) a fine-tuning run starts from; None for arms from scratch."""
        if point.arm.corpus == SCRATCH:
            return None
        seed = point.seed if self.finetune.pretrain_seed == "same" else self.finetune.pretrain_seed
        return Cell(*point.arm, seed)
