"""Whether linear heads show what pretraining is worth with few labels, and what a point of them costs.

U-Net s of the default study: three pretraining seeds crossed with ten draws, against random encoders of the same
seeds. Takes a folder in which the default study has run, whatever version ran it, and writes the table of effects:

    python benchmarks/linear.py --run DIR --out linear_effect.csv
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch

from geoladder.data.bench.reader import Bench, index_bench
from geoladder.data.bench.split import write_split
from geoladder.report.collect import collect
from geoladder.report.linear_effect import linear_effect
from geoladder.runs.atomic import atomic_path
from geoladder.study.arms import RANDOM
from geoladder.study.downstream_specs import LinearCell
from geoladder.study.load import load_study
from geoladder.study.nodes import Nodes
from geoladder.study.study import Study
from geoladder.training.linear import fit_linear

MOST_CPU_SECONDS = 0.5
"""Of a point, features included."""
MUST_HELP = (("roads", 4), ("landcover", 4))
"""Task and n at which the interval over draws must lie below zero."""
SHOWN = ["task", "n", "random", "pretrained", "effect", "draws_low", "draws_high", "low", "high"]


def small(path: Path, sizes: list[int]) -> Study:
    """The default study with linear heads at these n, on the tasks above."""
    study = load_study(path)
    heads = study.linear.model_copy(
        update={"n": sizes, "tasks": [task for task, _ in MUST_HELP], "keep": "none"}
    )
    finetune = study.finetune.model_copy(update={"n": sizes})
    return study.model_copy(update={"linear": heads, "finetune": finetune, "gates": None})


def effects(study: Study, run: Path, scratch: Path) -> tuple[pd.DataFrame, float]:
    """The table of effects, and CPU seconds of a point."""
    nodes, index = Nodes(study), scratch / "index.parquet"
    archive = run / "data/bench/archive"
    index_bench(archive, index)
    bench, ledger, points = Bench(archive, index), {}, 0
    tasks, draws, sizes = study.linear_subsets()
    splits = [nodes.split_of(task, draw) for task in tasks for draw in draws]
    for file in splits:
        (scratch / file).parent.mkdir(parents=True, exist_ok=True)
        write_split(nodes.split[file], bench, scratch / file, [])
    start = time.process_time()
    for folder, cell in nodes.linear_cells.items():
        first = cell.heads[0]
        if (first.architecture, first.size) != ("unet", "s") or not (
            first.corpus == RANDOM or first.fraction == 1
        ):
            continue
        if first.corpus not in (RANDOM, study.validation.corpus):
            continue
        checkpoint = None
        if behind := nodes.cell_behind[folder]:
            checkpoint = run / behind
            made = json.loads((checkpoint / "model.json").read_text())["fingerprint"]
            cell = LinearCell(heads=[head.model_copy(update={"pretrained": made}) for head in cell.heads])
        files = [scratch / file for file in splits]
        fit_linear(cell, archive, index, run / "data/stats.json", files, checkpoint, scratch / folder)
        ledger |= {f"{folder}/{head.task}.json": head.fingerprint for head in cell.heads}
        points += len(tasks) * len(draws) * len(sizes)
    seconds = (time.process_time() - start) / points
    (scratch / "ledger.json").write_text(json.dumps(ledger))
    collect(scratch / "ledger.json", scratch / "results.csv", scratch)
    return linear_effect(pd.read_csv(scratch / "results.csv")), seconds


def main() -> None:
    """Fit the heads, write the table, and say whether both bars are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder in which the default study has run")
    parser.add_argument("--study", type=Path, default=Path("config.yaml"))
    parser.add_argument("--n", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--out", type=Path, default=Path("results/reference/linear_effect.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as scratch:
        table, seconds = effects(small(options.study, options.n), options.run, Path(scratch))
    with atomic_path(options.out) as path:
        table.to_csv(path, index=False)
    print(table[SHOWN].round(4).to_string(index=False))
    ends = table.set_index(["task", "n"]).draws_high
    print(f"{seconds:.2f} CPU seconds a point (at most {MOST_CPU_SECONDS})")
    for task, n in MUST_HELP:
        if (task, n) in ends.index:
            print(f"{task}, n = {n}: pretraining {'helps' if ends[task, n] < 0 else 'is not shown to help'}")


if __name__ == "__main__":
    main()
