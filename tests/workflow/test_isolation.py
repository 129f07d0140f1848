"""Studies of one folder: none breaks another, running, refused or only looked at; and paths of any name."""

import copy
import json
import platform
import re
import shlex
import shutil
import subprocess
import time

import pytest
import yaml

CELL = "results/pretrain/majortom/unet-xs/seed0/metrics.json"
INDEX = "data/majortom/index.parquet"
NASTY = """it's "a" $(touch pwned) {x} <y> ; & ü"""


def beside(project, name, **changes):
    """Another study in the project's folder, as a file of its own."""
    other = copy.copy(project)
    other.study = copy.deepcopy(project.study) | changes
    other.file = name
    (project.folder / name).write_text(yaml.safe_dump(other.study))
    other.command = lambda *options, target: [
        word.replace("study.yaml", name) for word in project.command(*options, target=target)
    ]
    return other


def other_earth(project):
    study = copy.deepcopy(project.study["corpora"])
    study["majortom"]["seed"] = 9
    return {"corpora": study}


def files(folder, *parts):
    return {
        path: path.stat().st_mtime_ns
        for part in parts
        for path in (folder / part).rglob("*")
        if path.is_file()
    }


def test_a_dry_run_writes_nothing(fresh):
    fresh.write()
    fresh.planned()
    assert {path.name for path in fresh.folder.iterdir()} == {"study.yaml", ".snakemake"}
    assert not (fresh.folder / ".snakemake/geoladder").exists()  # all else in there is Snakemake's own


def test_another_study_does_not_overwrite_data_of_the_same_name(project):
    before = files(project.folder, "data", "results", ".snakemake/geoladder")
    done = beside(project, "other.yaml", **other_earth(project)).run(target=INDEX)
    assert done.returncode == 1
    assert re.search(
        r"other.yaml would overwrite data/majortom/.*made by the study study.yaml.*--directory",
        done.stderr,
        re.DOTALL,
    )
    assert files(project.folder, "data", "results", ".snakemake/geoladder") == before
    assert project.planned() == {}


def test_a_study_with_results_of_its_own_shares_the_data(project):
    pretrain = project.study["pretrain"] | {"samples": 128}
    other = beside(project, "other.yaml", results="results/other", pretrain=pretrain)
    planned = other.planned("results/other/figures/scaling.pdf")
    assert not {"make-archive", "make-bench", "bench-index", "index", "chips", "stats"} & set(planned)
    assert "logs/other/pretrain/majortom/unet-xs/seed0.log" in planned["pretrain"]


@pytest.mark.slow
def test_results_of_its_own_are_collected_beside_the_others(project):
    other = beside(project, "other.yaml", results="results/other", linear=None, gates=None)
    before = files(project.folder, "data") | {
        path: stamp for path, stamp in files(project.folder, "results").items() if path.name != "worker.log"
    }
    done = other.run(target="results/other/figures/scaling.pdf")
    assert done.returncode == 0, done.stdout + done.stderr
    ledger = json.loads((project.folder / "results/other/ledger.json").read_text())
    assert all(file.startswith("results/other/") for file in ledger)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert project.planned() == {}


def test_the_locks_of_a_dead_run_are_removed_by_the_next_one_and_by_no_dry_one(project):
    lock = project.folder / ".snakemake/locks/0.output.lock"
    owner = project.folder / ".snakemake/geoladder/owner"
    target = "results/figures/scaling.csv"
    (project.folder / target).unlink()
    lock.parent.mkdir(exist_ok=True)
    owner.write_text(json.dumps({"host": platform.node(), "pid": 2**22 + 1, "started_s": 1.0}))
    lock.write_text(f"{target}\n")
    assert set(project.planned(target)) == {"figure-scaling"}
    assert lock.exists() and owner.exists()
    done = project.run(target=target)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not lock.exists() and not owner.exists()


@pytest.mark.slow
def test_a_run_outlives_another_study_that_is_looked_at_and_refused(project):
    project.study["pretrain"] |= {"samples": 1600}
    project.write()
    other = beside(project, "other.yaml", finetune=project.study["finetune"] | {"n": [1]})
    with subprocess.Popen(
        project.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        deadline = time.monotonic() + 120
        while not list((project.folder / ".snakemake/locks").glob("*.lock")):
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        other.planned()
        refused = other.run(target="results/figures/scaling.pdf")
        assert refused.returncode == 1 and "Lock" in refused.stderr
        said, _ = run.communicate()
    assert run.returncode == 0, said
    assert project.planned() == {}


def test_a_path_of_any_name_is_one_word_of_a_command(project):
    archive = project.folder / NASTY / "archive"
    archive.parent.mkdir()
    shutil.move(project.folder / "data/majortom/archive", archive)
    project.study["corpora"]["majortom"] = {"source": "majortom", "path": str(archive)}
    project.write()
    done = project.run("--printshellcmds", target=INDEX)
    assert done.returncode == 0, done.stdout + done.stderr
    command = re.search(r"geoladder --log \S+ index .*?index\.parquet[^\n]*", done.stderr, re.DOTALL)[0]
    assert str(archive) in shlex.split(command)
    assert not list(project.folder.rglob("pwned"))
