"""The worker is tested as a process, with verbs that need no data."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from geoladder.runs.worker import STARTED, remove_socket

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


REFUSED = [*GEOLADDER, "bench-index", "--bench", "no-such-folder", "--out", "index.parquet"]


def refused(environment, folder):
    done = subprocess.run(REFUSED, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1 and "no-such-folder" in done.stderr and "Traceback" not in done.stderr
    return done.stderr


def test_jobs_after_a_killed_worker_run_by_themselves_and_one_says_so(worker, tmp_path):
    process, environment = worker
    process.kill()
    process.wait()
    assert Path(environment["GEOLADDER_WORKER"]).exists()
    assert "is gone" in refused(environment, tmp_path)
    assert "is gone" not in refused(environment, tmp_path)


def test_a_job_that_waits_for_a_worker_that_dies_runs_by_itself(tmp_path):
    """The worker takes the call, and is killed before a child begins."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "w"))
        listener.listen()
        job = subprocess.Popen(
            REFUSED,
            env=os.environ | {"GEOLADDER_WORKER": str(tmp_path / "w")},
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        listener.accept()[0].close()
        _, said = job.communicate()
    assert job.returncode == 1 and "is gone" in said and "no-such-folder" in said


def test_a_killed_child_is_named_by_its_verb(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "w"))
        listener.listen()
        job = subprocess.Popen(
            [*GEOLADDER, "--log", "x.log", *REFUSED[3:]],
            env=os.environ | {"GEOLADDER_WORKER": str(tmp_path / "w")},
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = listener.accept()
        connection.makefile("rb").readline()  # the child has taken the job
        connection.sendall(STARTED)
        connection.close()
        _, said = job.communicate()
    assert job.returncode == 1 and said.startswith("geoladder bench-index: the job was killed")


SESSION = """
import sys
from pathlib import Path
from geoladder.runs.session import start_worker
print(start_worker(Path(sys.argv[1])), flush=True)
input()
"""


@pytest.mark.parametrize(
    "end",
    ["long path", *(pytest.param(end, marks=pytest.mark.slow) for end in ("leave", "kill", "kill both"))],
)
def test_a_session_leaves_nothing_in_the_temporary_folder(tmp_path, end):
    temporary = tmp_path / ("x" * 120 if end == "long path" else "tmp")
    temporary.mkdir()
    session = subprocess.Popen(
        [sys.executable, "-c", SESSION, str(tmp_path)],
        env=os.environ | {"TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert session.stdout.readline() == "True\n"
    socket_file = Path((tmp_path / "worker").read_text())
    assert len(str(socket_file)) < 100
    (worker,) = psutil.Process(session.pid).children()
    if end == "kill both":
        worker.kill()
    if "kill" in end:
        session.kill()
    session.communicate("\n")
    worker.wait(300)
    if end == "kill both":
        assert socket_file.parent.exists()
        start_again = subprocess.run(
            [sys.executable, "-c", SESSION, str(tmp_path)],
            env=os.environ | {"TMPDIR": str(temporary)},
            input="\n",
            capture_output=True,
            text=True,
        )
        assert start_again.returncode == 0
    deadline = time.monotonic() + 300
    while (socket_file.parent.exists() or list(temporary.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not socket_file.parent.exists() and not list(temporary.iterdir())


def test_only_sockets_and_their_own_empty_folders_are_removed(tmp_path):
    folder = tmp_path / "geoladder-thesis"
    folder.mkdir()
    (folder / "worker").write_text("text")
    remove_socket(folder / "worker")
    assert (folder / "worker").read_text() == "text"
