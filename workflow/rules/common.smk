"""The study behind the graph: validated, frozen for queued jobs, and turned into one spec per node."""

import json
import os
import shutil
from pathlib import Path

from snakemake.exceptions import WorkflowError

from geoladder.data.bench.files import BUCKETS
from geoladder.data.bench.nshot import VAL_SHARE
from geoladder.study.corpora import corpus_name
from geoladder.errors import GeoladderError
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
from geoladder.runs.session import claim, forget_dead_owner, start_worker

# Jobs on a cluster read this file when they start, maybe hours later. They get the study the graph was built from,
# not whatever config.yaml says by then: `sbatch` carries the variable to them.
SNAPSHOT = "GEOLADDER_STUDY"
FOLDER = Path(".snakemake/geoladder").resolve()
if not workflow.is_main_process and os.getenv(SNAPSHOT):
    config.clear()
    config.update(json.loads(Path(os.getenv(SNAPSHOT)).read_text()))

try:
    study = parse_study(dict(config), source="the study")
    nodes = Nodes(study)
except GeoladderError as problem:
    raise WorkflowError(str(problem)) from None

if workflow.is_main_process:
    os.environ[SNAPSHOT] = str(nodes.freeze(FOLDER))
    nodes.write_ledger(Path("results/ledger.json"), nodes.ledger())
    if nodes.sweep:
        nodes.write_ledger(Path("results/sweep/ledger.json"), nodes.ledger("sweep"))

# Two jobs of one thread each on two cores; spinning threads would starve one another.
os.environ |= {
    "OMP_WAIT_POLICY": "PASSIVE",
    "OMP_NUM_THREADS": str(study.compute.threads),
}

PRETRAIN = "results/pretrain/{corpus}/{architecture}-{size}/seed{seed}"
ORACLE = "results/oracle/{architecture}-{size}/seed{seed}"
FINETUNE = "results/{stage}/{corpus}/{architecture}-{size}{variant}/{task}/seed{seed}/n{n}.json"
RATE = "results/rates/{corpus}/{architecture}-{size}{variant}/{task}/n{n}.json"
SPLIT = "results/splits/{task}/{draw}.parquet"
TRIVIAL = "results/trivial/{task}/seed{seed}.json"
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


def bench_folder():
    """Where the bench is: the study's path, or our own synthetic one."""
    return str(study.bench.path or "data/bench/archive")


def archive_ready(wildcards):
    """The file whose presence says that an archive is complete; trees and npy folders have nothing of the kind."""
    if study.corpora[wildcards.name].source not in ("synthetic", "majortom"):
        return []
    return f"{archive_folder(wildcards)}/metadata.parquet"


def bench_ready(_):
    """The file whose presence says that the bench is complete; a real bench has nothing of the kind."""
    return (
        f"{bench_folder()}/metadata/tiles_metadata.json"
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
    card = "results/released/{architecture}-{size}/model.json".format(**wildcards)
    file = nodes.released[card].file
    return str(file) if file and file.is_file() else []


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


def index_files_of(wildcards):
    """The official index files of a split; none where subsets are drawn."""
    spec = nodes.split[SPLIT.format(**wildcards)]
    return [study.bench.index_file(spec.task, n) for n in spec.n if spec.indices]


def index_file_options(wildcards, input):
    """The official index files as options of the command line."""
    return [word for file in input.indices for word in ("--indices", file)]


if workflow.is_main_process:
    forget_dead_owner(FOLDER / "owner", Path(".snakemake/locks"))


# Small cells would spend most of their time importing torch; on one machine they are forked from a warm worker.
# `benchmark` then measures the caller, which waits: its seconds are the job's, its memory and CPU are not.
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
        claim(FOLDER / "owner")
        if workflow.local_exec:
            worker = start_worker(FOLDER)
