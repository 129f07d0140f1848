"""The study behind the graph: validated, frozen for queued jobs, and turned into one spec per node."""

import os
import re
import shutil
import sys
from pathlib import Path

from snakemake.cli import get_argument_parser
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from geoladder.data.bench.files import BUCKETS
from geoladder.data.bench.nshot import VAL_SHARE
from geoladder.study.corpora import corpus_name
from geoladder.errors import GeoladderError
from geoladder.study.isolation import (
    as_ledger,
    check_collected,
    claim_outputs,
    named_by,
    study_name,
    thaw,
    write_once,
)
from geoladder.study.load import parse_study
from geoladder.study.specs import (
    ArchiveSpec,
    BenchArchiveSpec,
    ChipsSpec,
    FetchSpec,
    IndexSpec,
    LabelsSpec,
    StatsSpec,
)
from geoladder.study.nodes import Nodes
from geoladder.runs.command import command
from geoladder.runs.owner import claim, forget_owner, is_left_behind
from geoladder.runs.session import start_worker

# Jobs on a cluster read this file when they start, maybe hours later. They get the study the graph was built from,
# not whatever config.yaml says by then: `sbatch` carries the variable to them.
SNAPSHOT = "GEOLADDER_STUDY"
KEPT = Path(".snakemake/geoladder")
OWNER = KEPT / "owner"

# Nothing is written while this is read, as a dry run does, and a run beside another: that is left to `onstart`.
try:
    if workflow.is_main_process or not os.getenv(SNAPSHOT):
        study = parse_study(dict(config), source="the study")
        frozen = study.model_dump_json()
        FROZEN = (KEPT / f"study-{named_by(frozen)}.json").resolve()
        os.environ[SNAPSHOT] = str(FROZEN)
    else:
        FROZEN = Path(os.environ[SNAPSHOT])
        study = thaw(FROZEN)
    nodes = Nodes(study)
except GeoladderError as problem:
    raise WorkflowError(str(problem)) from None

# Two jobs of one thread each on two cores; spinning threads would starve one another.
os.environ |= {
    "OMP_WAIT_POLICY": "PASSIVE",
    "OMP_NUM_THREADS": str(study.compute.threads),
}

RESULTS = study.results
LOGS = RESULTS.replace("results", "logs", 1)


pathvars:
    results=RESULTS,
    logs=LOGS,


PRETRAIN = f"{RESULTS}/pretrain/{{corpus}}/{{architecture}}-{{size}}/seed{{seed}}"
ORACLE = f"{RESULTS}/oracle/{{architecture}}-{{size}}/seed{{seed}}"
CURVE = "{corpus}/{architecture}-{size}{variant}/{task}"
FINETUNE = f"{RESULTS}/{{stage}}/{CURVE}/seed{{seed}}/n{{n}}.json"
RATE = f"{RESULTS}/rates/{CURVE}/n{{n}}.json"
SPLIT = f"{RESULTS}/splits/{{task}}/{{draw}}.parquet"
RELEASED_CARD = f"{RESULTS}/released/{{architecture}}-{{size}}/model.json"
TRIVIAL = f"{RESULTS}/trivial/{{task}}/seed{{seed}}.json"
PRETRAIN_RESULTS = list(nodes.pretrain)
ORACLE_RESULTS = list(nodes.oracle)
FINETUNE_RESULTS = list(nodes.finetune)
LINEAR_RESULTS = list(nodes.linear)
TRIVIAL_RESULTS = list(nodes.trivial)
WORLD_CORPUS = study.validation.corpus
# Both come to data/<corpus>/archive, so each name belongs to one of two rules.
REMOTE = [name for name, corpus in study.corpora.items() if corpus.url]
SYNTHETIC = [
    name for name, corpus in study.corpora.items() if corpus.source == "synthetic"
]
NONE = r"(?!)"


wildcard_constraints:
    name="|".join(study.corpora),  # and not the bench, whose folder lies beside theirs
    corpus=r"[a-z][a-z0-9_]*(@\d+-\d+)?",
    architecture=r"[a-z0-9_]+",
    size=r"[A-Za-z0-9_.-]+",
    stage="finetune|gates",
    variant=r"(\+[a-z]+)*",  # mode and transfer of an arm, where they are not the usual ones
    task=r"[a-z][a-z0-9_]*",
    seed=r"\d+",
    n=r"\d+",
    draw=r"seed\d+|philEO|official",
    factor=r"[0-9.e+-]+",
    group=r"\d+-of-\d+",


# How a cell is computed is not what it is, so none of this stands in `params`, whose change would run it again.
PER_NODE = study.compute.devices // study.compute.nodes
CORES = PER_NODE * (study.compute.threads + study.compute.workers)
TRAINING_OPTIONS = [
    f"--devices={study.compute.devices}",
    f"--strategy={study.compute.strategy}",
    f"--workers={study.compute.workers}",
    f"--scan={study.compute.scan}",
]
if study.compute.micro_batch:
    TRAINING_OPTIONS.append(f"--micro-batch={study.compute.micro_batch}")
# Fine-tuning spares memory by passes over micro-batches alone; some of its models have no blocks to compute twice.
TUNING_OPTIONS = [
    option for option in TRAINING_OPTIONS if option.split("=")[0] != "--workers"
]
if study.compute.activation_checkpointing:
    TRAINING_OPTIONS.append("--activation-checkpointing")
if study.compute.compile:
    TRAINING_OPTIONS.append("--compile")
TRAINING_RESOURCES = {
    "nodes": study.compute.nodes,
    "gres": f"gpu:{PER_NODE}",
    "cpus_per_task": CORES,
}
LAUNCH = ""  # the one value that stands unquoted in commands: the shell fills its $SLURM_JOB_ID
if study.compute.nodes > 1:
    # One torchrun on each machine, which starts the ranks there; they meet at the first, where this command runs.
    LAUNCH = (
        f"srun --nodes={study.compute.nodes} --ntasks={study.compute.nodes} --ntasks-per-node=1"
        f" --cpus-per-task={CORES} torchrun --nnodes={study.compute.nodes} --nproc-per-node={PER_NODE}"
        " --rdzv-id=$SLURM_JOB_ID --rdzv-backend=c10d"
        " --rdzv-endpoint=$(hostname):$((20000 + SLURM_JOB_ID % 20000)) --no-python -- "
    )
    # `mpi`: the executor leaves the srun to us. It would ask for as many tasks on each GPU, too.
    TRAINING_RESOURCES |= {
        "mpi": "srun",
        "tasks": study.compute.nodes,
        "tasks_per_gpu": 0,
    }


def archive_folder(wildcards):
    """Where the archive of a corpus is: the study's path, or where we make or fetch it."""
    return str(study.corpora[wildcards.name].path or f"data/{wildcards.name}/archive")


def bench_folder(_):
    """Where the bench is: the study's path, or our own synthetic one."""
    return str(study.bench.path or "data/bench/archive")


def as_input(*files):
    """Those of the user's files that Snakemake can watch: it takes brackets in a name for notation of its own."""
    return [str(file) for file in files if not re.search("[{}<>]", str(file))]


def archive_ready(wildcards):
    """The file whose presence says that an archive is complete; trees and npy folders have nothing of the kind."""
    if study.corpora[wildcards.name].source not in ("synthetic", "majortom"):
        return []
    return as_input(f"{archive_folder(wildcards)}/metadata.parquet")


def bench_ready(_):
    """The file whose presence says that the bench is complete; a real bench has nothing of the kind."""
    return (
        "data/bench/archive/metadata/tiles_metadata.json"
        if study.bench.path is None
        else []
    )


def fetch_groups(wildcards):
    """Groups of parts that are fetched by jobs of their own."""
    jobs = study.compute.fetch_jobs
    return [
        f"data/{wildcards.name}/fetched/{job}-of-{jobs}.done"
        for job in range(1, jobs + 1)
    ]


def chips_groups(wildcards):
    """Groups of parts whose chips are cut by jobs of their own; none where one job cuts them all."""
    jobs = study.compute.chip_jobs
    return [
        f"data/{wildcards.name}/chips-groups/{job}-of-{jobs}.done"
        for job in range(1, jobs + 1)
        if jobs > 1
    ]


def training_data(wildcards):
    """The file that says that what a cell trains on is there: its chips, or the index of its tiles."""
    name = corpus_name(wildcards.corpus)
    chips = study.pretrain.read == "chips"
    return (
        f"data/{name}/chips/manifest.parquet" if chips else f"data/{name}/index.parquet"
    )


def training_data_options(wildcards):
    """What a cell trains on, as options of the command line."""
    name = corpus_name(wildcards.corpus)
    if study.pretrain.read == "chips":
        return ["--chips", f"data/{name}/chips"]
    archive = study.corpora[name].path or f"data/{name}/archive"
    index = f"data/{name}/index.parquet"
    return ["--archive", archive, "--index", index]


def checkpoint_of(wildcards, result):
    """The checkpoint that a run with results at the pattern `result` starts from; nothing for arms from scratch."""
    cell = nodes.cell_behind[result.format(**wildcards)]
    return f"{cell}/model.safetensors" if cell else []


def checkpoint_option(wildcards, result):
    """The checkpoint as an option of the command line; nothing for arms from scratch."""
    cell = nodes.cell_behind[result.format(**wildcards)]
    return ["--checkpoint", cell] if cell else []


def rate_of(wildcards):
    """The choice of a fine-tuning run's rate; nothing where the study gives rates."""
    return nodes.rate_behind[FINETUNE.format(**wildcards)] or []


def released_file(wildcards):
    """The file of released weights, if it is there: the job says how to get one that is not."""
    card = RELEASED_CARD.format(**wildcards)
    file = nodes.released[card].file
    return as_input(file) if file and file.is_file() else []


def tuning_memory_mb(wildcards):
    """Memory of fine-tuning at n patches a bucket: every rank holds ten bands (float32) and labels of all of them."""
    side_px = 128 if study.bench.path else study.bench.patch_px
    patches = (1 + VAL_SHARE) * len(BUCKETS) * int(wildcards.n)
    return 4000 + round(PER_NODE * patches * side_px**2 * 48 / 1e6)


def split_of(wildcards):
    """The few-shot subsets of a run."""
    return nodes.split_of(wildcards.task, int(wildcards.seed))


def split_of_rate(wildcards):
    """The few-shot subsets on which a rate is chosen."""
    return nodes.split_of(wildcards.task, nodes.rates[RATE.format(**wildcards)].seed)


def index_files(wildcards):
    """The official index files of a split; none where subsets are drawn."""
    spec = nodes.split[SPLIT.format(**wildcards)]
    return [study.bench.index_file(spec.task, n) for n in spec.n if spec.indices]


def index_files_of(wildcards):
    """Those of them that are inputs."""
    return as_input(*index_files(wildcards))


def index_file_options(wildcards):
    """The official index files as options of the command line."""
    return [
        word for file in index_files(wildcards) for word in ("--indices", str(file))
    ]


def ledger_of(part):
    """A ledger of the study, of all results or of the sweep's; that of another study has another name."""
    return str(KEPT / f"ledger-{named_by(as_ledger(nodes.ledger(part)))}.json")


def results_of(part, rule):
    """An input function: the results that a rule collects, if no older table can be taken for its own."""

    def results(_):
        settings, table = workflow.dag_settings, getattr(rules, rule).output.table
        forced = settings.forceall or settings.forcetargets or settings.forcerun
        remembered = forced or workflow.persistence.metadata(table)
        if workflow.is_main_process and not remembered and not is_asked_to("unlock"):
            try:
                check_collected(Path(table), nodes.ledger(part))
            except GeoladderError as problem:
                raise WorkflowError(str(problem)) from None
        return list(nodes.ledger(part))

    return results


def is_asked_to(option):
    """Whether Snakemake's own command has an option; what it is to do is not known yet while this is read."""
    return getattr(get_argument_parser().parse_known_args(sys.argv[1:])[0], option)


# Before Snakemake looks at its locks, and so not in `onstart`.
if workflow.is_main_process and is_left_behind(OWNER) and not is_asked_to("dryrun"):
    forget_owner(OWNER, Path(".snakemake/locks"))


# Under the lock. Small cells would spend most of their time importing torch; on one machine they are forked from a warm
# worker. `benchmark` then measures the caller, which waits: its seconds are the job's, its memory and CPU are not.
onstart:
    if workflow.is_main_process and not workflow.dryrun:
        if (
            workflow.local_exec
            and study.compute.nodes > 1
            and not shutil.which("srun")
        ):
            raise WorkflowError(
                f"compute.nodes is {study.compute.nodes}, but there is no srun to reach other machines with; "
                "run on a cluster with --profile slurm, or set compute.nodes to 1"
            )
        try:
            claim(OWNER)
            claim_outputs(
                KEPT / "made.json",
                study_name(workflow.configfiles[-1]),
                workflow.persistence.all_outputfiles(),
            )
        except GeoladderError as problem:
            raise WorkflowError(str(problem)) from None
        write_once(FROZEN, frozen)
        for part in ("all", "sweep"):
            write_once(Path(ledger_of(part)), as_ledger(nodes.ledger(part)))
        if workflow.local_exec and not start_worker(KEPT):
            logger.warning(
                "No temporary folder has a path short enough for a socket, so jobs start without a warm worker."
            )
