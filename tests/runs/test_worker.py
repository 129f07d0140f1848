"""The worker is tested as a process, with verbs that need no data."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

GEOLADDER = [sys.executable, "-m", "geoladder"]


@pytest.fixture
def worker(tmp_path):
    socket = tmp_path / "worker"
    process = subprocess.Popen([*GEOLADDER, "serve-jobs", str(socket)], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not socket.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    yield process, {**os.environ, "GEOLADDER_WORKER": str(socket)}
    process.kill()
    process.wait()


def test_a_job_runs_in_the_callers_folder_and_answers_with_its_status(worker, tmp_path):
    _, environment = worker
    done = subprocess.run(
        [*GEOLADDER, "bench-index", "--bench", "no-such-folder", "--out", "index.parquet"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "no-such-folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_command_has_status_2(worker, tmp_path):
    _, environment = worker
    done = subprocess.run(
        [*GEOLADDER, "stats", "--chips", "x"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2


def test_without_a_worker_the_job_runs_in_its_own_process(tmp_path):
    environment = {**os.environ, "GEOLADDER_WORKER": str(tmp_path / "gone")}
    done = subprocess.run(
        [*GEOLADDER, "bench-index", "--bench", "no-such-folder", "--out", "index.parquet"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "no-such-folder" in done.stderr


def test_the_worker_leaves_when_its_parent_does(worker):
    process, environment = worker
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert not Path(environment["GEOLADDER_WORKER"]).exists()
