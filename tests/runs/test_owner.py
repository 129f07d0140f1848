"""Who owns a project's folder is judged by real processes."""

import json
import os
import platform
import signal
import subprocess
import sys

import psutil
import pytest

from geoladder.errors import GeoladderError
from geoladder.runs.owner import Owner, claim, forget_owner, is_left_behind

CLAIM = """
import sys
from pathlib import Path
from geoladder.runs.owner import claim
claim(Path(sys.argv[1]))
print("claimed", flush=True)
input()
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state/owner"


@pytest.fixture
def other(file):
    """A process that owns the folder until its input ends."""
    run = subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout.readline() == "claimed\n"
    yield run
    run.kill()
    run.communicate()


def test_an_owner_is_named_by_host_number_and_start_and_leaves_with_its_process(file, other):
    owner = Owner.read(file)
    assert owner == (platform.node(), other.pid, psutil.Process(other.pid).create_time())
    assert owner.lives and not is_left_behind(file)
    other.communicate("\n")
    assert not file.exists()


def test_a_folder_with_a_living_owner_is_refused(file, other):
    before = file.read_text()
    with pytest.raises(GeoladderError, match=rf"process {other.pid} runs a study.*--directory"):
        claim(file)
    assert file.read_text() == before


def test_a_killed_owner_and_its_locks_are_forgotten(file, other, tmp_path):
    locks = tmp_path / "locks"
    locks.mkdir()
    (locks / "0.input.lock").touch()
    os.kill(other.pid, signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert is_left_behind(file)  # nobody has waited for it yet
    forget_owner(file, locks)
    assert not file.exists() and not list(locks.iterdir())
    claim(file)
    assert Owner.read(file).pid == os.getpid()


def test_a_later_process_of_the_same_number_is_not_the_owner(file):
    file.parent.mkdir()
    here = Owner.this_process()
    file.write_text(json.dumps(here._asdict()))
    assert not is_left_behind(file)
    file.write_text(json.dumps(here._replace(started_s=here.started_s - 60)._asdict()))
    assert is_left_behind(file)


def test_a_process_that_the_system_hides_is_not_known_to_be_gone(file, other, monkeypatch):
    """Clusters mount /proc so that it shows nobody the processes of other users."""

    def hidden(pid):
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(psutil, "Process", hidden)
    assert Owner.read(file).lives is None and not is_left_behind(file)
    other.kill()
    other.wait()
    assert is_left_behind(file)


@pytest.mark.parametrize(
    "text",
    ["", "one", "host 123", "[]", "null", "{}", '{"host": 1, "pid": "x", "started_s": null}', "\0\0"]
    + [json.dumps({"host": platform.node(), "pid": pid, "started_s": 0}) for pid in (0, -1, 2**70)],
)
def test_garbage_names_nobody(file, text):
    """It neither frees locks that may be somebody's, nor stops the next run."""
    file.parent.mkdir()
    file.write_text(text)
    assert not is_left_behind(file)
    claim(file)
    assert Owner.read(file).pid == os.getpid()


def test_binary_garbage_and_an_owner_elsewhere_name_nobody_who_is_known_to_be_gone(file):
    file.parent.mkdir()
    file.write_bytes(b"\xff\xfe\x00")
    assert not is_left_behind(file)
    file.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started_s": 0.0}))
    assert not is_left_behind(file)
