import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import filelock
import pytest

from geoladder.errors import GeoladderError
from geoladder.runs import atomic as locks
from geoladder.runs.atomic import check_held, only_job

HOLD = """
import sys
from pathlib import Path
from geoladder.runs import atomic as lock
lock.LEASE_S = float(sys.argv[2])
with lock.only_job(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


@contextmanager
def other_job(folder):
    """A process that holds the lock until it is killed or its input ends."""
    command = [sys.executable, "-c", HOLD, str(folder), str(locks.LEASE_S)]
    job = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "held\n"
    yield job
    job.kill()
    job.communicate()


def said_by(folder):
    return dict(re.findall(r"^(\w+)=(.*)$", (folder / "lock").read_text(), re.MULTILINE))


def rewrite(folder, **changes):
    """Change what a lock that nobody renews says of its owner."""
    path = folder / "lock"
    text = path.read_text()
    for key, value in changes.items():
        text = re.sub(rf"^{key}=.*$", f"{key}={value}", text, flags=re.MULTILINE)
    path.write_text(text)


@pytest.fixture
def dead(tmp_path):
    """Folder with the lock of a job that was killed."""
    with other_job(tmp_path) as job:
        job.kill()
        job.wait()
    return tmp_path


@pytest.fixture(autouse=True)
def short_lease(monkeypatch):
    monkeypatch.setattr(locks, "LEASE_S", 1.0)


def test_a_lock_names_its_owner_and_goes(tmp_path):
    with only_job(tmp_path / "run"):
        assert said_by(tmp_path / "run")["pid"] == str(os.getpid())
        assert said_by(tmp_path / "run")["host"]
    assert not (tmp_path / "run/lock").exists()


def test_it_goes_when_the_job_fails(tmp_path):
    with pytest.raises(ValueError, match="oops"), only_job(tmp_path):
        raise ValueError("oops")
    assert not (tmp_path / "lock").exists()


def test_a_living_owner_keeps_it_by_renewing_and_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_S", 3.0)
    with other_job(tmp_path) as job:
        with pytest.raises(GeoladderError, match=f"process {job.pid} on .*delete"), only_job(tmp_path):
            pass
        assert said_by(tmp_path)["pid"] == str(job.pid)


def test_a_job_that_ends_meanwhile_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_S", 30.0)
    with other_job(tmp_path) as job:
        sleep = time.sleep
        monkeypatch.setattr(time, "sleep", lambda s: (job.stdin.close(), sleep(s)))
        with only_job(tmp_path):
            assert said_by(tmp_path)["pid"] == str(os.getpid())
        monkeypatch.undo()
        job.stdin = None


def test_a_folder_that_goes_at_the_last_moment_is_made_again(tmp_path, monkeypatch):
    """The job before removes its folder, when done, between our making sure of it and our writing into it."""
    folder, true_open = tmp_path / "run", os.open

    def late(path, *arguments):
        monkeypatch.setattr(os, "open", true_open)
        folder.rmdir()
        return true_open(path, *arguments)

    monkeypatch.setattr(os, "open", late)
    with only_job(folder):
        assert (folder / "lock").exists()


def test_a_dead_owner_loses_it_at_once(dead, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_S", 3600.0)
    rewrite(dead, duration=3600.0)
    with only_job(dead):
        assert said_by(dead)["pid"] == str(os.getpid())
    assert list(dead.iterdir()) == []


def test_a_later_process_of_the_same_number_is_not_the_owner(dead):
    if "start" not in said_by(dead):
        pytest.skip("filelock cannot tell when a process began here")
    rewrite(dead, pid=os.getpid())
    with only_job(dead):
        pass


def test_a_process_that_ended_but_was_not_waited_for_is_not_the_owner(tmp_path):
    with other_job(tmp_path) as job:
        os.kill(job.pid, signal.SIGKILL)
        with only_job(tmp_path):
            assert said_by(tmp_path)["pid"] == str(os.getpid())


def test_an_owner_on_another_machine_keeps_it_while_its_lock_is_renewed(dead, monkeypatch):
    rewrite(dead, host="elsewhere")
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda s: (os.utime(dead / "lock"), sleep(s)))
    with pytest.raises(GeoladderError, match="elsewhere"), only_job(dead):
        pass
    monkeypatch.undo()


def test_an_owner_on_another_machine_that_does_not_renew_it_loses_it(dead):
    rewrite(dead, host="elsewhere")
    with only_job(dead):
        assert said_by(dead)["pid"] == str(os.getpid())


def test_a_dead_owner_loses_it_on_file_systems_that_cannot_exchange_names(dead, monkeypatch):
    monkeypatch.setattr(filelock._soft, "exchange_names", lambda *_: False)
    with only_job(dead):
        assert said_by(dead)["pid"] == str(os.getpid())
    assert list(dead.iterdir()) == []


def test_an_empty_lock_counts_as_being_written_until_nobody_does(tmp_path):
    (tmp_path / "lock").write_text("")
    start = time.monotonic()
    with only_job(tmp_path):
        assert time.monotonic() - start > locks.LEASE_S


def test_renewing_moves_the_time_stamp(tmp_path):
    with only_job(tmp_path) as lease:
        os.utime(tmp_path / "lock", (0, 0))
        while (tmp_path / "lock").stat().st_mtime < 1e9:
            time.sleep(0.05)
        check_held(lease)


def test_a_job_whose_lock_was_taken_over_stops_and_leaves_it(tmp_path):
    with pytest.raises(GeoladderError, match="took over"), only_job(tmp_path) as lease:
        (tmp_path / "lock").unlink()
        with other_job(tmp_path):
            while lease.compromise is None:
                time.sleep(0.05)
        check_held(lease)
    assert said_by(tmp_path)["pid"] != str(os.getpid())
