"""The study unrolled: every training run's result file, and the spec that result must have been made from."""

import hashlib
import json
from itertools import chain
from pathlib import Path
from typing import TypeVar

from geoladder.registry.ladder import named
from geoladder.runs.atomic import atomic_path
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
        self.pretrain = {f"{_folder(cell)}/metrics.json": self._spec(cell) for cell in study.cells()}
        self.oracle = {
            f"{_folder(cell)}/metrics.json": PretrainSpec.of_oracle(study, cell, self._code_of_oracle(cell))
            for cell in study.oracle_cells()
        }
        self.sweep: dict[str, PretrainSpec] = {}
        for cell, factor in study.sweep_runs():
            spec = self._spec(cell)
            file = f"{_folder(cell, 'sweep')}/x{factor:g}/metrics.json"
            self.sweep[file] = spec.model_copy(update={"lr": spec.lr * factor})
        self.released = {
            f"{released_folder(*named(name))}/model.json": ReleasedSpec.of(study, *named(name))
            for name in study.external
        }
        splits = [SplitSpec.of(study, *key, n) for key, n in study.subsets().items()]
        self.split = {_split_file(spec): spec for spec in splits}
        self.cell_behind: dict[str, str | None] = {}
        self.rate_behind: dict[str, str | None] = {}
        self.finetune: dict[str, FinetuneSpec] = {}
        self.rates: dict[str, RateSpec] = {}
        for point in study.points():
            stage, run = "gates" if study.is_gate(point) else "finetune", f"seed{point.seed}/n{point.n}.json"
            file = f"results/{stage}/{_curve_folder(point)}/{run}"
            rate = self._choice(point) if study.finetune.factors and stage == "finetune" else None
            choice = self.rates[rate].fingerprint if rate else None
            self.rate_behind[file] = rate
            self.finetune[file] = self._finetune_spec(file, point, FinetuneSpec, "finetune", choice=choice)
        self.trivial = {
            f"results/trivial/{task}/seed{seed}.json": BaselineSpec.of(study, task, seed, points)
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
        folder = _folder(cell, "linear")
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
            folder = released_folder(cell.architecture, cell.size)
            return folder, self.released[f"{folder}/model.json"].fingerprint
        folder = _folder(cell)
        return folder, (self.pretrain | self.oracle)[f"{folder}/metrics.json"].fingerprint

    def split_of(self, task: str, seed: int) -> str:
        """File of the few-shot subsets of a task at a seed."""
        return _split_file(SplitSpec.of(self.study, task, seed, []))

    def _choice(self, point: Point) -> str:
        """Result file of the choice of the rate of a point, which all seeds of its curve share."""
        file = f"results/rates/{_curve_folder(point)}/n{point.n}.json"
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

    def ledger(self, *stages: str) -> dict[str, str]:
        """Fingerprint every result file of these stages must carry; of all but the sweep, if none is named."""
        nodes = [getattr(self, stage).items() for stage in stages or STAGES]
        return {file: spec.fingerprint for file, spec in chain(*nodes)}

    @staticmethod
    def write_ledger(path: Path, fingerprints: dict[str, str]) -> None:
        """Write a ledger, only if it says something new: its time stamp makes results be collected again."""
        _write_new(path, json.dumps(fingerprints, indent=0, sort_keys=True))

    def freeze(self, folder: Path) -> Path:
        """Write the study into `folder` under a name made from its content; return the file."""
        text = self.study.model_dump_json()
        path = folder / f"study-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        _write_new(path, text)
        return path


def _curve_folder(point: Point) -> str:
    """Where the results of a curve are; what is not the usual way to start and train it stands in the name."""
    arm = point.arm
    unusual = [f"+{name}" for name in (arm.mode, arm.transfer) if name not in ("full", "all")]
    return f"{corpus_slug(arm.corpus)}/{arm.architecture}-{arm.size}{''.join(unusual)}/{point.task}"


def _code(block: Pretrain | Finetune | Linear, stage: str, *names: str) -> str | None:
    """Fingerprint of a stage's code where its block of the study lets edits of it rerun results."""
    return code_fingerprint(stage, *names) if block.code_changes == "rerun" else None


def released_folder(architecture: str, size: str) -> str:
    """Folder of the checkpoint of an external architecture-size."""
    return f"results/{RELEASED}/{architecture}-{size}"


def _folder(cell: Cell, stage: str = "pretrain") -> str:
    if cell.corpus == ORACLE and stage == "pretrain":
        return f"results/oracle/{cell.architecture}-{cell.size}/seed{cell.seed}"
    return f"results/{stage}/{corpus_slug(cell.corpus)}/{cell.architecture}-{cell.size}/seed{cell.seed}"


def _split_file(spec: SplitSpec) -> str:
    return f"results/splits/{spec.task}/{spec.name}.parquet"


def _write_new(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        with atomic_path(path) as temporary:
            temporary.write_text(text)
