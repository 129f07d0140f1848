import json
import os
import platform
import signal
import subprocess
import sys
import time

import pytest

from geoladder.errors import GeoladderError
from geoladder.runs import lock as locks
from geoladder.runs.lock import only_job


def owned_by(folder, **changes):
    folder.mkdir(exist_ok=True)
    process = os.getpid()
    owner = {"host": platform.node(), "process": process, "started": locks._started(process)}
    (folder / "lock").write_text(json.dumps(owner | changes))
    return folder / "lock"


@pytest.fixture
def dead_process():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_S", 0.3)


def test_a_lock_names_its_owner_and_goes(tmp_path):
    with only_job(tmp_path / "run"):
        owner = json.loads((tmp_path / "run/lock").read_text())
        assert (owner["host"], owner["process"]) == (platform.node(), os.getpid())
    assert not (tmp_path / "run/lock").exists()


def test_it_goes_when_the_job_fails(tmp_path):
    with pytest.raises(ValueError, match="oops"), only_job(tmp_path):
        raise ValueError("oops")
    assert not (tmp_path / "lock").exists()


def test_a_living_owner_keeps_it(tmp_path):
    lock = owned_by(tmp_path)
    with pytest.raises(GeoladderError, match=f"{os.getpid()}.*delete"), only_job(tmp_path):
        pass
    assert lock.exists()


def test_a_job_that_ends_meanwhile_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_S", 30.0)
    lock = owned_by(tmp_path)
    monkeypatch.setattr(locks.time, "sleep", lambda _: lock.unlink(missing_ok=True))
    with only_job(tmp_path):
        pass


def test_a_folder_that_goes_at_the_last_moment_is_made_again(tmp_path, monkeypatch):
    """The job before removes its folder, when done, between our making sure of it and our writing into it."""
    folder, true_open = tmp_path / "run", os.open

    def late(path, *arguments):
        monkeypatch.setattr(locks.os, "open", true_open)
        folder.rmdir()
        return true_open(path, *arguments)

    monkeypatch.setattr(locks.os, "open", late)
    with only_job(folder):
        assert (folder / "lock").exists()


def test_a_dead_owner_loses_it(tmp_path, dead_process):
    owned_by(tmp_path, process=dead_process)
    with only_job(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_later_process_of_the_same_number_is_not_the_owner(tmp_path):
    if locks._started(os.getpid()) is None:
        pytest.skip("no /proc here")
    owned_by(tmp_path, started="1")
    with only_job(tmp_path):
        pass


def test_a_process_that_ended_but_was_not_waited_for_is_not_the_owner(tmp_path):
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = locks._started(sleeper.pid)
    if started is None:
        pytest.skip("no /proc here")
    owned_by(tmp_path, process=sleeper.pid, started=started)
    assert locks._is_alive(tmp_path / "lock", (tmp_path / "lock").read_text())
    os.kill(sleeper.pid, signal.SIGKILL)
    while locks._started(sleeper.pid) is not None:
        time.sleep(0.01)
    with only_job(tmp_path):
        pass
    sleeper.communicate()


@pytest.mark.parametrize(("age_s", "alive"), [(10, True), (3600, False)])
def test_on_another_machine_the_time_stamp_tells(tmp_path, age_s, alive):
    lock = owned_by(tmp_path, host="elsewhere")
    then = lock.stat().st_mtime - age_s
    os.utime(lock, (then, then))
    if alive:
        with pytest.raises(GeoladderError, match="elsewhere"), only_job(tmp_path):
            pass
    else:
        with only_job(tmp_path):
            pass


def test_an_empty_lock_counts_as_being_written_until_it_is_old(tmp_path):
    (tmp_path / "lock").write_text("")
    with pytest.raises(GeoladderError), only_job(tmp_path):
        pass
    os.utime(tmp_path / "lock", (0, 0))
    with only_job(tmp_path):
        pass


def test_of_two_jobs_that_find_the_same_dead_lock_the_second_leaves_the_first_alone(tmp_path, dead_process):
    path = owned_by(tmp_path, process=dead_process)
    found = path.read_text()
    path.unlink()
    mine = owned_by(tmp_path).read_text()  # the first job was quicker
    locks._remove(path, found)
    assert path.read_text() == mine
    assert list(tmp_path.iterdir()) == [path]


def test_renewing_moves_the_time_stamp(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "RENEW_S", 0.0)
    with only_job(tmp_path) as lock:
        os.utime(tmp_path / "lock", (0, 0))
        lock.renew()
        assert (tmp_path / "lock").stat().st_mtime > 1e9


def test_a_job_whose_lock_was_taken_over_stops_and_leaves_it(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "RENEW_S", 0.0)
    with pytest.raises(GeoladderError, match="took over"), only_job(tmp_path) as lock:
        owned_by(tmp_path, host="elsewhere")
        lock.renew()
    assert "elsewhere" in (tmp_path / "lock").read_text()
