"""A study that is killed again and again, against the same study left alone.

    python benchmarks/kills.py [--kills 30] [--seed 1] [--study studies/ci.yaml]

Each kill hits, at a random moment, the whole group of the run's processes, Snakemake alone, the warm worker, one of
its children, or sends the group SIGTERM, each kind equally often; then the same command runs again. A study that ends
before its last kill is compared and begun again in an empty folder. Every file below `data` and `results` must be
that of an undisturbed run, and none besides may be left, neither half-written nor a lock; only times, seconds and
speeds, may differ. Exits with 1 where one is another.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import psutil

from geoladder.runs.digest import intact

ROOT = Path(__file__).parents[1]
TARGET = "results/figures/scaling.pdf"
ENDS = ("group", "main", "terminate")
KINDS = (*ENDS, "worker", "child")
TIMES = {"seconds", "samples_per_second"}
SHARE = 0.2
"""Of an undisturbed run's time: the longest from a start, or a kill that the run survives, to the next kill."""


class Run:
    """One call of Snakemake in `folder`, with a session of its own."""

    def __init__(self, folder: Path, study: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            ROOT / "Snakefile",
            "--directory",
            folder,
        ]
        command += ["--configfile", study, "--cores", "2", "--quiet", "progress", "--", TARGET]
        self.log = (folder.parent / f"{folder.name}.log").open("a")
        self.process = subprocess.Popen(
            list(map(str, command)), start_new_session=True, stdout=self.log, stderr=self.log
        )

    def kill(self, kind: str) -> bool:
        """Kill a part of the run; False where it has no such part now."""
        try:
            main = psutil.Process(self.process.pid)
            living = [child for child in main.children() if child.status() != psutil.STATUS_ZOMBIE]
            workers = [child for child in living if "serve-jobs" in child.cmdline()]
            children = [child for worker in workers for child in worker.children()]
            if kind in ("group", "terminate"):
                os.killpg(self.process.pid, signal.SIGKILL if kind == "group" else signal.SIGTERM)
                return True
            parts = {"main": [main], "worker": workers, "child": children}[kind]
            for part in parts[:1]:
                part.kill()
            return bool(parts)
        except (psutil.NoSuchProcess, ProcessLookupError):
            return False

    def ended(self, within_s: float) -> bool:
        """Whether the run ends within so many seconds."""
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True


def finish(folder: Path, study: Path) -> None:
    """Run a study to its end; leaves with Snakemake's words where it fails."""
    run = Run(folder, study)
    if run.process.wait():
        sys.exit(f"the study failed:\n{Path(run.log.name).read_text()[-4000:]}")


def planned(kills: int, draw: random.Random) -> list[str]:
    """Kinds of kills in a random order, each as often as the others; one that ends the run after each of the worker.

    A run goes on without its worker, and so without children, that further kills could hit.
    """
    kinds: list[str] = []
    while len(kinds) < kills:
        after, *others = draw.sample(ENDS, len(ENDS))
        steps = [["worker", after], ["child"], *([kind] for kind in others)]
        kinds += chain.from_iterable(draw.sample(steps, len(steps)))
    return kinds[:kills]


def disturb(
    alone: Path, folder: Path, study: Path, kills: int, seed: int, longest_s: float
) -> tuple[Counter[str], list[str]]:
    """Run a study under so many kills, and to its end; how many of each kind hit it, and files unlike `alone`'s."""
    draw, counts, different = random.Random(seed), Counter[str](), list[str]()
    run, starts = Run(folder, study), 1
    for kind in planned(kills, draw):
        hit = False
        while not hit:
            if run.ended(draw.uniform(0.5, longest_s)):
                if run.process.returncode == 0:
                    different += differences(alone, folder)[1]
                    for part in ("data", "results", "logs", ".snakemake"):
                        shutil.rmtree(folder / part)
                run, starts = Run(folder, study), starts + 1
                continue
            hit = run.kill(kind)
        counts[kind] += 1
        print(f"{counts.total():3d}  {kind:9s}  start {starts}  {_state(folder)}", flush=True)
        if kind in ENDS:
            run.process.wait()
            run, starts = Run(folder, study), starts + 1
    run.process.wait()
    finish(folder, study)
    return counts, different + differences(alone, folder)[1]


def _state(folder: Path) -> str:
    results = len(list(folder.glob("results/*/**/*.json")))
    return f"{results} results, {len(list(folder.glob('results/**/step-*.ckpt')))} checkpoints"


def content(file: Path) -> object:
    """What a file holds, without times."""
    if file.suffix == ".json":
        return _timeless(json.loads(file.read_text()))
    if file.suffix == ".csv":
        with file.open(newline="") as handle:
            return [_timeless(row) for row in csv.DictReader(handle)]
    return file.read_bytes()


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key not in TIMES}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def differences(one: Path, other: Path) -> tuple[int, list[str]]:
    """Files of both folders below `data` and `results`: their number, and those that are not equal."""
    files = sorted(
        {
            str(file.relative_to(folder))
            for folder in (one, other)
            for part in ("data", "results")
            for file in (folder / part).rglob("*")
            if file.is_file() and (file.suffix != ".seal" or ".tmp" in file.name)
        }
    )
    different = [
        file
        for file in files
        if not ((one / file).exists() and (other / file).exists())
        or content(intact(one / file, whole=True)) != content(intact(other / file, whole=True))
    ]
    return len(files), different


def main() -> None:
    """Compare, print a table, and say by the exit status whether all files are equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--study", type=Path, default=ROOT / "studies/ci.yaml")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to work (default: a temporary folder)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        base = options.folder or Path(temporary)
        folders = alone, killed = base / "alone", base / "killed"
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        finish(alone, options.study)
        took_s = time.monotonic() - start
        print(f"undisturbed: {took_s:.0f} s", flush=True)
        longest_s = SHARE * took_s
        counts, different = disturb(alone, killed, options.study, options.kills, options.seed, longest_s)
        number, _ = differences(alone, killed)
        for kind in KINDS:
            print(f"{kind:9s}  {counts[kind]:3d} kills")
        print(f"{counts.total()} kills, {number} files, {len(different)} different")
        print(*different, sep="\n")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
