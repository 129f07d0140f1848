"""The study unrolled: every training run's result file, and the spec that result must have been made from."""

from itertools import chain
from typing import TypeVar

from geoladder.registry.ladder import named
from geoladder.runs.provenance import code_fingerprint
from geoladder.study.arms import ORACLE, RANDOM, RELEASED, Cell, Point
from geoladder.study.corpora import corpus_slug
from geoladder.study.downstream import Finetune
from geoladder.study.downstream_specs import (
    BaselineSpec,
    FinetuneSpec,
    LinearCell,
    LinearSpec,
    RateSpec,
    ReleasedSpec,
    SplitSpec,
)
from geoladder.study.linear import Linear
from geoladder.study.pretraining import Pretrain
from geoladder.study.specs import LabelsSpec, PretrainSpec
from geoladder.study.study import Study

STAGES = ("pretrain", "oracle", "finetune", "linear", "trivial")
"""Of results that a study is made of, each a folder below `results`."""
_Spec = TypeVar("_Spec", bound=FinetuneSpec)


class Nodes:
    """Result files by stage, each with its spec.

    Attributes:
        pretrain: `.../metrics.json` to `PretrainSpec`.
        oracle: the same for the oracle's runs.
        sweep: the same for the runs of a learning-rate sweep.
        finetune: `.../n<n>.json` to `FinetuneSpec`.
        trivial: `.../seed<k>.json` to `BaselineSpec`.
        released: `.../model.json` of the weights of external models to `ReleasedSpec`.
        split: `results/splits/<task>/<name>.parquet` to `SplitSpec`.
        linear: `.../<task>.json` to `LinearSpec`.
        linear_cells: the folder of these files to `LinearCell`: one job.
        rates: `results/rates/.../n<n>.json` to `RateSpec`, where arms choose their rates.
        cell_behind: `.../n<n>.json` of fine-tuning, or of rates, or the folder of linear heads, to that of the
            checkpoint behind it, or None.
        rate_behind: `.../n<n>.json` of fine-tuning to that of its rate, or None where the rate is given.
    """

    def __init__(self, study: Study) -> None:
        """Unroll a study; raises GeoladderError for an architecture-size the ladder does not have."""
        self.study = study
        self.pretrain = {f"{self._folder(cell)}/metrics.json": self._spec(cell) for cell in study.cells()}
        self.oracle = {
            f"{self._folder(cell)}/metrics.json": PretrainSpec.of_oracle(
                study, cell, self._code_of_oracle(cell)
            )
            for cell in study.oracle_cells()
        }
        self.sweep: dict[str, PretrainSpec] = {}
        for cell, factor in study.sweep_runs():
            spec = self._spec(cell)
            file = f"{self._folder(cell, 'sweep')}/x{factor:g}/metrics.json"
            self.sweep[file] = spec.model_copy(update={"lr": spec.lr * factor})
        self.released = {
            f"{self._released_folder(*named(name))}/model.json": ReleasedSpec.of(study, *named(name))
            for name in study.external
        }
        splits = [SplitSpec.of(study, *key, n) for key, n in study.subsets().items()]
        self.split = {self._split_file(spec): spec for spec in splits}
        self.cell_behind: dict[str, str | None] = {}
        self.rate_behind: dict[str, str | None] = {}
        self.finetune: dict[str, FinetuneSpec] = {}
        self.rates: dict[str, RateSpec] = {}
        for point in study.points():
            stage, run = "gates" if study.is_gate(point) else "finetune", f"seed{point.seed}/n{point.n}.json"
            file = f"{study.results}/{stage}/{_curve_folder(point)}/{run}"
            rate = self._choice(point) if study.finetune.factors and stage == "finetune" else None
            choice = self.rates[rate].fingerprint if rate else None
            self.rate_behind[file] = rate
            self.finetune[file] = self._finetune_spec(file, point, FinetuneSpec, "finetune", choice=choice)
        self.trivial = {
            f"{study.results}/trivial/{task}/seed{seed}.json": BaselineSpec.of(study, task, seed, points)
            for (task, seed), points in study.judged_points().items()
        }
        self.linear: dict[str, LinearSpec] = {}
        self.linear_cells: dict[str, LinearCell] = {}
        for cell in study.linear_cells():
            self._add_linear(cell)

    def _add_linear(self, cell: Cell) -> None:
        linear = self.study.linear
        if linear is None:
            return
        folder = self._folder(cell, "linear")
        self.cell_behind[folder], pretrained = self._start(None if cell.corpus == RANDOM else cell)
        specs = {
            f"{folder}/{task}.json": LinearSpec.of(
                self.study,
                linear,
                cell,
                task,
                pretrained,
                _code(linear, "linear", cell.architecture, task),
            )
            for task in self.study.linear_subsets().tasks
        }
        self.linear |= specs
        self.linear_cells[folder] = LinearCell(heads=list(specs.values()))

    def _start(self, cell: Cell | None) -> tuple[str | None, str | None]:
        """Folder and fingerprint of the checkpoint of a cell; None for what starts from none."""
        if cell is None:
            return None, None
        if cell.corpus == RELEASED:
            folder = self._released_folder(cell.architecture, cell.size)
            return folder, self.released[f"{folder}/model.json"].fingerprint
        folder = self._folder(cell)
        return folder, (self.pretrain | self.oracle)[f"{folder}/metrics.json"].fingerprint

    def split_of(self, task: str, seed: int) -> str:
        """File of the few-shot subsets of a task at a seed."""
        return self._split_file(SplitSpec.of(self.study, task, seed, []))

    def _choice(self, point: Point) -> str:
        """Result file of the choice of the rate of a point, which all seeds of its curve share."""
        file = f"{self.study.results}/rates/{_curve_folder(point)}/n{point.n}.json"
        if file not in self.rates:
            first, factors = point._replace(seed=self.study.finetune.seeds[0]), self.study.finetune.factors
            self.rates[file] = self._finetune_spec(
                file, first, RateSpec, "choose_rate", factors=factors, keep=False
            )
        return file

    def _finetune_spec(self, file: str, point: Point, kind: type[_Spec], stage: str, **more: object) -> _Spec:
        """Spec of one run of fine-tuning, or of choosing its rate; notes the cell behind it."""
        self.cell_behind[file], pretrained = self._start(self.study.cell_of(point))
        code = _code(self.study.finetune, stage, point.arm.architecture, point.task)
        return kind.of(self.study, point, pretrained, code, **more)

    def _spec(self, cell: Cell) -> PretrainSpec:
        return PretrainSpec.of(self.study, cell, _code(self.study.pretrain, "pretrain", cell.architecture))

    def _code_of_oracle(self, cell: Cell) -> str | None:
        tasks = LabelsSpec.of(self.study).tasks
        return _code(self.study.pretrain, "pretrain", cell.architecture, *tasks)

    def _released_folder(self, architecture: str, size: str) -> str:
        """Of the checkpoint of an external architecture-size."""
        return f"{self.study.results}/{RELEASED}/{architecture}-{size}"

    def _folder(self, cell: Cell, stage: str = "pretrain") -> str:
        run = f"{cell.architecture}-{cell.size}/seed{cell.seed}"
        if cell.corpus == ORACLE and stage == "pretrain":
            return f"{self.study.results}/oracle/{run}"
        return f"{self.study.results}/{stage}/{corpus_slug(cell.corpus)}/{run}"

    def _split_file(self, spec: SplitSpec) -> str:
        return f"{self.study.results}/splits/{spec.task}/{spec.name}.parquet"

    def ledger(self, part: str = "all") -> dict[str, str]:
        """Fingerprint every result file must carry: of the stages of the study, or of its `sweep`."""
        nodes = [getattr(self, stage).items() for stage in (STAGES if part == "all" else (part,))]
        return {file: spec.fingerprint for file, spec in chain(*nodes)}


def _curve_folder(point: Point) -> str:
    """Where the results of a curve are; what is not the usual way to start and train it stands in the name."""
    arm = point.arm
    unusual = [f"+{name}" for name in (arm.mode, arm.transfer) if name not in ("full", "all")]
    return f"{corpus_slug(arm.corpus)}/{arm.architecture}-{arm.size}{''.join(unusual)}/{point.task}"


def _code(block: Pretrain | Finetune | Linear, stage: str, *names: str) -> str | None:
    """Fingerprint of a stage's code where its block of the study lets edits of it rerun results."""
    return code_fingerprint(stage, *names) if block.code_changes == "rerun" else None
