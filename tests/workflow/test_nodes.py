"""A cell on several machines: the rule's own command, with an srun that starts its tasks on this machine."""

import json
import os
import shutil

import pytest

CELL = "results/pretrain/majortom/vit_upernet-xs/seed0"
SRUN = """#!/usr/bin/env bash
# Starts the command that follows the options as often as --ntasks says, and fails if one of them does.
while [[ $1 == --* ]]; do
    [[ $1 == --ntasks=* ]] && tasks=${1#*=}
    shift
done
for ((task = 0; task < tasks; task++)); do
    "$@" &
    ranks[task]=$!
done
for rank in "${ranks[@]}"; do wait "$rank" || failed=1; done
exit ${failed:-0}
"""


@pytest.fixture
def two_machines(project):
    project.study["compute"] = {"devices": 2, "nodes": 2}
    project.write()
    shutil.rmtree(project.folder / CELL)
    return project


@pytest.mark.slow
def test_a_cell_on_two_machines_is_the_cell(two_machines, finished, tmp_path, monkeypatch):
    srun = tmp_path / "srun"
    srun.write_text(SRUN)
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", str(os.getpid()))
    done = two_machines.run("--printshellcmds", target=f"{CELL}/metrics.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "torchrun --nnodes=2 --nproc-per-node=1" in done.stdout + done.stderr
    here, there = (
        json.loads((folder / CELL / "metrics.json").read_text())["metrics"]
        for folder in (two_machines.folder, finished)
    )
    assert here["val_loss"] == pytest.approx(there["val_loss"], rel=1e-5)
    log = (two_machines.folder / "logs/pretrain/majortom/vit_upernet-xs/seed0.log").read_text()
    assert "ddp" in log and log.count("training on") == 1


@pytest.mark.skipif(shutil.which("srun") is not None, reason="this machine belongs to a cluster")
def test_without_a_cluster_it_says_so(two_machines):
    done = two_machines.run(target=f"{CELL}/metrics.json")
    assert done.returncode == 1
    assert "compute.nodes is 2, but there is no srun" in done.stdout + done.stderr
