"""The command line: `geoladder <verb>`, one verb per node of the graph and a few for people.

Heavy imports happen inside the verbs, so that `--help` answers at once. Verbs of nodes take `--spec`, the canonical
JSON the workflow cuts from the study, and the paths they read and write.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoladder.cost import verbs as cost_verbs
from geoladder.data.fetch import verb as fetch_verb
from geoladder.errors import GeoladderError
from geoladder.runs.worker import SOCKET_VARIABLE, call
from geoladder.scaling.verbs import add_verbs
from geoladder.training import weight_verbs

if TYPE_CHECKING:
    from geoladder.study.corpora import Earth
    from geoladder.synth.earth import EarthConfig

Options = argparse.Namespace
PEOPLE = {
    "cells",
    "status",
    "inspect",
    "fetch",
    "profile",
    "plan",
    "fit",
    "predict",
    "compare",
    "frontier",
    "isoflop",
    "claims",
    *weight_verbs.VERBS,
}
"""Verbs that run here even where a worker waits for jobs."""


def _earth(settings: "Earth | None") -> "EarthConfig":
    """The synthetic Earth of a spec; the size of tiles is not the Earth's but the archive's."""
    from geoladder.synth.earth import EarthConfig

    if settings is None:
        raise GeoladderError("a real archive is not made: this node is for `source: synthetic`")
    return EarthConfig(**settings.model_dump(exclude={"tile_px"}))


def _archive(options: Options) -> None:
    from geoladder.study.specs import ArchiveSpec
    from geoladder.synth.archive import write_archive

    spec = ArchiveSpec.model_validate_json(options.spec)
    earth = _earth(spec.earth)
    write_archive(
        options.out,
        earth,
        spec.corpus.like,
        spec.corpus.tiles,
        spec.tile_px,
        options.threads,
        spec.corpus.seed,
    )


def _bench(options: Options) -> None:
    from geoladder.study.specs import BenchArchiveSpec
    from geoladder.synth.bench import write_bench

    spec = BenchArchiveSpec.model_validate_json(options.spec)
    bench = spec.bench
    write_bench(
        options.out,
        _earth(spec.earth),
        bench.patch_px,
        bench.train_tiles,
        bench.test_tiles,
        bench.patches_per_tile,
        bench.seed,
        options.threads,
    )


def _bench_index(options: Options) -> None:
    from geoladder.data.bench.reader import index_bench

    index_bench(options.bench, options.out)


def _index(options: Options) -> None:
    from geoladder.data.index.build import build_index
    from geoladder.study.specs import IndexSpec

    spec = IndexSpec.model_validate_json(options.spec)
    build_index(spec, options.archive, options.bench_index, options.out, options.ledger)


def _chips(options: Options) -> None:
    from geoladder.data.batches.chips import merge_chips, write_chips, write_group
    from geoladder.data.batches.pieces import Group
    from geoladder.study.specs import ChipsSpec

    spec = ChipsSpec.model_validate_json(options.spec)
    if options.parts:
        write_group(spec, options.archive, options.index, options.out, Group.parse(options.parts))
    elif options.merge:
        merge_chips(spec, options.archive, options.index, options.out, options.merge)
    else:
        write_chips(spec, options.archive, options.index, options.out)


def _stats(options: Options) -> None:
    from geoladder.data.batches.stats import write_stats
    from geoladder.study.specs import StatsSpec

    write_stats(StatsSpec.model_validate_json(options.spec), options.chips, options.out)


def _pretrain(options: Options) -> None:
    from geoladder.study.specs import PretrainSpec
    from geoladder.training.pretrain import pretrain

    spec = PretrainSpec.model_validate_json(options.spec)
    pretrain(
        spec,
        options.chips,
        options.validation,
        options.stats,
        options.out,
        threads=options.threads,
        devices=options.devices,
        strategy=options.strategy,
        micro_batch=options.micro_batch or None,
        activation_checkpointing=bool(options.activation_checkpointing),
        compile_model=bool(options.compile),
        archive=options.archive,
        index=options.index,
        workers=options.workers,
        progress=options.log is None,  # jobs of a workflow share one terminal
    )


def _finetune(options: Options) -> None:
    from geoladder.study.specs import FinetuneSpec
    from geoladder.training.finetune import finetune

    spec = FinetuneSpec.model_validate_json(options.spec)
    finetune(
        spec,
        options.bench,
        options.bench_index,
        options.stats,
        options.checkpoint,
        options.out,
        threads=options.threads,
    )


def _trivial(options: Options) -> None:
    from geoladder.study.specs import TrivialSpec
    from geoladder.training.trivial import trivial

    trivial(TrivialSpec.model_validate_json(options.spec), options.bench, options.bench_index, options.out)


def _collect(options: Options) -> None:
    from geoladder.report.collect import collect

    collect(options.ledger, options.out, Path.cwd())


def _laws(options: Options) -> None:
    from geoladder.report.laws import fit_laws
    from geoladder.study.analysis import Fit

    fit_laws(options.results, Fit.model_validate_json(options.spec), options.corpus, options.out)


def _tables(options: Options) -> None:
    from geoladder.report.tables import write_tables

    write_tables(options.results, options.laws, options.out)


def _gates(options: Options) -> None:
    from geoladder.report.gates import write_gates
    from geoladder.study.downstream import Gates

    write_gates(options.results, Gates.model_validate_json(options.spec), options.corpus, options.out)


def _figure_scaling(options: Options) -> None:
    from geoladder.report.figures.scaling import draw_scaling
    from geoladder.study.analysis import Figures

    draw_scaling(options.results, options.laws, Figures.model_validate_json(options.spec), options.out)


def _figure_gates(options: Options) -> None:
    from geoladder.report.figures.gates import draw_gates
    from geoladder.study.analysis import Figures

    draw_gates(options.gates, options.results, Figures.model_validate_json(options.spec), options.out)


def _figure_coverage(options: Options) -> None:
    from geoladder.report.figures.coverage import draw_coverage
    from geoladder.study.analysis import Figures

    settings = Figures.model_validate_json(options.spec or "{}")
    draw_coverage(options.ledger, settings, options.out)


def _figure_lr(options: Options) -> None:
    from geoladder.report.figures.lr import draw_lr
    from geoladder.study.analysis import Figures

    draw_lr(options.results, Figures.model_validate_json(options.spec or "{}"), options.table, options.out)


def _cells(options: Options) -> None:
    from geoladder.report.cells import cells_table
    from geoladder.study.load import load_study

    print(cells_table(load_study(options.study)))  # noqa: T201


def _status(options: Options) -> None:
    from geoladder.report.status import status_table
    from geoladder.study.load import load_study

    print(status_table(load_study(options.study), Path.cwd()))  # noqa: T201


def _inspect(options: Options) -> None:
    from geoladder.report.inspect import inspect

    print(inspect(options.path, options.png, row=options.row))  # noqa: T201


# verb: (function, one line of help, paths it takes)
NODES: dict[str, tuple[Callable[[Options], None], str, tuple[str, ...]]] = {
    "make-archive": (_archive, "write a synthetic MajorTOM archive", ("out",)),
    "make-bench": (_bench, "write a synthetic PhilEO Bench", ("out",)),
    "bench-index": (_bench_index, "index the bench's files", ("bench", "out")),
    "index": (_index, "index an archive's usable tiles", ("archive", "bench-index", "out", "ledger")),
    "chips": (_chips, "cut an archive's tiles into training chips", ("archive", "index", "out")),
    "stats": (_stats, "band statistics in reflectance", ("chips", "out")),
    "pretrain": (_pretrain, "pretrain one cell", ("validation", "stats", "out")),
    "finetune": (_finetune, "fine-tune at one n of one curve", ("bench", "bench-index", "stats", "out")),
    "trivial": (_trivial, "predict-zero and predict-mean baselines", ("bench", "bench-index", "out")),
    "collect": (_collect, "gather all results into one table", ("ledger", "out")),
    "laws": (_laws, "fit the study's scaling laws", ("results", "out")),
    "tables": (_tables, "write the tables", ("results", "laws", "out")),
    "gates": (_gates, "check the synthetic Earth's gates", ("results", "out")),
    "figure-scaling": (_figure_scaling, "draw the scaling figure", ("results", "laws", "out")),
    "figure-coverage": (_figure_coverage, "draw kept and dropped tiles on a map", ("ledger", "out")),
    "figure-lr": (_figure_lr, "draw a learning-rate sweep", ("results", "table", "out")),
    "figure-gates": (_figure_gates, "draw the gates figure", ("gates", "results", "out")),
}


# Options of single verbs: how they are parsed.
OWN_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "chips": {
        "--parts": {"help": "cut only this group of parts, such as 3/16"},
        "--merge": {"type": int, "help": "join the chips of so many groups, all cut before"},
    },
    "pretrain": {
        "--chips": {"type": Path, "help": "chip folder, for runs that read chips"},
        "--archive": {"type": Path, "help": "archive, for runs that read tiles"},
        "--index": {"type": Path, "help": "its index.parquet, for runs that read tiles"},
        "--workers": {"type": int, "default": 0, "help": "processes that read tiles"},
    },
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="geoladder", description="Scaling studies for geospatial foundation models."
    )
    parser.add_argument("--log", type=Path, help="also write the log to this file")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in (("cells", "print the study's cells"), ("status", "print which cells older code made")):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--study", type=Path, default=Path("config.yaml"), help="default: config.yaml")
        verb.set_defaults(run=_cells if name == "cells" else _status)
    verb = verbs.add_parser("inspect", help="print what is in a file and draw a quicklook")
    verb.add_argument("path", type=Path, help="parquet, npy, json, or checkpoint folder")
    verb.add_argument("--row", type=int, default=0, help="row, patch or chip to draw (default 0)")
    verb.add_argument("--png", type=Path, help="where to draw it (default: beside the working folder's name)")
    verb.set_defaults(run=_inspect)
    fetch_verb.add_verb(verbs)
    cost_verbs.add_verbs(verbs)
    add_verbs(verbs)
    weight_verbs.add_verbs(verbs)
    for name, (function, text, paths) in NODES.items():
        verb = verbs.add_parser(name, help=text)
        verb.set_defaults(run=function)
        for path in paths:
            verb.add_argument(f"--{path}", type=Path, required=True)
        for option, how in OWN_OPTIONS.get(name, {}).items():
            verb.add_argument(option, **how)
        verb.add_argument("--spec", help="canonical JSON of what this node depends on")
        verb.add_argument("--corpus", help="corpus the laws are fitted on")
        verb.add_argument(
            "--checkpoint", type=Path, help="folder of a pretrained model; omit to start from scratch"
        )
        verb.add_argument("--threads", type=int, default=1)
        verb.add_argument("--devices", type=int, default=1)
        verb.add_argument("--strategy", default="auto", choices=("auto", "ddp", "fsdp"))
        verb.add_argument("--micro-batch", type=int, default=0, help="0: a device's whole share of a batch")
        for option in ("--activation-checkpointing", "--compile"):
            verb.add_argument(option, type=int, default=0, choices=(0, 1))
    return parser


def _start_log(file: Path | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setLevel(logging.WARNING if file else logging.INFO)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file))
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(name)s %(message)s", handlers=handlers, force=True
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; return the exit status: 0, or 1 after a message the user can act on."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    # A rank that torchrun started must be a process of its own: Lightning reads which one it is when imported.
    worker = None if "LOCAL_RANK" in os.environ else os.environ.get(SOCKET_VARIABLE)
    try:
        if worker and options.verb not in PEOPLE and Path(worker).exists():
            return call(arguments, worker)
        _start_log(options.log)
        options.run(options)
    except GeoladderError as problem:
        logging.getLogger(__name__).debug("stopped", exc_info=True)
        print(f"geoladder {options.verb}: {problem}", file=sys.stderr)  # noqa: T201
        if options.log:
            logging.getLogger(__name__).info("error: %s", problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
