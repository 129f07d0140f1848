"""The study unrolled: every training run's result file, and the spec that result must have been made from."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from geoladder.runs.atomic import atomic_path
from geoladder.runs.provenance import code_fingerprint
from geoladder.study.corpora import corpus_slug
from geoladder.study.specs import FinetuneSpec, PretrainSpec, Spec, TrivialSpec
from geoladder.study.study import Cell, Point, Study


def cell_folder(cell: Cell, stage: str = "pretrain") -> str:
    """Folder of the runs of a cell in one stage, `pretrain` or `sweep`, relative to the project."""
    return f"results/{stage}/{corpus_slug(cell.corpus)}/{cell.architecture}-{cell.size}/seed{cell.seed}"


def point_file(point: Point) -> str:
    """Result file of a fine-tuning run, relative to the project."""
    arm = point.arm
    folder = f"results/finetune/{corpus_slug(arm.corpus)}/{arm.architecture}-{arm.size}/{point.task}"
    return f"{folder}/seed{point.seed}/n{point.n}.json"


def fingerprints(nodes: Mapping[str, Spec]) -> dict[str, str]:
    """Fingerprint a result file must carry, by file."""
    return {file: spec.fingerprint for file, spec in nodes.items()}


class Nodes:
    """Result files by stage, each with its spec.

    Attributes:
        pretrain: `.../metrics.json` to `PretrainSpec`.
        sweep: the same for the runs of a learning-rate sweep.
        finetune: `.../n<n>.json` to `FinetuneSpec`.
        trivial: `.../n<n>.json` to `TrivialSpec`.
    """

    def __init__(self, study: Study) -> None:
        """Unroll a study; raises GeoladderError for an architecture-size the ladder does not have."""
        self.study = study
        cells = {
            cell: PretrainSpec.of(study, cell, self._code("pretrain", cell.architecture))
            for cell in study.cells()
        }
        points = study.points()
        self.pretrain = {f"{cell_folder(cell)}/metrics.json": spec for cell, spec in cells.items()}
        self.sweep: dict[str, PretrainSpec] = {}
        for swept, factor in study.sweep_runs():
            spec = PretrainSpec.of(study, swept, self._code("pretrain", swept.architecture))
            file = f"{cell_folder(swept, 'sweep')}/x{factor:g}/metrics.json"
            self.sweep[file] = spec.model_copy(update={"lr": spec.lr * factor})
        self._behind = {point_file(point): study.cell_of(point) for point in points}
        self.finetune: dict[str, FinetuneSpec] = {}
        for point in points:
            cell = study.cell_of(point)
            pretrained = cells[cell].fingerprint if cell else None
            code = self._code("finetune", point.arm.architecture, point.task)
            self.finetune[point_file(point)] = FinetuneSpec.of(study, point, pretrained, code)
        subsets = dict.fromkeys((point.task, point.seed, point.n) for point in points)
        self.trivial = {
            f"results/trivial/{task}/seed{seed}/n{n}.json": TrivialSpec.of(study, task, seed, n)
            for task, seed, n in subsets
        }

    def _code(self, stage: str, architecture: str, task: str | None = None) -> str | None:
        policy = self.study.pretrain.code_changes if stage == "pretrain" else self.study.finetune.code_changes
        return code_fingerprint(stage, architecture, task) if policy == "rerun" else None

    def cell_behind(self, result: str) -> str | None:
        """Folder of the pretraining run a fine-tuning result starts from; None for arms from scratch."""
        cell = self._behind[result]
        return cell_folder(cell) if cell else None

    def ledger(self) -> dict[str, str]:
        """Fingerprint every result file of the study must carry; a sweep has a ledger of its own."""
        return fingerprints({**self.pretrain, **self.finetune, **self.trivial})

    @staticmethod
    def write_ledger(path: Path, of: dict[str, str]) -> None:
        """Write a ledger, only if it says something new: its time stamp makes results be collected again."""
        text = json.dumps(of, indent=0, sort_keys=True)
        if not path.exists() or path.read_text() != text:
            with atomic_path(path) as temporary:
                temporary.write_text(text)

    def freeze(self, folder: Path) -> Path:
        """Write the study into `folder` under a name made from its content; return the file."""
        text = self.study.model_dump_json()
        path = folder / f"study-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        if not path.exists():
            with atomic_path(path) as temporary:
                temporary.write_text(text)
        return path
