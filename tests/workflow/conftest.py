"""The real graph on the smallest study, run once; each test edits a copy of it and looks at what would run."""

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

ROOT = Path(__file__).parents[2]
TARGET = "results/figures/scaling.pdf"


class Project:
    """A folder with a study in it, driven through the real command line."""

    def __init__(self, folder: Path, study: dict) -> None:
        self.folder = folder
        self.study = study

    def write(self, comment: str = "") -> None:
        text = comment + yaml.safe_dump(self.study, sort_keys=False)
        (self.folder / "study.yaml").write_text(text)

    def command(self, *options: str, target: str = TARGET) -> list[str]:
        return [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(ROOT / "Snakefile"),
            "--directory",
            str(self.folder),
            "--configfile",
            str(self.folder / "study.yaml"),
            "--cores",
            "2",
            *options,
            "--",
            target,
        ]

    def run(self, *options: str, target: str = TARGET) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(*options, target=target), capture_output=True, text=True)

    def planned(self, target: str = TARGET) -> dict[str, list[str]]:
        """Log files of the jobs that would run, by verb; a job's log is named like its output."""
        done = self.run("--dry-run", "--printshellcmds", target=target)
        text = done.stdout + done.stderr
        assert done.returncode == 0, text
        jobs: dict[str, list[str]] = {}
        for log, verb in re.findall(r"geoladder --log (\S+) ([a-z-]+)", text):
            jobs.setdefault(verb, []).append(log)
        assert jobs or "Nothing to be done" in text, text
        return jobs


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A folder in which studies/ci.yaml has run to the figure, once for all processes that share the tests."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.getenv("PYTEST_XDIST_WORKER") else base) / "finished"
    with FileLock(f"{folder}.lock"):
        if not (folder / TARGET).exists():
            folder.mkdir(exist_ok=True)
            project = Project(folder, yaml.safe_load((ROOT / "studies/ci.yaml").read_text()))
            project.write()
            done = project.run()
            assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A copy of the finished study, free to be edited."""
    folder = tmp_path / "study"
    shutil.copytree(finished, folder, symlinks=True, copy_function=shutil.copy2)
    study = yaml.safe_load((ROOT / "studies/ci.yaml").read_text())
    made = Project(folder, copy.deepcopy(study))
    made.write()
    return made


@pytest.fixture
def fresh(tmp_path) -> Project:
    """The smallest study in a folder where nothing has run, free to be edited."""
    folder = tmp_path / "fresh"
    folder.mkdir()
    return Project(folder, yaml.safe_load((ROOT / "studies/ci.yaml").read_text()))
